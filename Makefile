# `make demo` and `make test` set up an environment of their own in .venv and need only
# Python 3.11, 3.12 or 3.13: `make test PYTHON=python3.12` uses that one.

PYTHON ?= python3
VENV ?= .venv
EXTRAS ?= dev
WORKERS ?= 2
# By file: what a file trains once for its tests is trained once.
PARALLEL = -n $(WORKERS) --dist loadfile
PIP = $(VENV)/bin/python -m pip --disable-pip-version-check -q
RUN = $(VENV)/bin/python

.PHONY: help demo docs test test-slow test-wheel test-compile plan-environment lint format clean

help:
	@echo "make demo       train a network with and without SDN on generated scenes, compare (minutes)"
	@echo "make docs       the documentation site, into site/"
	@echo "make test       lint and the default tests"
	@echo "make test-slow  every test, the slow ones included"
	@echo "make test-wheel  build the wheel and use it in an empty folder"
	@echo "make test-compile  compile for H100s and TPUs that are only described (downloads over 1.3 GB)"
	@echo "make plan-environment  the same environment, for plan.py"
	@echo "make lint       ruff and mypy, check only"
	@echo "make format     ruff, rewrite"
	@echo "make clean      remove the environment (runs/ stays)"

$(VENV)/.made: setup.cfg setup.py pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; v in ((3, 11), (3, 12), (3, 13)) or \
		sys.exit("sdnjax needs Python 3.11, 3.12 or 3.13, not %d.%d: make PYTHON=python3.12" % v)'
	$(PYTHON) -m venv $(VENV)
	$(PIP) install -e '.[train]'
	touch $@

$(VENV)/.made-$(EXTRAS): $(VENV)/.made
	$(PIP) install -e '.[train,serve,$(EXTRAS)]'
	touch $@

demo: $(VENV)/.made
	$(RUN) examples/shapes_demo.py

$(VENV)/.made-site: $(VENV)/.made
	$(PIP) install -e '.[docs]'
	touch $@

# mkdocs.yml makes warnings errors; the one that is silenced is about MkDocs 2, which is not used.
docs: $(VENV)/.made-site
	NO_MKDOCS_2_WARNING=1 $(RUN) -m mkdocs build -q
	@echo "the documentation is in site/index.html"

test: lint
	$(RUN) -m pytest -m "not slow" $(PARALLEL)

test-slow: lint
	XLA_FLAGS=--xla_backend_optimization_level=3 $(RUN) -m pytest $(PARALLEL)

# In a new environment and an empty folder, as its user has it.
WHEEL = .venv-wheel

test-wheel:
	rm -rf dist build $(WHEEL)
	$(PYTHON) -m venv $(WHEEL)
	$(WHEEL)/bin/python -m pip --disable-pip-version-check -q wheel --no-deps -w dist .
	$(WHEEL)/bin/python -m pip --disable-pip-version-check -q install dist/*.whl
	$(WHEEL)/bin/python tests/use_wheel.py dist/*.whl

# An environment of its own: with the CUDA plugin in it, JAX complains where there is no GPU.
COMPILE = .venv-compile

$(COMPILE)/.made: setup.cfg setup.py pyproject.toml
	$(PYTHON) -m venv $(COMPILE)
	$(COMPILE)/bin/python -m pip --disable-pip-version-check -q install -e '.[plan,train]' "pytest>=8.3,<10"
	touch $@

plan-environment: $(COMPILE)/.made

test-compile: $(COMPILE)/.made
	JAX_SKIP_CUDA_CONSTRAINTS_CHECK=1 $(COMPILE)/bin/python -m pytest tests/compile_only

lint: $(VENV)/.made-$(EXTRAS)
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

format: $(VENV)/.made-$(EXTRAS)
	$(VENV)/bin/ruff format .
	$(VENV)/bin/ruff check --fix .

clean:
	rm -rf $(VENV) $(COMPILE) $(WHEEL) build dist .pytest_cache .ruff_cache site
