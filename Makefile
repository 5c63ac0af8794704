# make help lists the targets.  Everything lives in .venv; PYTHON names the interpreter it is made from.
PYTHON ?= python3.11
VENV := .venv
RUN := $(VENV)/bin/python -m
STAMP := $(VENV)/.installed
TORCH := .cache/torch-venv/.installed
CACHE := $(CURDIR)/.cache

export ZIG_GLOBAL_CACHE_DIR ?= $(CACHE)/zig

.DEFAULT_GOAL := help
.PHONY: help demo test test-all test-torch lint type fmt golden docs bench table clean

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 14

$(STAMP): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --editable '.[dev]'
	touch $@

# torch stays out of .venv: it is larger than all the rest together.
$(TORCH): pyproject.toml
	$(PYTHON) -m venv .cache/torch-venv
	.cache/torch-venv/bin/python -m pip install --quiet --editable '.[dev,torch]'
	touch $@

demo: $(STAMP) ## build PP-OCR for this machine and read a page with a C++ app
	$(RUN) examples.ocr.demo

test: $(STAMP) ## the tests, without the slow ones, on two processors
	$(RUN) pytest -q -n 2 --dist loadfile -m "not slow"

test-all: $(STAMP) test-torch ## all tests, also every network for every target
	$(RUN) pytest -q

test-torch: $(TORCH) ## the tests that need PyTorch
	.cache/torch-venv/bin/python -m pytest -q tests/exporting tests/networks/test_exported_modules.py

lint: $(STAMP) type ## ruff and mypy
	$(RUN) ruff check .
	$(RUN) ruff format --check .

type: $(STAMP) ## mypy
	$(RUN) mypy

fmt: $(STAMP) ## format and fix what can be fixed
	$(RUN) ruff format .
	$(RUN) ruff check --fix .

golden: $(STAMP) ## write the expected outputs of the tests anew (look at the diff!)
	$(RUN) pytest -q -m "not slow" --update-golden tests

docs: $(STAMP) ## write the generated pages of docs/ anew
	$(RUN) docs.generate

bench: $(STAMP) ## time the networks beside ONNX Runtime (BENCH="--networks a,b --runs 9 --cpu-time")
	$(RUN) benchmarks.run $(BENCH)

table: $(STAMP) ## measure sizes and times and write docs/networks.md
	$(RUN) benchmarks.sizes

clean: ## remove what the targets made, apart from .venv and downloads
	rm -rf build dist out .mypy_cache .ruff_cache .pytest_cache .hypothesis .cache/zig
	find . -name __pycache__ -not -path './.venv/*' -not -path './.cache/*' -prune -exec rm -rf {} +
