# make help lists the targets.  Everything lives in .venv; PYTHON names the interpreter it is made from.
PYTHON ?= python3.11
VENV := .venv
RUN := $(VENV)/bin/python -m
STAMP := $(VENV)/.installed
TORCH := .cache/torch-venv/.installed
PEERS := .cache/bench-venv/.installed
ATHERIS := .cache/fuzz-venv/.installed
MEASURE := .cache/bench-venv/bin/python -m
CACHE := $(CURDIR)/.cache
BUDGET ?= 20min
FUZZ_SECONDS ?= 600

export ZIG_GLOBAL_CACHE_DIR ?= $(CACHE)/zig

.DEFAULT_GOAL := help
.PHONY: help demo conformance test test-all test-torch lint type fmt golden docs bench bench-convs bench-drawn
.PHONY: bench-agreement bench-profiles bench-dense bench-arm bench-untuned bench-budgets faults performance table
.PHONY: bench-gpu test-gpu records test-docs fuzz-runtime million-runs fuzz random-graphs kills clean

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

# The engines that the benchmarks compare with.  pnnx without what it asks for: its Python part, which is not
# used, needs torch.
$(PEERS): pyproject.toml
	$(PYTHON) -m venv .cache/bench-venv
	.cache/bench-venv/bin/python -m pip install --quiet --editable '.[bench]'
	.cache/bench-venv/bin/python -m pip install --quiet --no-deps pnnx==20261020
	touch $@

# atheris stays out of .venv: it has wheels for few machines, and nothing else needs it.
$(ATHERIS): pyproject.toml
	$(PYTHON) -m venv .cache/fuzz-venv
	.cache/fuzz-venv/bin/python -m pip install --quiet --editable '.[dev,fuzz]'
	touch $@

demo: $(STAMP) ## build PP-OCR for this machine and read a page with a C++ app
	$(RUN) examples.ocr.demo

test: $(STAMP) ## the tests, without the slow ones, on two processors
	$(RUN) pytest -q -n 2 --dist loadfile -m "not slow"

test-all: $(STAMP) test-torch ## all tests, also every network for every target
	$(RUN) pytest -q

test-docs: $(STAMP) ## the commands of all pages, also of those that take long
	$(RUN) pytest -q tests/test_docs.py tests/test_long_docs.py

test-torch: $(TORCH) ## the tests that need PyTorch
	.cache/torch-venv/bin/python -m pytest -q tests/exporting tests/networks/test_exported_modules.py tests/networks/test_split_modules.py

# The tests themselves need no torch.  They are skipped, and say so, where there is no GPU.
test-gpu: $(STAMP) ## the tests that need a GPU and its driver
	$(RUN) pytest -q -m gpu tests/gpu

conformance: $(STAMP) ## lint beside the truth over ONNX's node tests; writes docs/conformance.md (half an hour)
	$(RUN) tests.conformance.run --write

faults: $(STAMP) ## 30 faults planted in the compiler, and how many of them verify --bisect finds (half an hour)
	$(RUN) tests.faults.measuring $(FAULTS)

fuzz-runtime: $(STAMP) ## random calls of a package's C interface under sanitisers (FUZZ_SECONDS=600)
	$(RUN) tests.runtime.fuzzing --seconds $(FUZZ_SECONDS)

million-runs: $(STAMP) ## a million runs of a small package: no allocation, and memory stays flat
	$(RUN) pytest -q -s "tests/runtime/test_fuzzing.py::test_memory_stays_flat[a_million]"

fuzz: $(ATHERIS) ## mutated models through import, lint and lower, coverage-guided; goes on where it was (FUZZ="--models N")
	.cache/fuzz-venv/bin/python -m tests.fuzzing.run $(FUZZ)

random-graphs: $(STAMP) ## 2,000 random graphs built, run and compared with ONNX Runtime (GRAPHS="--seed N --graphs N")
	$(RUN) tests.sweep.random_graphs --out .cache/random_graphs.jsonl $(GRAPHS)

kills: $(STAMP) ## 100 builds and tunings killed at random moments, and what they leave (KILLS="--kills N")
	$(RUN) tests.kills.killing $(KILLS)

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

bench-convs: $(PEERS) ## the convolution suite beside the other engines (BENCH="--convs a,b --threads 1,2 --repeat 3")
	$(MEASURE) benchmarks.convs $(BENCH)

bench-profiles: $(STAMP) ## packages with timers beside those without (BENCH="--networks a,b --threads 1 --keep")
	$(RUN) benchmarks.profiles $(BENCH)

bench: $(PEERS) ## the networks beside the other engines (BENCH="--networks a,b --threads 1,2 --peers ort --keep")
	$(MEASURE) benchmarks.run $(BENCH)

bench-agreement: $(STAMP) ## deploycc bench 20 times a network: are verdicts the same? (BENCH="--networks a,b --twin")
	$(RUN) benchmarks.agreement $(BENCH)

bench-arm: $(PEERS) ## arm64 without a board: inner loops under llvm-mca, instructions under QEMU (an hour at first)
	$(MEASURE) benchmarks.arm64_loops
	$(MEASURE) benchmarks.arm64_counts $(BENCH)

bench-drawn: $(PEERS) ## 40 convolutions drawn at random, which no record knows, beside the other engines
	$(MEASURE) benchmarks.convs --drawn 40 $(BENCH)

bench-untuned: $(STAMP) ## the networks tuned, with all records but their own, and by static cost alone
	$(RUN) benchmarks.leave_one_out $(BENCH)

bench-budgets: $(STAMP) ## PP-OCR detection tuned for 60 s and for 20 minutes, both from an empty database
	$(RUN) benchmarks.budgets $(BENCH)

bench-gpu: $(TORCH) ## networks and convolutions on a GPU beside PyTorch (BENCH="--target cuda:h200 --precision fp16")
	.cache/torch-venv/bin/python -m benchmarks.gpu $(BENCH)

bench-dense: $(PEERS) ## the ten dense convolutions as a share of the core's peak
	$(MEASURE) benchmarks.dense $(BENCH)

performance: $(PEERS) ## write docs/performance.md from the newest results
	$(MEASURE) benchmarks.performance

records: $(STAMP) ## tune the public networks and convolutions for the shipped records (BUDGET=20min)
	for target in x86-64-v4 x86-64; do $(RUN) benchmarks.records --target $$target --budget $(BUDGET) || exit; done

table: $(STAMP) ## measure sizes and times and write docs/networks.md
	$(RUN) benchmarks.sizes

clean: ## remove what the targets made, apart from .venv and downloads
	rm -rf build dist out .mypy_cache .ruff_cache .pytest_cache .hypothesis .cache/zig
	find . -name __pycache__ -not -path './.venv/*' -not -path './.cache/*' -prune -exec rm -rf {} +
