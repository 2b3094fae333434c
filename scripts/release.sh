#!/bin/sh
# Builds dist/<target>/{tracker,peer}: static, stripped, each from its own features alone, so that
# neither carries code of the other. Prints their sizes and fails when one is not static.
# usage: [TRACKER_FEATURES=tracker] release.sh TARGET...
set -eu
cd "$(dirname "$0")/.."

# Says whether a C compiler can build for a target: a bare compiler without headers cannot.
compiles() {
	command -v "$1" >/dev/null && echo '#include <stdint.h>' | "$1" -xc -c -o /dev/null - 2>/dev/null
}

# BLAKE3 at full speed is C and assembly, and for musl it falls back to less without a word unless
# it is told which compiler to take. No C library is linked, so the ordinary gcc does.
compiler_for() { # TARGET
	arch=${1%%-*}
	for compiler in $([ "$arch" = "$(uname -m)" ] && echo gcc cc) "$arch-linux-gnu-gcc" "$arch-linux-musl-gcc"; do
		compiles "$compiler" && echo "$compiler" && return
	done
	true # None is an answer too.
}

# Says whether an ELF binary asks for a loader (PT_INTERP, type 3): the program headers tell, and od
# is everywhere. What asks for none can load no library either.
wants_loader() { # FILE
	number() { od -An -v "-tu$3" -j "$2" -N "$3" "$1" | tr -d ' '; }
	at=$(number "$1" 32 8) step=$(number "$1" 54 2) count=$(number "$1" 56 2)
	while [ "$count" -gt 0 ]; do
		[ "$(number "$1" "$at" 4)" = 3 ] && return 0
		at=$((at + step)) count=$((count - 1))
	done
	return 1
}

build() { # TARGET
	target=$1
	upper=$(echo "$target" | tr 'a-z-' 'A-Z_')
	compiler=$(compiler_for "$target")
	if [ -n "$compiler" ]; then
		export "CC_$(echo "$target" | tr - _)=$compiler"
	else
		echo "$target: no C compiler for it (Debian: gcc-$(echo "${target%%-*}" | tr _ -)-linux-gnu and its libc6-dev): hashing in Rust, slower; TLS by graviola, 1 MB larger"
	fi
	# Another machine's code is not for the host's linker; the one that comes with Rust links any.
	[ "${target%%-*}" = "$(uname -m)" ] || export "CARGO_TARGET_${upper}_LINKER=rust-lld"
	for binary in tracker peer; do
		# Cargo.toml says why the peer has a profile of its own.
		profile=small features=peer,console,tls
		[ "$binary" = peer ] || profile=release features=${TRACKER_FEATURES:-tracker,health,reflection,etcd,tls}
		[ -n "$compiler" ] || features=$(echo "$features" | sed 's/\<tls\>/pure-tls/'),pure-rust
		# LLVM puts functions of up to 225 (by its own measure) into each place that calls them. With that, and packages
		# that are not small, an idle tracker is 0.5 MB larger in memory, and no faster (`make size`, `make bench-comeback`).
		flags=${RUSTFLAGS:-}
		[ "$binary" = peer ] || flags="$flags -C llvm-args=-inline-threshold=30"
		RUSTFLAGS=$flags cargo build --profile "$profile" ${quiet:+"$quiet"} --target "$target" --bin "$binary" \
			--no-default-features --features "$features"
		install -D -m 755 "target/$target/$profile/$binary" "dist/$target/$binary"
		if wants_loader "dist/$target/$binary"; then
			echo "dist/$target/$binary is not static" >&2
			exit 1
		fi
	done
}

# A terminal shows progress; a log need not.
quiet=$([ -t 2 ] || echo --quiet)
scripts/have-component.sh --target "$@"
for target; do
	echo "building for $target"
	build "$target"
done
for target; do
	for binary in tracker peer; do
		file=dist/$target/$binary
		wc -c <"$file" | awk -v file="$file" '{ printf "%-45s %5.2f MB, static\n", file, $1 / 1e6 }'
	done
done
