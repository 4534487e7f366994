# What people and CI run. Every target sets up .venv by itself.
PYTHON ?= python3
# The CPU build of this release is enough for everything here; `make demo TORCH=torch` takes your own.
TORCH ?= torch==2.13.0
BIN := .venv/bin

.PHONY: demo test lint bench clean

demo: .venv/study  ## train on real data for a minute, and leave a report to look at
	$(BIN)/hypergradient demo

test: .venv/dev  ## all tests
	$(BIN)/python -m pytest -n 2

lint: .venv/dev  ## style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: .venv/dev  ## cost of a step against torch's own optimizers
	$(BIN)/python benchmarks/step.py

.venv/study: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check "$(TORCH)"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[study]'
	touch $@

.venv/dev: .venv/study
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	touch $@

clean:
	rm -rf .venv results
