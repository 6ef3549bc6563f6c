# Everything that a person types. Each target sets up what it needs first; `make help` lists them.
SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help setup setup-dev serve viewer test check format prove-gates lock bench clean

RUN = .venv/bin/python -m
BENCH ?= all
ARGS ?=

help:  ## Say what there is
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup:  ## Make .venv and nothing else (a no-op when nothing has changed)
	@scripts/setup run

setup-dev:  ## Make .venv with what the gates and tests need
	@scripts/setup dev

serve: setup  ## Start Isocenter here: HTTP on 8080, DIMSE on 11112 (ARGS="--http-port 9000" adds flags)
	@exec $(RUN) isocenter serve $(ARGS)

viewer: setup  ## Fetch the viewer OHIF (50 MB, by npm) and make it ready: /ohif then shows it
	@$(RUN) isocenter viewer install $(ARGS)

test: setup-dev  ## Install what the tests need and run all of them (ARGS="-k scanner" narrows)
	@scripts/install-test-services
	@scripts/install-test-viewers
	@scripts/run-tests $(ARGS)

check: setup-dev  ## Lint, format, types, import contracts, tree rules
	@scripts/check

format: setup-dev  ## Rewrite what ruff can
	@$(RUN) ruff check --fix --quiet . || true
	@$(RUN) ruff format .

prove-gates: setup-dev  ## Plant one breach per gate in a copy of the tree; each gate must refuse its own
	@.venv/bin/python scripts/prove_gates.py

lock: setup-dev  ## Resolve pyproject.toml into the lock files (ARGS=--upgrade for newer versions)
	@scripts/lock $(ARGS)

bench: setup-dev  ## Measure, side by side with Orthanc where it can do the same (BENCH=cstore runs one)
	@$(RUN) bench $(BENCH) $(ARGS)

clean:  ## Remove what building, checking and testing left; data/ and isocenter.toml stay
	@rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .test-services .viewers dist
	@find src tests bench scripts -name __pycache__ -type d -prune -exec rm -rf {} +
