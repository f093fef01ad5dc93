# `make up` and `make test` work on a fresh clone: each builds the part of .venv that it needs, from constraints.txt.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
# What runs, and, beside it, what only tests and linters need.
RUNS := $(VENV)/.runs
STAMP := $(VENV)/.installed
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
PACKAGES := bus gateway gpuworker ops
BEGAN := $(shell date +%s)
BUILT = echo "$(VENV) is built: $$(( $$(date +%s) - $(BEGAN) )) s, $$(du -sh $(VENV) | cut -f1)" >&2
PYTEST := $(BIN)/python -m pytest
ARGS ?=
# Most tests wait for processes of their own rather than compute.
PARALLEL ?= 6

# Tests start hundreds of processes, and without compiled modules each start takes a quarter longer.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help install up test test-all check docs bench chaos soak clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

install: $(STAMP) ## build .venv with everything, also for development

$(RUNS): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "Python 3.11 or later is needed; this is $$($(PYTHON) --version). Run: make PYTHON=/path/to/python3.11" >&2; exit 1; }
	@echo "Building $(VENV): a minute or more, most of it torch" >&2
	$(PYTHON) -m venv $(VENV)
	$(PIP) --editable '.[worker,models,espeak]'
	@touch $@
	@$(BUILT)

$(STAMP): $(RUNS)
	$(PIP) --editable '.[dev]'
	@touch $@
	@$(BUILT)

up: $(RUNS) ## the whole stack on this machine: http://127.0.0.1:8080 (flags: make up ARGS='--http-port 0')
	@exec $(BIN)/antiphon up $(ARGS)

test: $(STAMP) ## the test suite
	$(PYTEST) -n $(PARALLEL) --dist worksteal -m "not slow and not chaos and not soak and not gpu" $(ARGS)

test-all: $(STAMP) ## the tests that take minutes
	$(PYTEST) -n 2 --dist loadfile -o faulthandler_timeout=1200 -m "slow and not chaos and not soak and not gpu" $(ARGS)

chaos: $(STAMP) ## the tests that kill processes under load
	$(PYTEST) -o faulthandler_timeout=1200 -m "chaos and not soak and not gpu" $(ARGS)

soak: $(STAMP) ## by hand: an hour of load, 200 faults, the benchmarks
	$(PYTEST) -s -o faulthandler_timeout=7200 -m "soak and not gpu" $(ARGS)

check: $(STAMP) ## formatting, lint, types, layers, budgets, words
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(PYTEST) --quiet --durations=0 tests/unit/test_layering.py tests/unit/test_shape.py \
		tests/unit/test_words.py tests/unit/bus/telemetry/test_events.py

docs: $(STAMP) ## write the parts of docs/ that are made from the code
	$(BIN)/python -m ops.docs

bench: $(RUNS) ## measure the numbers of docs/benchmarks.md
	$(BIN)/antiphon bench $(ARGS)

clean: ## remove .venv and caches; what `up` has stored stays
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
