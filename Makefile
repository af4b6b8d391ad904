# `make demo` and `make test` are all the set-up there is: each makes .venv with the versions pinned in
# constraints.txt, then runs. Needed: Python 3.11 or later, make, the network.

SHELL := /bin/sh
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: demo test containers check docs lint constraints clean help

# The first interpreter that is new enough; `make test PYTHON=/path/to/python` overrides.
PYTHON ?= $(shell for python in python3 python3.13 python3.12 python3.11; do \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$python && break; done)
BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
# More for the program that a target runs: make test ARGS='-m "not kafka" -x'
ARGS ?=
# Most of a test of the stream is waiting, for brokers and for Ray: two files at a time, each with a broker and a Ray of
# its own. PROCESSES=0 runs them in one process, for -s and --pdb.
PROCESSES ?= 2

demo: .venv/.installed ## see it all run: broker, simulated alerts, classifier, accounts (a few minutes)
	$(BIN)/space2vec demo $(ARGS)

test: .venv/.installed ## run every test, on the best Kafka broker to be had (ARGS='...' goes to pytest)
	$(BIN)/python -m pytest -n $(PROCESSES) --dist loadfile $(ARGS)

containers: .venv/.installed ## try the compose file for real; on Debian and as root installs what it needs (docs/containers.md)
	deploy/containers/engine.sh deploy/containers/trial.sh $(ARGS)

docs: .venv/.installed-lint ## build the documentation's site into build/site; warnings are errors
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet

check: .venv/.installed-lint ## lint, format, types, and which room may import which
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy -p space2vec
	PYTHONPATH=.typing $(BIN)/lint-imports --no-logo

lint: .venv/.installed-lint ## put right what ruff can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

constraints: .venv/.installed-lint ## pin what .venv holds now (after: .venv/bin/pip install -U ...)
	{ grep '^#' constraints.txt; \
	  $(PIP) freeze --all --exclude-editable | grep -vE '^(#|-e|pip==|nvidia-|cuda-|triton==)'; } > .venv/pins
	cp .venv/pins constraints.txt

clean: ## remove what building, testing and the demo leave behind (not .venv)
	rm -rf build dist *.egg-info demo-out .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +

help: ## say this
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | awk -F '\t' '{printf "make %-12s %s\n", $$1, $$2}'

.venv/bin/python:
	@test -n "$(PYTHON)" || { echo "space2vec needs Python 3.11 or later; found none (PYTHON=... names one)" >&2; exit 1; }
	$(PYTHON) -m venv .venv

# setuptools comes first, so that building space2vec itself uses the pinned one too.
.venv/.installed: pyproject.toml constraints.txt | .venv/bin/python
	@echo "installing into .venv (once; torch and its CUDA libraries are about 3 GB, so this takes minutes)"
	$(PIP) install -c constraints.txt setuptools
	$(PIP) install -c constraints.txt --no-build-isolation -e '.[demo,training,test,rubin]'
	@touch $@

.venv/.installed-lint: .venv/.installed
	$(PIP) install -c constraints.txt --no-build-isolation -e '.[demo,training,test,rubin,lint,docs]'
	@touch $@
