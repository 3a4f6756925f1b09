# Two commands do everything on a machine with Python 3.11+ and a C compiler:
#   make demo    create the environment, build, run the main job
#   make test    the same, run all tests, those of the host packages included
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

# A host package that an adapter serves has a folder of tests and an environment of its own,
# because the hosts' pins clash (numpy 1 against 2). What is tested there is the wheel.
HOSTS := $(notdir $(patsubst %/,%,$(dir $(wildcard tests/adapters/*/requirements.txt))))

.PHONY: demo test packages test-core test-artifacts bench docs lint wheel clean $(HOSTS:%=test-%)

demo: $(VENV)/.built
	$(BIN)/ringwalk demo

test: packages test-core test-artifacts $(HOSTS:%=test-%)

packages:
	.ci/packages

test-core: $(VENV)/.built-test
	$(BIN)/python -m pytest

test-artifacts: $(VENV)/.built-test dist/.built
	$(BIN)/python -m pytest tests/artifacts

$(HOSTS:%=test-%): test-%: $(VENV)-%/.built
	$(VENV)-$*/bin/python -m pytest tests/adapters/$*

bench: $(VENV)/.built-bench $(VENV)-profit/.built
	$(BIN)/python -m pytest benchmarks --benchmark-columns=min,median,iqr,rounds

docs: $(VENV)/.built-docs
	$(BIN)/python -m sphinx -q -W --keep-going docs build/site

lint: $(VENV)/.built-lint
	PATH="$(abspath $(BIN)):$$PATH" pre-commit run --all-files

wheel: dist/.built

SOURCES := pyproject.toml setup.py $(shell find ext -name '*.[ch]' -o -name '*.pyx' -o -name '*.pxd')
MODULES := $(shell find src/ringwalk -name '*.py' -o -name '*.pyi')

dist/.built: $(VENV)/.made $(SOURCES) $(MODULES)
	rm -rf dist build/dist
	mkdir -p build
	$(BIN)/pip install --quiet --group wheel
	$(BIN)/python -m build --outdir build/dist . > build/dist.log || { cat build/dist.log; exit 1; }
	PATH="$(abspath $(BIN)):$$PATH" auditwheel repair --wheel-dir dist build/dist/*.whl
	mv build/dist/*.tar.gz dist
	touch $@

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

$(VENV)-%/.made: tests/adapters/%/requirements.txt
	$(PYTHON) -m venv --clear $(VENV)-$*
	$(VENV)-$*/bin/pip install --quiet --upgrade pip
	$(VENV)-$*/bin/pip install --quiet -r $<
	touch $@

$(VENV)-%/.built: $(VENV)-%/.made dist/.built
	$(VENV)-$*/bin/pip install --quiet --force-reinstall --no-deps dist/ringwalk-*.whl
	$(VENV)-$*/bin/pip install --quiet dist/ringwalk-*.whl
	touch $@

.PRECIOUS: $(VENV)-%/.made

clean:
	rm -rf $(VENV) $(VENV)-* build dist src/*.egg-info src/ringwalk/_core/*.so
