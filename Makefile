# `make demo` and `make test` need python3, git, make and pip's package index, nothing else:
# the C compiler (zig) is a Python wheel like the rest.

PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/installed
# Two at a time: each holds TVM and TensorFlow, and compiles on every core.
PYTEST := $(BIN)/python -m pytest -q -n 2 --dist worksteal
# Of the examples that hypothesis makes up: as make prints it, it makes up the same again.
SEED ?= $(shell date +%s)
C_FILES = $(shell find schedules scripts tests tflite_delegate -name '*.[ch]' -o -name '*.cc')

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: venv ## MobileNetV2 and a 3x3 network: convert, compile, run, compare
	$(BIN)/python -m scripts.demo

test: lint board ## what every change must pass
	$(PYTEST) -m "not slow"

test-all: lint board ## with the long checks, other examples (SEED) and everything compiled anew
	LEANCONV_STORE=off $(PYTEST) --hypothesis-profile=seeded --hypothesis-seed=$(SEED)

test-planted: lint board ## the tests find each of the planted faults (tests/planted)
	$(BIN)/python -m tests.planted.plant

lint: venv ## ruff, mypy, vulture, floors and sizes of folders, clang-format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/vulture
	$(BIN)/lint-imports --no-logo
	$(BIN)/python -m scripts.include_floors
	$(BIN)/python -m scripts.line_budget
	$(if $(C_FILES),$(BIN)/clang-format --dry-run -Werror $(C_FILES))

format: venv ## rewrite the sources in the project's style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(if $(C_FILES),$(BIN)/clang-format -i $(C_FILES))

board: venv ## the emulated Arm board, in the cache folder
	$(BIN)/python -m scripts.board setup

peers: venv ## torch (oneDNN), ONNX Runtime, ncnn and MNN for the benchmarks
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[peers]'

venv: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 10) <= sys.version_info < (3, 14))' || { \
	    echo "this needs Python 3.10 to 3.13, as TensorFlow does: make PYTHON=python3.12 …" >&2; \
	    exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
	    echo "this Python cannot make virtual environments: install python3-venv" >&2; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[test]'
	touch $@

.PHONY: help demo test test-all test-planted lint format board peers venv
