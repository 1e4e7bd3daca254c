# Every target creates the virtual environment it needs; the machine has to offer python3, pip and make.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
COMPILED := .venv-compiled

# pytest's arguments: make test ARGS="-k reload -x"
ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help run test test-long check format generate count bench wheel wheel-pure test-wheel clean

help:
	@echo "make run       serve the applications of server.toml on http://127.0.0.1:8000"
	@echo "make test      run the test suite; ARGS=\"...\" goes to pytest"
	@echo "make test-long the same, with the variants that take minutes"
	@echo "make check     lint, formatting, types, generated files"
	@echo "make format    format and mend what can be mended mechanically"
	@echo "make generate  write config/reference.toml and config/server.schema.json"
	@echo "make count     write what a request costs in calls to tests/counts.json"
	@echo "make bench     compare with other servers (benchmarks/README.md)"
	@echo "make wheel     build dist/*.whl, compiled for this Python; a C compiler is needed"
	@echo "make test-wheel the suite against such a wheel, in an environment of its own"
	@echo "make wheel-pure build dist/*.whl for every Python: nothing is compiled"
	@echo "make clean     remove what the other targets made"

# `exec`, so that Ctrl-C and TERM reach the server and not a shell in front of it.
run: $(STAMP)
	@exec $(BIN)/serverd -c server.toml

test: $(STAMP)
	$(BIN)/pytest $(ARGS)

# The numbers, bounds and event loops that the ordinary suite cuts short.
test-long: $(STAMP)
	SERVERD_LONG=1 $(BIN)/pytest $(ARGS)

check: $(STAMP)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy --strict
	$(BIN)/python tools/generate.py --check

format: $(STAMP)
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

generate: $(STAMP)
	$(BIN)/python tools/generate.py

# tests/test_counts.py holds every change against these figures.
count: $(STAMP)
	$(BIN)/python -m tests.support.counting --renew

# The peers live in an environment of their own: they must never shape ours.
bench: $(STAMP)
	$(PYTHON) benchmarks/run.py $(ARGS)

# For the Python that PYTHON names, and without our environment: pip makes one for what building needs. tools/backend.py
# says what is missing.
wheel:
	SERVERD_COMPILE=1 $(PYTHON) -m pip wheel --disable-pip-version-check --no-deps --wheel-dir dist .

# Only what is installed is tested: the tests of the checkout do not look for serverd beside themselves.
test-wheel: ABI = $(shell $(PYTHON) -c 'import sys; print("cp%d%d%s" % (*sys.version_info[:2], sys.abiflags))')
test-wheel:
	rm -rf dist/*-$(ABI)-linux_*.whl
	$(MAKE) wheel
	$(PYTHON) -m venv --clear --without-pip $(COMPILED)
	$(PYTHON) -m pip --python $(COMPILED)/bin/python install --quiet --disable-pip-version-check \
		"$$(echo dist/*-$(ABI)-linux_*.whl)[dev,examples]"
	$(COMPILED)/bin/pytest $(ARGS)

wheel-pure:
	SERVERD_COMPILE=0 $(PYTHON) -m pip wheel --disable-pip-version-check --no-deps --wheel-dir dist .

clean:
	rm -rf $(VENV) $(COMPILED) benchmarks/.venv benchmarks/.scratch build dist server/*.egg-info
	rm -rf .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage .coverage.* htmlcov
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Debian ships `venv` without ensurepip unless python3-venv is installed; pip can then fill the environment from outside.
$(STAMP): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "serverd needs Python 3.11 or newer; name one with: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) >/dev/null || { \
		$(PYTHON) -m venv --clear --without-pip $(VENV) && \
		$(PYTHON) -m pip --python $(BIN)/python install --quiet pip; }
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev,examples]'
	@touch $@
