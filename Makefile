# Two commands do everything on a machine with python3 (3.11 or newer) and make: `make bench` and `make test`.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.DEFAULT_GOAL := help
.PHONY: help bench test nightly test-minimum test-newest audit lint format docs clean

help:
	@echo "make bench   create the environment, install, run 'zoo bench --models all' on the embedded data"
	@echo "make test    create the environment, install, run linters, types and tests"
	@echo "make nightly kill every command at 200 moments and read a quarter of a million damaged files (hours)"
	@echo "make test-minimum  the tests with the lowest allowed version of every dependency, in build/minimum"
	@echo "make test-newest   the same with the newest versions, in build/newest"
	@echo "make audit   look up known vulnerabilities of the installed packages"
	@echo "make lint    only linters and types"
	@echo "make docs    build the documentation into build/site"
	@echo "make format  format the code and apply safe lint fixes"
	@echo "make clean   remove the environment and all caches"

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "error: $(PYTHON) is older than 3.11; name a newer one: make PYTHON=python3.12 ..."; exit 2; }
	@$(PYTHON) -m venv $(VENV) \
	  || { rm -rf $(VENV); echo "error: $(PYTHON) cannot make an environment; on Debian: apt install python3-venv"; exit 2; }

$(VENV)/.zoo: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	@touch $@

$(VENV)/.test: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[test]'
	@touch $@ $(VENV)/.zoo

bench: $(VENV)/.zoo
	$(BIN)/zoo bench --models all

lint: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# One thread a process: two that share a core with another process wait for each other, and take many times longer.
test: lint
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 --dist loadfile

nightly: $(VENV)/.test
	ZOO_NIGHTLY=1 OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 --dist loadfile -rs tests/faults

# The interpreters that the bounds promise: the oldest with the lowest versions, the newest with the newest.
MINIMUM_PYTHON ?= python3.11
NEWEST_PYTHON ?= python3.13
TESTS ?= tests

test-minimum: build/minimum/.test
	OMP_NUM_THREADS=1 build/minimum/bin/python -m pytest --numprocesses auto --maxprocesses 4 --dist loadfile $(TESTS)

build/minimum/.test: pyproject.toml .ci/lowest.py
	$(MINIMUM_PYTHON) -m venv --clear build/minimum
	build/minimum/bin/python .ci/lowest.py test > build/minimum/lowest.txt
	build/minimum/bin/python -m pip install --quiet --disable-pip-version-check --constraint build/minimum/lowest.txt --editable '.[test]'
	@touch $@

test-newest: build/newest/.test
	OMP_NUM_THREADS=1 build/newest/bin/python -m pytest --numprocesses auto --maxprocesses 4 --dist loadfile $(TESTS)

build/newest/.test: pyproject.toml
	$(NEWEST_PYTHON) -m venv --clear build/newest
	build/newest/bin/python -m pip install --quiet --disable-pip-version-check --upgrade --editable '.[test]'
	@touch $@

# Without a network nothing can be looked up; that is said and is no failure. A vulnerability is one.
audit: $(VENV)/.test
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check 'pip-audit>=2.7' && $(BIN)/python -m pip_audit --version >/dev/null \
	  || { echo "note: dependencies were not audited: pip-audit cannot be installed here"; exit 0; }; \
	found=$$($(BIN)/python -m pip_audit --skip-editable --progress-spinner off 2>&1); code=$$?; echo "$$found" | tail -40; \
	case "$$found" in *ConnectionError*|*ServiceError*|*"Max retries"*|*"service error"*) \
	  echo "note: dependencies were not audited: the vulnerability service cannot be reached"; exit 0;; esac; exit $$code

docs: $(VENV)/.test
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --quiet --strict
	@echo "the documentation is in build/site/index.html"

format: $(VENV)/.test
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis build dist
