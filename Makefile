# Enjambre. `make` alone lists what there is.
#
# Recipes are one or two lines; whatever needs more is a script in scripts/ that runs without make too.

# rustup's cargo is found even where the login shell has not been told about it yet.
export PATH := $(PATH):$(HOME)/.cargo/bin

# What `make release` builds; `make release TARGETS=aarch64-unknown-linux-musl` builds one.
TARGETS = x86_64-unknown-linux-musl aarch64-unknown-linux-musl

# What `make size` and all that begins with `make bench` measure: the binaries for this very machine, as users get them.
NATIVE = $(shell uname -m)-unknown-linux-musl

# How many seconds `make fuzz` gives each of these.
TIME = 60
TARGET = names ranges pieces news index requests registry

# What settles all chance in `make simulate`, and in `make soak` where it is given.
SEED = 1

# How long `make soak` takes.
MINUTES = 2

.PHONY: help demo test screenshots release deploy size bench bench-registry bench-versions bench-swarm bench-locate bench-store
.PHONY: bench-tls
.PHONY: bench-attacks bench-comeback simulate soak check fuzz clean tools

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s  %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: tools ## a tracker and three peers on this machine, from first upload to last leave
	@cargo build --bins
	@scripts/demo.sh

test: tools ## all tests
	cargo test

screenshots: tools ## the pictures of the page in docs/ (needs chromium and chromedriver)
	cargo test --quiet --test page screenshots -- --ignored

release: tools ## static binaries for x86-64 and aarch64, in dist/
	@scripts/release.sh $(TARGETS)

deploy: ## what `make release` made, with units, to HOSTS="a b c" and TRACKER=host by ssh; DRY_RUN=1 only says what it would do
	@scripts/deploy.sh $(if $(DRY_RUN),--dry-run)

size: tools ## what the binaries weigh, on disk and in memory, against their limits
	@scripts/release.sh $(NATIVE)
	@TEST_BINARIES=dist/$(NATIVE) cargo bench --quiet --profile dev --bench footprint

bench: tools ## throughput, CPU and memory, next to nginx and curl (about six minutes, 5 GB of disk, 5 GiB of memory)
	@scripts/release.sh $(NATIVE)
	@TEST_BINARIES=dist/$(NATIVE) cargo bench --quiet --no-fail-fast --profile dev --bench transfer --bench limits --bench many
	@$(MAKE) --no-print-directory bench-registry

bench-registry: tools ## ten million files in the tracker's registry, next to plocate (half a minute, 400 MB of memory)
	@CC_$(subst -,_,$(NATIVE))=$${CC:-gcc} cargo bench --quiet --target $(NATIVE) --no-default-features --features tracker --bench registry

bench-versions: tools ## a get of 2 GiB next to another version's, whose binaries are in OTHER=folder (half a minute, 5 GiB of memory)
	@scripts/release.sh $(NATIVE)
	@OTHER="$(abspath $(OTHER))" TEST_BINARIES=dist/$(NATIVE) cargo bench --quiet --profile dev --bench versions

bench-swarm: tools ## one file to a crowd, next to aria2 (about ten minutes; ONLY=flash-4 for one of one minute)
	@scripts/release.sh $(NATIVE)
	@TEST_BINARIES=dist/$(NATIVE) cargo bench --quiet --profile dev --bench swarm -- $(ONLY)

bench-locate: tools ## what an answer and a renewal cost among 1 and among 10,000 (half a minute)
	@cargo bench --quiet --bench locate

bench-comeback: tools ## 10,000 peers: they come back to a killed tracker, stay, and leave (four minutes, 3 GiB of memory; PEERS=1000 for fewer)
	@scripts/release.sh $(NATIVE)
	@TEST_BINARIES=dist/$(NATIVE) cargo bench --quiet --bench comeback

bench-store: tools ## three trackers on etcd and 300 peers, one tracker killed, etcd stopped (about four minutes; needs etcd)
	@scripts/release.sh $(NATIVE)
	@TEST_BINARIES=dist/$(NATIVE) cargo bench --quiet --profile dev --bench store

bench-attacks: tools ## every attack on one peer, and how somebody else is served meanwhile (one minute)
	@scripts/release.sh $(NATIVE)
	@TEST_BINARIES=dist/$(NATIVE) cargo bench --quiet --profile dev --bench attacks

bench-tls: tools ## a get under TLS next to a plain one, all of it on one core (a minute, 4 GiB of memory)
	@scripts/release.sh $(NATIVE)
	@TEST_BINARIES=dist/$(NATIVE) cargo bench --quiet --profile dev --bench tls

simulate: tools ## thousands of peers under a virtual clock; SEED=2 for another chance, CROWD=100,512,1 for one crowd (about two minutes)
	@cargo bench --quiet --bench simulate -- --seed $(SEED) $(if $(CROWD),--crowd $(CROWD))

soak: tools ## 20 peers and a tracker that are disturbed in every way, for MINUTES=2; SEED=7 for a chance met before
	@scripts/release.sh $(NATIVE)
	@TEST_BINARIES=dist/$(NATIVE) cargo bench --quiet --profile dev --bench soak -- --minutes $(MINUTES) --seed "$(if $(filter file,$(origin SEED)),,$(SEED))"

check: tools ## formatting and lints, as CI wants them, and the tests of a minimal tracker
	@scripts/have-component.sh rustfmt clippy
	cargo fmt --check
	cargo clippy --all-targets -- -D warnings
	cargo clippy --lib --bin tracker --no-default-features --features tracker,health,reflection -- -D warnings
	cargo clippy --lib --bin tracker --no-default-features --features tracker -- -D warnings
	cargo clippy --lib --bin tracker --no-default-features --features etcd -- -D warnings
	cargo test --quiet --lib --no-default-features --features tracker
	cargo test --quiet --test tracker --test operations --no-default-features --features tracker,peer
	cargo clippy --lib --bin peer --no-default-features --features peer -- -D warnings
	cargo clippy --lib --bins --no-default-features --features tracker,peer,pure-tls -- -D warnings

fuzz: tools ## what reads strangers' bytes, with cargo-fuzz and a nightly compiler (TARGET=names for one, TIME=600 for ten minutes each)
	@scripts/fuzz.sh $(TIME) $(TARGET)

clean: ## remove what was built
	rm -rf target dist

tools:
	@command -v cargo >/dev/null || { echo 'cargo is missing: install it with https://rustup.rs' >&2; exit 1; }
	@command -v cc >/dev/null || { echo 'a C compiler is missing (Rust links with it): install gcc, for one' >&2; exit 1; }
