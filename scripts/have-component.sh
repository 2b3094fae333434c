#!/bin/sh
# Installs parts of the Rust toolchain that are not there, or says in one line what is missing.
# usage: have-component.sh COMPONENT...          as rustfmt, clippy
#        have-component.sh --target TRIPLE...    as aarch64-unknown-linux-musl
set -eu
kind=component
if [ "$1" = --target ]; then
	kind=target
	shift
fi
if ! command -v rustup >/dev/null; then
	if [ "$kind" = target ]; then
		for triple; do
			[ -d "$(rustc --print sysroot)/lib/rustlib/$triple/lib" ] && continue
			echo "the Rust target $triple is missing and there is no rustup to install it (https://rustup.rs)" >&2
			exit 1
		done
	fi
	exit 0
fi
installed=$(rustup "$kind" list --installed)
for name; do
	case "$installed" in *"$name"*) continue ;; esac
	echo "installing the Rust $kind $name"
	rustup --quiet "$kind" add "$name" || {
		echo "the Rust $kind $name is missing and could not be installed: rustup $kind add $name" >&2
		exit 1
	}
done
