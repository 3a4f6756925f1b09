# Two commands do everything on a machine with Python 3.11+ and a C compiler:
#   make demo    create the environment, build, run the main job
#   make test    the same, run all tests
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: demo test bench lint wheel clean

demo: $(VENV)/.built
	$(BIN)/ringwalk demo

test: $(VENV)/.built-test
	$(BIN)/python -m pytest

bench: $(VENV)/.built-bench
	$(BIN)/python -m pytest benchmarks --benchmark-columns=min,median,iqr,rounds

lint: $(VENV)/.built-lint
	PATH="$(abspath $(BIN)):$$PATH" pre-commit run --all-files

wheel: $(VENV)/.made
	$(BIN)/pip wheel --no-deps -w dist .

SOURCES := pyproject.toml setup.py $(shell find ext -name '*.[ch]' -o -name '*.pyx' -o -name '*.pxd')

$(VENV)/.made:
	$(PYTHON) -c 'import sys; assert sys.version_info >= (3, 11), "Ringwalk needs Python 3.11 or newer, this is " + sys.version'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --upgrade pip
	touch $@

$(VENV)/.built: $(VENV)/.made $(SOURCES)
	$(BIN)/pip install --quiet --editable .
	touch $@

$(VENV)/.built-%: $(VENV)/.built
	$(BIN)/pip install --quiet --editable '.[$*]'
	touch $@

clean:
	rm -rf $(VENV) build dist src/*.egg-info src/ringwalk/_core/*.so
