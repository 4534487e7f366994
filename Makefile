# What people and CI run. Every target sets up .venv by itself.
PYTHON ?= python3
# The CPU build of this release is enough for everything here; `make demo TORCH=torch` takes your own.
TORCH ?= torch==2.13.0
BIN := .venv/bin
VENV ?= .venv

.PHONY: demo test mutations test-integrations smoke lint docs wheel bench bench-gpu gpu faults \
	bench-cluster clean

demo: .venv/study  ## train on real data for a minute, and leave a report to look at
	$(BIN)/hypergradient demo

test: .venv/dev  ## all tests
	$(BIN)/python -m pytest -n 2 --dist worksteal

test-integrations: .venv/integrations  ## real runs of Lightning, Hugging Face, timm, ...
	$(BIN)/python -m pytest -m integration

smoke:  ## every optimizer in every use; other torch: VENV=.venv-2.6 TORCH=torch==2.6.0, about 5 GB
	test -x $(VENV)/bin/python || $(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check "$(TORCH)"
	PYTHONPATH=src $(VENV)/bin/python scripts/smoke.py

lint: .venv/dev  ## style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: .venv/docs  ## the documentation site, into site/; every link and anchor is checked
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build

wheel: .venv/study  ## build the wheel, and try it in an empty environment beside torch alone
	$(BIN)/python scripts/check_wheel.py "$(TORCH)"

bench: .venv/bench  ## all benchmarks, into docs/benchmarks.md: a quarter of an hour, 2 cores at rest
	$(BIN)/python benchmarks/bench.py

bench-gpu: .venv/dev  ## what a step costs on an accelerator
	$(BIN)/python benchmarks/gpu_step.py
	$(BIN)/python benchmarks/step.py --device cuda

gpu: .venv/dev  ## laws, steps, training and a language model on one GPU, under 8 minutes; TINY=1 on the CPU
	$(BIN)/python -m pytest -q tests/gpu
	$(BIN)/python benchmarks/gpu_step.py $(if $(TINY),--tiny --device cpu --folder results/gpu)
	$(BIN)/python benchmarks/gpu_training.py $(if $(TINY),--tiny --device cpu --folder results/gpu)
	$(BIN)/python benchmarks/gpu_language_model.py $(if $(TINY),--tiny --device cpu --folder results/gpu)
	$(BIN)/python benchmarks/gpu_study.py $(if $(TINY),--tiny --device cpu --folder results/gpu)

mutations: .venv/dev  ## make each fault of tests/faults.toml, and write who catches it in docs/mutations.md
	$(BIN)/python tests/mutations.py

faults: .venv/dev  ## inject every fault, and write the table in docs/faults.md
	$(BIN)/python benchmarks/faults.py

bench-cluster: .venv/dev  ## how studies scale on a dask cluster, and what 10,000 runs cost
	$(BIN)/python benchmarks/cluster.py

.venv/study: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check "$(TORCH)"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[study]'
	touch $@

.venv/dev: .venv/study
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	touch $@

.venv/docs: .venv/study
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[docs]'
	touch $@

.venv/bench: .venv/dev
	echo "$(TORCH)" > .venv/constraints.txt  # or these packages bring a torch of their own
	$(BIN)/python -m pip install --quiet --disable-pip-version-check \
		--constraint .venv/constraints.txt --editable '.[bench]'
	touch $@

.venv/integrations: .venv/dev
	echo "$(TORCH)" > .venv/constraints.txt  # or these packages bring a torch of their own
	$(BIN)/python -m pip install --quiet --disable-pip-version-check \
		--constraint .venv/constraints.txt --editable '.[integrations]'
	touch $@

clean:
	rm -rf .venv results site
