# Each goal sets up all it needs: a virtual environment in .venv, the compiled core, the dependencies.
# On a fresh Debian: apt-get install python3 python3-venv python3-dev gcc make

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
CORE := $(wildcard csrc/*/*.[ch]) $(wildcard fabricsim/_core/*.p[yx][xdi]) setup.py pyproject.toml
# What the tests install; CI adds torch, which is large: EXTRAS=test,torch
EXTRAS ?= test
comma := ,
TESTED := $(VENV)/.$(subst $(comma),-,$(EXTRAS))

.PHONY: help demo test check asan bench docs format clean

help:
	@echo "make demo    replay a training step of 64 GPUs that ships with the project"
	@echo "make test    every test; those of torch with EXTRAS=test,torch"
	@echo "make check   the tests, format, lint, types and the C tests under sanitizers"
	@echo "make asan    the C tests under AddressSanitizer and UndefinedBehaviorSanitizer"
	@echo "make docs    the site: build/site/index.html, which needs no network"
	@echo "make bench   speed and instructions per packet-hop (needs valgrind for the latter)"
	@echo "make format  format the code;  make clean  remove what was built"

demo: $(VENV)/.run
	$(BIN)/fabricsim demo

test: $(TESTED)
	$(BIN)/python -m pytest -n auto --dist loadfile

check: $(VENV)/.check test asan
	$(BIN)/ruff format --check .
	$(BIN)/clang-format --dry-run --Werror csrc/*/*.[ch] benches/*.c tests/c/*.[ch]
	$(BIN)/ruff check .
	$(BIN)/mypy

asan:
	$(MAKE) -C tests/c run

bench: $(VENV)/.run
	$(BIN)/python benches/run.py

docs: $(VENV)/.docs
	$(BIN)/python -m sphinx --fail-on-warning --keep-going --quiet --jobs auto -d build/doctrees docs build/site
	@echo "build/site/index.html"

format: $(VENV)/.check
	$(BIN)/clang-format -i csrc/*/*.[ch] benches/*.c tests/c/*.[ch]
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

$(BIN)/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "fabricsim needs Python 3.11 or newer; set PYTHON")'
	$(PYTHON) -m venv $(VENV)

# The stamps say which of the dependencies are there; each builds on the one before.
$(VENV)/.run: $(BIN)/python $(CORE)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e .
	touch $@

$(TESTED): $(VENV)/.run
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[$(EXTRAS)]'
	touch $@

$(VENV)/.check: $(TESTED)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[check]'
	touch $@

$(VENV)/.docs: $(VENV)/.run
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[docs]'
	touch $@

clean:
	rm -rf $(VENV) build docs/api *.egg-info fabricsim/_core/engine.c fabricsim/_core/*.so
	$(MAKE) -C tests/c clean
