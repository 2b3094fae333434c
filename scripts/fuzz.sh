#!/usr/bin/env bash
# Runs fuzz targets: fuzz.sh SECONDS TARGET... What they find lands in fuzz/artifacts, what they learn in fuzz/corpus.
# The target's own stderr is closed, since the tracker says a line for every join: to see why an input fails, run
# `cargo +nightly fuzz run TARGET fuzz/artifacts/TARGET/...`, as the message says.
set -euo pipefail
cd "$(dirname "$0")/.."
time=$1
shift
command -v cargo-fuzz >/dev/null || {
	echo 'cargo-fuzz is missing: cargo install cargo-fuzz' >&2
	exit 1
}
cargo +nightly --version >/dev/null || {
	echo 'a nightly compiler is missing: rustup toolchain install nightly' >&2
	exit 1
}
for target in "$@"; do
	mkdir -p "fuzz/corpus/$target"
	echo "== $target, $time s"
	# What a socket takes at once is the longest that a target makes something of.
	cargo +nightly fuzz run "$target" "fuzz/corpus/$target" "fuzz/seeds/$target" -- \
		-max_total_time="$time" -max_len=20000 -timeout=20 -rss_limit_mb=4096 -print_final_stats=1 -close_fd_mask=2
done
