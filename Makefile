# Everything a newcomer needs: `make quickstart` and `make test`. PYTHON=python3.12 picks another interpreter for a new .venv.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/ready

.PHONY: help install quickstart test test-long lint clean

help:
	@echo "make quickstart   install into $(VENV), run the whole job on a simulated shop, print the report"
	@echo "make test         install, lint, run the tests"
	@echo "make test-long    the tests that take longer"

install: $(READY)

$(READY): setup.py
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "jaxrec needs Python 3.11 or newer; got " + sys.version.split()[0] + "; try PYTHON=python3.12 make")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[dev]"
	touch $(READY)

quickstart: $(READY)
	$(BIN)/python -m launch.experiment --flagfile=configs/quickstart.flags

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

test: lint
	$(BIN)/python -m pytest -m "not long" -n 2 --dist loadfile

test-long: $(READY)
	$(BIN)/python -m pytest -m long

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .ruff_cache runs
