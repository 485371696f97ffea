# Two commands do everything on a machine with python3 (3.11 or newer) and make: `make bench` and `make test`.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.DEFAULT_GOAL := help
.PHONY: help bench test nightly lint format docs clean

help:
	@echo "make bench   create the environment, install, run 'zoo bench --models all' on the embedded data"
	@echo "make test    create the environment, install, run linters, types and tests"
	@echo "make nightly kill every command at 200 moments and read a quarter of a million damaged files (hours)"
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

docs: $(VENV)/.test
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --quiet --strict
	@echo "the documentation is in build/site/index.html"

format: $(VENV)/.test
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis build dist
