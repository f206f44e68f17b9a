# Every target works as the first command on a machine with git, make and Python 3.11 or newer.
SHELL := /bin/bash
PYTHON ?= python3
BIN := .venv/bin
EXPERIMENT ?= experiments/quickstart.yaml
ARGS ?=
# processes that test side by side, by file; 0 for none beside the first (a debugger needs that)
JOBS ?= 2
PYTEST = $(BIN)/python -m pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder

.DEFAULT_GOAL := help
.PHONY: help setup sweep ui dashboard test test-fast test-gpu lint bench chaos clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: .venv/installed ## create .venv and install everything, once

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

sweep: setup ## run every trial of EXPERIMENT that has not finished, track it, compare
	@$(BIN)/switokd sweep $(EXPERIMENT) $(ARGS)

ui: setup ## MLflow's UI over the same store, http://127.0.0.1:5000 or the next free port
	@$(BIN)/python -m switokd.tracking.ui

dashboard: setup ## the comparison dashboard, http://127.0.0.1:8501
	@$(BIN)/python -m dashboards

test: setup ## all tests
	@$(PYTEST) $(ARGS)

test-fast: setup ## the tests that take less than a few seconds each
	@$(PYTEST) -m "not slow" $(ARGS)

# GPU machines often have no network: what is installed there is used where there is no .venv
test-gpu: ## what a GPU does, and how fast: PASSED or FAILED line by line, figures in build/gpu.json
	@SWITOKD_GPU_FIGURES=build/gpu.json \
	$$([ -x $(BIN)/python ] && echo $(BIN)/python || echo $(PYTHON)) -m pytest tests/gpu -v $(ARGS)

lint: setup ## style, format, types, and who imports whom
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-cache

chaos: setup ## kill a sweep's processes at random, tear its files, and compare it with peace
	@$(BIN)/python -m tests.chaos $(ARGS)

bench: setup ## measure speed, ours against plain alternatives, side by side
	@$(BIN)/python -m tests.benchmarks $(ARGS)

clean: ## remove what can be made again; spares runs/ and data/
	rm -rf .venv build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -not -path './.venv/*' -prune -exec rm -rf {} +
