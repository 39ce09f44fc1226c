# `make` alone lists the verbs. Every verb sets up what it needs in .venv by itself.
PYTHON ?= python3
BIN := .venv/bin
DATA ?= data
ARGS ?=

.DEFAULT_GOAL := help

help:  ## list the verbs
	@grep -E '^[a-z-]+:.*##' Makefile | sed -E 's/:.*## /\t/' | expand -t 14

.venv/ready: pyproject.toml requirements.lock tools/setup.sh
	@PYTHON=$(PYTHON) sh tools/setup.sh

setup: .venv/ready  ## make .venv with everything that the other verbs need

serve: .venv/ready  ## serve ./data on http://127.0.0.1:3000 (DATA=folder, ARGS=flags)
	$(BIN)/holdfast serve --data $(DATA) $(ARGS)

test: .venv/ready  ## the tests that every change must pass
	@sh tools/peers.sh
	$(BIN)/python -m pytest -m 'not slow' -n 3 --dist loadgroup -rs $(ARGS)

test-long: .venv/ready  ## all tests, with the long proofs
	@sh tools/peers.sh
	$(BIN)/python -m pytest -n 2 --dist loadgroup -rs --timeout 7200 $(ARGS)

check: .venv/ready  ## format, lint, types, floors, spelling
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	@for part in 'src bench' tests/*.py $(sort $(dir $(wildcard tests/*/*.py))); do \
		set -- $$part; $(BIN)/mypy --no-error-summary $$@ || exit 1; done
	$(BIN)/lint-imports
	$(BIN)/codespell
	$(BIN)/python -m pytest -q -p no:randomly tests/test_tidy.py tests/test_docs.py

format: .venv/ready  ## rewrite the code in the house format
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: .venv/ready  ## measure beside nginx and SeaweedFS; the table goes to bench/results
	$(BIN)/python -m bench $(ARGS)

lock: .venv/ready  ## pin the newest versions of all dependencies
	$(BIN)/python -m pip install --quiet uv
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --all-extras \
		--group dev --no-emit-index-url --no-header --upgrade pyproject.toml -o requirements.lock

clean:  ## remove what the verbs made, but no data
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache bench/.work

.PHONY: help setup serve test test-long check format bench lock clean
