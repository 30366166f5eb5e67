# `make demo` and `make test` set up an environment of their own in .venv and need only
# Python 3.11 or 3.12: `make test PYTHON=python3.12` uses that one.

PYTHON ?= python3
VENV ?= .venv
EXTRAS ?= dev
PIP = $(VENV)/bin/python -m pip --disable-pip-version-check -q
RUN = $(VENV)/bin/python

.PHONY: help demo test test-slow lint format clean

help:
	@echo "make demo       train FCN-R18 with and without SDN on shapes, compare (minutes)"
	@echo "make test       lint and the default tests"
	@echo "make test-slow  every test, the slow ones included"
	@echo "make lint       ruff, check only"
	@echo "make format     ruff, rewrite"
	@echo "make clean      remove the environment (runs/ stays)"

$(VENV)/.made: setup.cfg pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; v in ((3, 11), (3, 12)) or \
		sys.exit("sdnjax needs Python 3.11 or 3.12, not %d.%d: make PYTHON=python3.12" % v)'
	$(PYTHON) -m venv $(VENV)
	$(PIP) install -e '.'
	touch $@

$(VENV)/.made-$(EXTRAS): $(VENV)/.made
	$(PIP) install -e '.[$(EXTRAS)]'
	touch $@

demo: $(VENV)/.made
	$(RUN) examples/shapes_demo.py

test: lint
	$(RUN) -m pytest -m "not slow"

test-slow: lint
	$(RUN) -m pytest

lint: $(VENV)/.made-$(EXTRAS)
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .

format: $(VENV)/.made-$(EXTRAS)
	$(VENV)/bin/ruff format .
	$(VENV)/bin/ruff check --fix .

clean:
	rm -rf $(VENV) .pytest_cache .ruff_cache
