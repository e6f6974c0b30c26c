# make demo   simulated machines under attack, watched live
# make test   lint and all tests, as CI runs them
.DEFAULT_GOAL := help
SHELL := /bin/sh
VENV ?= .venv
BIN := $(VENV)/bin
export VENV

.PHONY: help demo test test-fast soak lint format bench docs site lock clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: ## Simulated machines under attack, watched live (Ctrl-C ends it)
	@tools/environment runtime
	$(BIN)/hackwatch demo $(ARGS)

# Of slow tests, a process takes whole files: their tests share what they prepare, up to whole runs of engines. In their
# own order, for the long ones do not come last there.
test: lint ## Lint, the servers that tests need, and all tests
	@tools/servers/all
	$(BIN)/pytest -n 2 --dist worksteal -m "not slow"
	$(BIN)/pytest -n 2 --dist loadfile --no-loadscope-reorder -m "slow and not alone and not soak"
	$(BIN)/pytest -m "alone and not soak"

test-fast: ## The fast tests alone
	@tools/environment dev
	$(BIN)/pytest -n 2 --dist worksteal -m "not slow"

soak: ## The tests that take long: rests and floods (not part of `make test`)
	@tools/environment dev
	$(BIN)/pytest -m soak

lint: ## Style, types and layers
	@tools/environment dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: ## Mend what the linter can mend
	@tools/environment dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# In an environment of its own: what only the benchmark needs is none of the tests' business.
bench: ## Throughput, latency and memory on this machine
	@VENV=$(VENV)-bench tools/environment bench
	$(VENV)-bench/bin/python -m bench $(ARGS)

docs: ## Write docs/configuration.md and docs/cli.md from the program
	@tools/environment dev
	$(BIN)/python tools/reference.py

site: ## The docs as a site, in site/
	@VENV=$(VENV)-docs tools/environment docs
	NO_MKDOCS_2_WARNING=1 $(VENV)-docs/bin/mkdocs build --strict

lock: ## Resolve the locked versions anew (needs uv)
	tools/lock

clean: ## Remove the environments and what tools left
	rm -rf $(VENV) $(VENV)-bench $(VENV)-docs build dist site .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
