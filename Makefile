SHELL := /bin/bash
HOST_PATH := $(PATH)
VENV := .venv
STAMP := $(VENV)/.stamp
BIN := $(VENV)/bin
PYTHONS ?= python3.12 python3.11 python3
EXTRAS ?= dev
RIGHT := import ensurepip, sys, venv; sys.exit(sys.version_info[:2] not in ((3, 11), (3, 12)))
export PATH := $(CURDIR)/$(BIN):$(PATH)

.DEFAULT_GOAL := help
.PHONY: help setup repro test slow lint results ablations docs

help: ## Show this list
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /  make \1	/' | expand -t 18

setup: $(STAMP) ## Install everything into .venv (the other targets do so where needed)

$(STAMP): pyproject.toml constraints.txt
	@if ! $(BIN)/python -c '$(RIGHT)' 2>/dev/null; then \
	  for candidate in $(PYTHONS); do \
	    if PATH='$(HOST_PATH)' "$$candidate" -c '$(RIGHT)' 2>/dev/null; then found="$$candidate"; break; fi; \
	  done; \
	  if [ -z "$${found:-}" ]; then \
	    echo "error: needs Python 3.11 or 3.12 with venv (tried $(PYTHONS)); install one," \
	      "or name it: make setup PYTHONS=/path/to/python3.12" >&2; exit 1; \
	  fi; \
	  PATH='$(HOST_PATH)' "$$found" -m venv --clear $(VENV); \
	fi
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[$(EXTRAS)]' --constraint constraints.txt
	@touch $@

repro: $(STAMP) ## Run the pipeline; what has not changed is not run again
	$(BIN)/wsol repro $(ARGS)

test: $(STAMP) ## Run the quick tests, a process per core
	$(BIN)/python -m pytest --numprocesses auto --dist loadfile --no-loadscope-reorder $(ARGS)

slow: $(STAMP) ## Run the tests that take longer than ten seconds
	$(BIN)/python -m pytest -m slow $(ARGS)

lint: $(STAMP) ## Check style and types
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

results: $(STAMP) ## Print the figures and put them into docs/results
	$(BIN)/wsol results
	$(BIN)/wsol results --write

ablations: $(STAMP) ## What the tables for the preset in use lack (or TABLES=...), and how long it takes; ARGS=--yes runs it
	$(BIN)/wsol ablate $(or $(TABLES),--all) $(ARGS)

docs: $(STAMP) ## Build the site into site/ (its tools: make setup EXTRAS=dev,docs)
	$(BIN)/mkdocs build --strict
