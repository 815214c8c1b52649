# demo, test, test-long, bench, bench-edge, release-pgo, package. Every step is one plain command, also listed in README.md.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.PHONY: demo test test-long bench bench-edge release-pgo package fmt clippy tests micro doc deny advisories story live fuzz summary packages

# What a build needs besides Rust, and the server that tests run themselves.
PACKAGES := gcc g++ libc6-dev cmake make pkg-config ca-certificates git libclang-dev redis-server
CARGO_DENY := 0.20.2
export PATH := $(CURDIR)/target/tools/bin:$(PATH)
export CARGO_TERM_COLOR ?= never

## Demo services, an issuer of tokens and the gateway in one process; prints curl lines.
demo: packages
	cargo run --locked --quiet -- demo

## What CI runs.
test: fmt clippy tests micro doc deny advisories story live fuzz summary

fmt:
	cargo fmt --all --check

clippy: packages
	cargo clippy --locked --workspace --all-targets -- -D warnings

# Units, properties, config cases, every YAML of the documents and of conf/, architecture, end to end.
tests: packages
	@mkdir -p target
	cargo test --locked --workspace 2>&1 | tee target/test.log

# Instructions and allocations of the decision path, beside those that are kept.
micro: packages
	bench/micro/run compare

doc: packages
	RUSTDOCFLAGS="-D warnings" cargo doc --locked --no-deps --document-private-items

deny: target/tools/bin/cargo-deny
	cargo deny --locked check bans licenses sources

# The database of advisories lies outside of crates.io. Where it cannot be reached, that is said.
advisories: target/tools/bin/cargo-deny
	@if timeout 120 cargo deny --locked fetch db >target/advisories.log 2>&1; then \
		cargo deny --locked check advisories; \
	else \
		echo "=============================================================================="; \
		echo "ADVISORIES WERE NOT CHECKED: their database cannot be reached from this machine."; \
		sed -n 's/.*fatal: /git says: /p' target/advisories.log; \
		echo "=============================================================================="; \
	fi

story: packages
	cargo run --locked --quiet -- demo --check

# What others' software makes of the gateway, as the story has built it.
live: story target/tools/venv/installed
	target/tools/venv/bin/python tests/live/grpc/run.py target/debug/tollgate

# What strangers send, changed at random for so many seconds a target.
fuzz: packages
	fuzz/run 20

# Once more at the very end, so that the last lines say what was tested.
summary: tests
	@grep -E '^ +(Running|Doc-tests) |^test result: ' target/test.log

## Many more cases of every property; ten minutes of each fuzz target; WebSockets in the numbers of a release; the
## package on a booted Debian; a quick look at others.
test-long: packages target/tools/venv/installed
	bench/edge/run slow giant
	PROPTEST_CASES=20000 cargo test --locked --test prop
	TOLLGATE_LONG=1 cargo test --locked --test e2e tunnel::
	TOLLGATE_LONG=1 cargo test --locked --test e2e rotation:: -- --nocapture --test-threads=1
	TOLLGATE_LONG=1 cargo test --locked --test cli upgrade::
	target/tools/venv/bin/python tests/live/grpc/run.py target/debug/tollgate --calls 10000
	bench/reload/run
	fuzz/run 600
	tests/systemd/run
	BENCH=quick bench/gateways/run

## Instructions and allocations, then load; results land in bench/results/.
bench: packages
	bench/run
	bench/redis/run
	bench/gateways/run

## target/pgo/tollgate: a release build laid out by a profile of real requests.
release-pgo: packages
	bench/pgo/run

## Handshakes, downloads over TLS and idle connections beside a bare Pingora.
bench-edge: packages
	bench/edge/run

## A Debian package and a tarball, in target/package/.
package: packages
	packaging/run

packages:
	@dpkg -s $(PACKAGES) >/dev/null 2>&1 \
		|| DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends $(PACKAGES) \
		|| { apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends $(PACKAGES); }

# Unoptimised: it runs for seconds and is built for two minutes.
target/tools/bin/cargo-deny: packages
	@cargo deny --version 2>/dev/null | grep -qF '$(CARGO_DENY)' || CARGO_TARGET_DIR=target/tools/build \
		cargo install cargo-deny --locked --quiet --debug --version $(CARGO_DENY) --root target/tools
	@rm -rf target/tools/build

# What tests/live runs, in the versions that it names.
target/tools/venv/installed: tests/live/requirements.txt packages
	@python3 -c 'import ensurepip' 2>/dev/null || { apt-get update -q && apt-get install -y -q python3-venv; }
	@test -f $@ -a $@ -nt $< || { rm -rf $(@D) && python3 -m venv $(@D) \
		&& $(@D)/bin/pip install --quiet --disable-pip-version-check --only-binary=:all: -r $<; }
	@touch $@
