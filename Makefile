# Everything runs in .venv, which is made from constraints.txt; nothing needs root or a GPU.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready

.PHONY: help demo test test-slow lint types stubs contract check clean

help:
	@echo "make demo       see the whole path run: events, training, Redis, Ray, scores over gRPC"
	@echo "make test       run the tests"
	@echo "make test-slow  run the tests that take longer"
	@echo "make check      lint, types, stub drift, the contract, all tests"
	@echo "make clean      remove .venv and var"

demo: $(READY)
	$(BIN)/recollect demo $(ARGS)

test: $(READY)
	$(BIN)/python -m pytest -m "not slow" $(ARGS)

test-slow: $(READY)
	$(BIN)/python -m pytest -m slow $(ARGS)

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(READY)
	$(BIN)/mypy

stubs: $(READY)
	$(BIN)/python .ci/generate-stubs --check

contract: $(READY)
	$(BIN)/python .ci/contract

check: lint types stubs contract test test-slow

$(READY): constraints.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Recollect needs Python 3.11 or newer; found $$($(PYTHON) --version). Try: make PYTHON=python3.11 $(MAKECMDGOALS)"; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

clean:
	rm -rf .venv var
