# Every target does its own set-up: it needs python3 (3.11 or newer) and make, nothing else.
#   make test      run the tests              make compare   train and compare three softmaxes, write a report
#   make quick     those that are not slow    make lock      renew constraints.txt from pyproject.toml
#   make check     lint, format, types, docs
#   make docs      the site of docs/, in build/site: under a minute; it needs no network
#   make campaign  bad input and kills, tried on every reader and verb: some minutes
PYTHON ?= python3
VENV ?= .venv
UV_VERSION := 0.13.9
# Processes that share the tests; `make test JOBS=8` where there are more cores.
JOBS ?= 2
BIN := $(VENV)/bin
LAB := $(VENV)/.lab
INSTALLED := $(VENV)/.installed
# Wheels that pip is told to look for beside the index are offered to uv too; empty is fine.
export UV_FIND_LINKS := $(or $(PIP_FIND_LINKS),$(shell $(PYTHON) -m pip config get global.find-links 2>/dev/null))

.PHONY: install test quick check docs format compare campaign lock clean
.DEFAULT_GOAL := test

install: $(INSTALLED)

# The lab alone, which is all that `make compare` needs.
$(LAB): pyproject.toml setup.py src/softmaxes/heads/hierarchical/compiled.cpp src/softmaxes/rows.cpp \
		src/softmaxes/rounded.cpp src/softmaxes/native.h pins.txt constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "softmaxes: expected Python 3.11 or newer, got " + sys.version.split()[0])'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)
	$(BIN)/uv pip install --python $(BIN)/python --compile-bytecode \
		-c pins.txt -c constraints.txt -e '.[lab]'
	@touch $@

# What the tests, the linters and the benchmarks need, too.
$(INSTALLED): $(LAB)
	$(BIN)/uv pip install --python $(BIN)/python --compile-bytecode \
		-c pins.txt -c constraints.txt -e '.[lab,dev,docs]'
	@touch $@

# Bytecode is kept, whatever the shell says: pytest would rewrite every test anew in each process, five seconds each.
test quick: export PYTHONDONTWRITEBYTECODE :=

test: $(INSTALLED)
	$(BIN)/python -m pytest -n $(JOBS) --dist worksteal

quick: $(INSTALLED)
	$(BIN)/python -m pytest -n $(JOBS) --dist worksteal -m "not slow"

check: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/codespell
	$(MAKE) docs

# Every warning is an error, a page that would load anything from elsewhere too. The notebook among the pages is run.
docs: $(INSTALLED)
	$(BIN)/python -m sphinx --fail-on-warning --keep-going --fresh-env --quiet -b html -d build/doctrees docs build/site
	@echo build/site/index.html

format: $(INSTALLED)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# `make compare ARGS="--data cifar100 --data-dir cifar-100-python.tar.gz"` hands options on.
compare: $(LAB)
	$(BIN)/softmaxes compare $(ARGS)

# `make campaign ARGS=--help` says what it takes.
campaign: $(INSTALLED)
	PYTHONPATH=tests $(BIN)/python -m campaign $(ARGS)

# Universal and hashed, without torch, so that one lock serves every platform and every build of torch.
lock: $(INSTALLED)
	env -u UV_FIND_LINKS $(BIN)/uv pip compile --no-config --universal --python-version 3.11 --generate-hashes \
		--no-annotate --no-emit-package torch --extra lab --extra dev --extra docs -c pins.txt --upgrade \
		--custom-compile-command 'make lock' -o constraints.txt pyproject.toml

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache
