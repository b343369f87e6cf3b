# What a developer types. Each target installs what it needs first; `make help` lists them.

.DEFAULT_GOAL := help

BIN := .venv/bin

.PHONY: help setup packages-build packages-tests run test lint bench clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-15s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo
	@echo '  YES=1 (or CI) installs missing packages without asking, PYTHON names the interpreter for .venv,'
	@echo '  LIBVIRT_URI is the libvirt that `make run` watches (else it makes VMs of its own).'

setup: ## install what is missing: packages of the system (asks), .venv
	@packaging/setup

packages-build: ## only the packages for building .venv
	@packaging/setup packages build

packages-tests: ## only the packages for the tests and the demo
	@packaging/setup packages tests

run: setup ## the demo: a panel, a master and a node on this machine
	$(BIN)/vmwatch demo $(if $(LIBVIRT_URI),--libvirt-uri "$(LIBVIRT_URI)")

test: setup ## all tests
	$(BIN)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder

lint: setup ## style and types
	$(BIN)/ruff check .
	$(BIN)/mypy

bench: setup ## measurements; they take some minutes
	$(BIN)/python -m bench

clean: ## remove .venv, caches and build products
	rm -rf .venv build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis *.egg-info src/*.egg-info
	find . -name .git -prune -o -type d -name __pycache__ -exec rm -rf {} +
