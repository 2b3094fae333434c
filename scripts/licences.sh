#!/bin/sh
# Fails when something that goes into the binaries, or builds them, is under terms that were not
# agreed to. `cargo tree` knows them all without any tool beside cargo.
set -eu
cd "$(dirname "$0")/.."

# Each of these may be combined with the MIT licence of this project and be given away in a binary.
agreed='MIT Apache-2.0 BSD-2-Clause BSD-3-Clause ISC Zlib Unicode-3.0 CC0-1.0 Unlicense 0BSD'

# `A OR B` and the older `A/B` are a choice, so one agreed part is enough; `A AND B` needs both.
for target in x86_64-unknown-linux-musl aarch64-unknown-linux-musl; do
	cargo tree --locked --all-features --edges normal,build --target "$target" --prefix none --format '{p}|{l}'
done | sed 's/ (\*)$//' | sort -u |
	awk -F '|' -v agreed="$agreed" '
		BEGIN { split(agreed, list, " "); for (i in list) ok[list[i]] = 1 }
		{
			terms = $2
			gsub(/[()]/, "", terms)
			gsub(/ *\/ */, " OR ", terms)
			sub(/ WITH LLVM-exception/, "", terms)
			both = split(terms, parts, / AND /)
			good = 0
			for (i = 1; i <= both; i++) {
				choices = split(parts[i], choice, / OR /)
				for (j = 1; j <= choices; j++) if (choice[j] in ok) { good++; break }
			}
			count++
			if (good < both || both == 0) { print "not agreed to: " $1 " is under \"" $2 "\""; bad = 1 }
		}
		END { if (!bad) print count " packages, all under agreed licences"; exit bad }'
