# Two commands do everything on a machine with Python 3.11+ and a C compiler:
#   make demo    create the environment, build, run the main job
#   make test    the same, run all tests, those of the host packages included
# A third for who changes something:
#   make check   the short tests
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

# A host package that an adapter serves has a folder of tests and an environment of its own,
# because the hosts' pins clash (numpy 1 against 2). What is tested there is the wheel.
HOSTS := $(notdir $(patsubst %/,%,$(dir $(wildcard tests/adapters/*/requirements.txt))))

# Every environment is made from a lock: exact versions, with hashes. What builds a source is locked
# as well, so pip must not build in an environment of its own making.
INSTALL := -m pip install --quiet --disable-pip-version-check --no-build-isolation
LOCKED := $(INSTALL) --require-hashes --requirement

.PHONY: demo test check test-python packages test-core test-artifacts bench docs lint wheel lock clean
.PHONY: $(HOSTS:%=test-%)

demo: $(VENV)/.built
	$(BIN)/ringwalk demo

# Every suite runs, also after one that failed, and one table ends the run.
test: packages
	$(PYTHON) .ci/suites.py core artifacts $(HOSTS)

# What one waits for before each commit: the core suite's short tests.
check: $(VENV)/.with-test $(VENV)/.built
	$(BIN)/python -m pytest -m "not slow" --ignore=tests/native --ignore=tests/test_docs_site.py

# The core suite on another Python, in an environment of its own: make test-python PYTHON=python3.14
test-python:
	$(MAKE) test-core VENV=.venv-$(notdir $(PYTHON)) PYTHON=$(PYTHON)

packages:
	.ci/packages

test-core: $(VENV)/.with-test $(VENV)/.built
	$(BIN)/python -m pytest --junitxml=build/results/core.xml

test-artifacts: $(VENV)/.with-test $(VENV)/.built dist/.built
	$(BIN)/python -m pytest tests/artifacts -m "not newest" --junitxml=build/results/artifacts.xml

$(HOSTS:%=test-%): test-%: $(VENV)-%/.built
	$(VENV)-$*/bin/python -m pytest tests/adapters/$* --junitxml=build/results/$*.xml

bench: $(VENV)-bench/.built $(VENV)-profit/.built
	$(VENV)-bench/bin/python -m pytest benchmarks --benchmark-columns=min,median,iqr,rounds

docs: $(VENV)/.with-docs $(VENV)/.built
	$(BIN)/python -m sphinx -q -W --keep-going docs build/site

lint: $(VENV)/.with-docs $(VENV)/.built
	PATH="$(abspath $(BIN)):$$PATH" pre-commit run --all-files

# Newer versions of everything, as one change to look at.
lock: $(VENV)-uv/.made
	PATH="$(abspath $(VENV)-uv/bin):$$PATH" $(VENV)-uv/bin/python requirements/lock.py

wheel: dist/.built

SOURCES := pyproject.toml setup.py $(shell find ext -name '*.[ch]' -o -name '*.pyx' -o -name '*.pxd')
MODULES := $(shell find src/ringwalk -name '*.py' -o -name '*.pyi')

dist/.built: $(VENV)/.with-run $(VENV)/.with-wheel $(SOURCES) $(MODULES)
	rm -rf dist build/dist
	mkdir -p build
	$(BIN)/python -m build --no-isolation --outdir build/dist . > build/dist.log || { cat build/dist.log; exit 1; }
	PATH="$(abspath $(BIN)):$$PATH" auditwheel repair --wheel-dir dist build/dist/*.whl
	mv build/dist/*.tar.gz dist
	touch $@

define MAKE_ENVIRONMENT
	$(PYTHON) -c 'import sys; assert sys.version_info >= (3, 11), "Ringwalk needs Python 3.11 or newer, this is " + sys.version'
	$(PYTHON) -m venv --clear $(@D)
	$(@D)/bin/python $(LOCKED) requirements/installer.txt
endef

$(VENV)/.made: requirements/installer.txt
	$(MAKE_ENVIRONMENT)
	touch $@

$(VENV)/.with-%: requirements/%.txt $(VENV)/.made
	$(BIN)/python $(LOCKED) $<
	touch $@

$(VENV)/.built: $(VENV)/.with-run $(SOURCES)
	$(BIN)/python $(INSTALL) --no-deps --editable .
	touch $@

# Numpy first: geomm, which wepy needs, is a source whose setup.py imports it.
define INSTALL_LOCKED
	sed -n '/^numpy==/,/[^\\]$$/p' $< > $(@D)/numpy.txt
	$(@D)/bin/python $(LOCKED) $(@D)/numpy.txt
	$(@D)/bin/python $(LOCKED) $<
endef

# An environment of its own, of a host or of the benchmarks.
$(VENV)-%/.made: tests/adapters/%/requirements.txt requirements/installer.txt
	$(MAKE_ENVIRONMENT)
	$(INSTALL_LOCKED)
	touch $@

$(VENV)-%/.made: requirements/%.txt requirements/installer.txt
	$(MAKE_ENVIRONMENT)
	$(INSTALL_LOCKED)
	touch $@

$(VENV)-%/.built: $(VENV)-%/.made dist/.built
	$(@D)/bin/python $(INSTALL) --force-reinstall --no-deps dist/ringwalk-*.whl
	touch $@

.PRECIOUS: $(VENV)-%/.made $(VENV)/.with-%

clean:
	rm -rf $(VENV) $(VENV)-* build dist src/*.egg-info src/ringwalk/_core/*.so
