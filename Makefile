# Two commands do everything on a machine with python3 (3.11 or newer) and make: `make bench` and `make test`.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.DEFAULT_GOAL := help
.PHONY: help bench test nightly test-minimum test-newest audit lint format docs clean

help:
	@echo "make bench   create the environment, install, run 'zoo bench --models all' on the embedded data"
	@echo "make test    create the environment, install, run linters, types and tests"
	@echo "make nightly all tests, with 200 kills, a quarter of a million damaged files and 40 models of zoo-smp (hours)"
	@echo "make test-minimum  the tests with the lowest allowed version of every dependency, in build/minimum"
	@echo "make test-newest   the same with the newest versions, in build/newest"
	@echo "make audit   look up known vulnerabilities of the installed packages"
	@echo "make lint    only linters and types"
	@echo "make docs    build the documentation into build/site"
	@echo "make format  format the code and apply safe lint fixes"
	@echo "make clean   remove the environment and all caches"

# pip 23.2, which comes with Python 3.11, spends most of its time comparing 180,000 files of the package index with a thousand
# tags each. Without a network it is not upgraded.
$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "error: $(PYTHON) is older than 3.11; name a newer one: make PYTHON=python3.12 ..."; exit 2; }
	@$(PYTHON) -m venv $(VENV) \
	  || { rm -rf $(VENV); echo "error: $(PYTHON) cannot make an environment; on Debian: apt install python3-venv"; exit 2; }
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade pip || echo "note: pip was not upgraded"

# pip compiles 23,000 files on one core: half of the processor time of the installation. compileall uses all cores. It fails at
# a few files that are not for this Python; pip passes over them silently.
PIP_INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile --editable
COMPILE := $(BIN)/python -m compileall -q -j 0 $(VENV)/lib > /dev/null 2>&1 || true

$(VENV)/.zoo: pyproject.toml | $(BIN)/python
	$(PIP_INSTALL) .
	@$(COMPILE)
	@touch $@

$(VENV)/.test: pyproject.toml | $(BIN)/python
	$(PIP_INSTALL) '.[test]'
	@$(COMPILE)
	@touch $@ $(VENV)/.zoo

bench: $(VENV)/.zoo
	$(BIN)/zoo bench --models all

lint: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# One thread a process: two that share a core with another process wait for each other, and take many times longer. Memory
# that a process has freed stays with it: getting it from the kernel anew for each batch takes time.
# One process more than cores: tests that kill and wait leave theirs idle.
PROCESSES := $(shell echo $$(( $$(getconf _NPROCESSORS_ONLN) + 1 )))
PYTEST := -m pytest --numprocesses $(PROCESSES) --maxprocesses 4 --dist loadfile --no-loadscope-reorder
TESTING := OMP_NUM_THREADS=1 MALLOC_TRIM_THRESHOLD_=1073741824 MALLOC_MMAP_THRESHOLD_=33554432

# mypy keeps one core busy for most of a minute, so it runs beside the tests.
test: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	@$(BIN)/mypy > $(VENV)/mypy.txt 2>&1 & types=$$!; \
	  $(TESTING) $(BIN)/python $(PYTEST); tests=$$?; \
	  wait $$types; types=$$?; cat $(VENV)/mypy.txt; exit $$(( tests || types ))

# atheris has wheels for CPython on Linux x86-64 alone; elsewhere its part is skipped, and the rest runs.
nightly: $(VENV)/.test
	@$(BIN)/python -m pip install -qq --disable-pip-version-check 'atheris>=3' 2>/dev/null \
	  || echo "note: fuzzing guided by coverage is skipped: atheris cannot be installed here"
	ZOO_NIGHTLY=1 $(TESTING) $(BIN)/python $(PYTEST) -rs

# The interpreters that the bounds promise: the oldest with the lowest versions, the newest with the newest. uv finds
# versions that fit together in a minute or two, where pip takes longer than ten.
MINIMUM_PYTHON ?= python3.11
NEWEST_PYTHON ?= python3.13
TESTS ?= tests

test-minimum: build/minimum/.test
	$(TESTING) build/minimum/bin/python $(PYTEST) $(TESTS)

build/minimum/.test: pyproject.toml .ci/lowest.py
	$(MINIMUM_PYTHON) -m venv --clear build/minimum
	build/minimum/bin/python .ci/lowest.py test > build/minimum/lowest.txt
	build/minimum/bin/python -m pip install --quiet --disable-pip-version-check uv
	build/minimum/bin/python -m uv pip install --quiet --python build/minimum/bin/python --constraint build/minimum/lowest.txt --editable '.[test]'
	@touch $@

test-newest: build/newest/.test
	$(TESTING) build/newest/bin/python $(PYTEST) $(TESTS)

build/newest/.test: pyproject.toml
	$(NEWEST_PYTHON) -m venv --clear build/newest
	build/newest/bin/python -m pip install --quiet --disable-pip-version-check uv
	build/newest/bin/python -m uv pip install --quiet --python build/newest/bin/python --upgrade --editable '.[test]'
	@touch $@

# Without a network nothing can be looked up: a note says so, and the target succeeds. A vulnerability makes it fail.
audit: $(VENV)/.test
	@$(BIN)/python -m pip install -qq --disable-pip-version-check 'pip-audit>=2.7' 2>/dev/null \
	  || { echo "note: dependencies were not audited: pip-audit cannot be installed here"; exit 0; }; \
	$(BIN)/python .ci/audit.py

docs: $(VENV)/.test
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict
	@echo "the documentation is in build/site/index.html"

format: $(VENV)/.test
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis build dist
