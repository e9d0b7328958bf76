# `make demo` and `make test` do all the set-up they need. `make help` lists the rest.

.DEFAULT_GOAL := help
CARGO ?= cargo
# Colours at a terminal, unless the environment says otherwise.
export CARGO_TERM_COLOR ?= auto

.PHONY: help demo demo-paas test check bench schema setup setup-test nextest clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-9s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: setup ## build in release and run three sleepy apps behind a gateway
	$(CARGO) build --release --locked
	./target/release/loir demo

demo-paas: setup ## the same in front of simulated platforms: Scalingo, Clever Cloud and Heroku
	$(CARGO) build --release --locked --bin loir --example simulate
	./scripts/demo-paas

test: setup-test nextest ## run all tests
	$(CARGO) test --locked --doc
	$(CARGO) nextest run --locked

check: setup ## formatting, clippy and docs, as CI does
	$(CARGO) fmt --all --check
	$(CARGO) clippy --locked --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --locked --no-deps --document-private-items

bench: setup ## all benchmarks: see benchmarks/README.md
	benchmarks/run.sh

schema: setup ## write conf/schema.json and docs/openapi.json anew from the code
	$(CARGO) run --locked --quiet -- config schema > conf/schema.json.new
	mv conf/schema.json.new conf/schema.json
	$(CARGO) run --locked --quiet -- config openapi > docs/openapi.json.new
	mv docs/openapi.json.new docs/openapi.json

setup:
	@./scripts/setup

setup-test:
	@./scripts/setup test

nextest:
	@$(CARGO) nextest --version >/dev/null 2>&1 || $(CARGO) install --locked cargo-nextest

clean: ## remove everything that was built
	$(CARGO) clean
