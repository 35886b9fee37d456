# Every target makes the virtual environment it needs.
# The first that runs: a name on the PATH may be a shim with nothing behind.
PYTHON ?= $(shell for p in python3.12 python3.11 python3.13 python3; do \
  $$p -c 'import venv' 2>/dev/null && echo $$p && break; done)
VENV := .venv
BIN := $(VENV)/bin
WORKDIR ?= runs/demo

.PHONY: install demo test lint format types docs bench clean

$(VENV)/installed: setup.py requirements.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install -q --disable-pip-version-check -r requirements.txt -e .
	touch $@

$(VENV)/installed-test: $(VENV)/installed requirements-test.txt
	$(BIN)/pip install -q --disable-pip-version-check -r requirements-test.txt
	touch $@

install: $(VENV)/installed

demo: $(VENV)/installed
	$(BIN)/recjax train --gin_file=runs/sasrec_planted.gin --workdir=$(WORKDIR)
	$(BIN)/recjax report $(WORKDIR) --out=$(WORKDIR)/report

test: $(VENV)/installed-test
	$(BIN)/python -m pytest -n 2 --dist loadfile

lint: $(VENV)/installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(VENV)/installed-test
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

types: $(VENV)/installed-test
	$(BIN)/pyright

docs: $(VENV)/installed
	$(BIN)/pip install -q --disable-pip-version-check -e '.[docs]'
	$(BIN)/mkdocs build --strict --site-dir site

bench: $(VENV)/installed
	$(BIN)/pip install -q --disable-pip-version-check -e '.[benchmarks]'
	$(BIN)/python -m benchmarks

clean:
	rm -rf $(VENV) site
