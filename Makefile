# What one does with this repository. Each target is a line here and a script in ci/ or demo/ that says how.

.PHONY: help demo test check fuzz bench image manuals

help: ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: ## the main job end to end on this machine; stays until Ctrl-C (DEMO_ONCE=1: ends after one request)
	@demo/run

test: ## installs what the tests need and runs them all
	ci/install-test-tools
	ci/test

check: ## format, lints, documentation, dependency policy, purity of the pure parts
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --locked -- -D warnings
	RUSTDOCFLAGS=-Dwarnings cargo doc --workspace --no-deps --document-private-items --locked
	ci/dependency-policy
	ci/purity

fuzz: ## looks for inputs that break what parses them; a minute for each target (TARGET=name: one; SECONDS_EACH=900)
	@ci/fuzz $(TARGET)

bench: ## measures this checkout beside its peers and writes docs/benchmarks.md; a few minutes after the builds (FULL=1: all)
	@ci/bench $(if $(FULL),full)

image: ## container images of gateway and agent, without a registry (needs Docker and root)
	ci/image

manuals: ## manual pages and shell completions of both programs, into target/manuals
	cargo run --quiet --package edge-agent --example manuals -- target/manuals
	cargo run --quiet --package gateway -- man --dir target/manuals
	cargo run --quiet --package gateway -- completions bash > target/manuals/tidegate.bash
	cargo run --quiet --package gateway -- completions zsh > target/manuals/_tidegate
	cargo run --quiet --package gateway -- completions fish > target/manuals/tidegate.fish
