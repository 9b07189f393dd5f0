# The commands of the house: `make` lists them. The environment in .venv is made on first use and
# again only when pyproject.toml or constraints.txt changed.

PYTHON ?= python3
PYTEST_ARGS ?=
# What the tests need from a Debian system beside Python: a real sshd, sshfs, network namespaces, ps,
# a browser.
DEBIAN_PACKAGES ?= openssh-server sshfs iproute2 procps chromium fonts-dejavu-core

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.stamp
# Cells, tests and benchmarks find `jupyter`, `torchrun` and `python` where an activated
# environment has them.
ACTIVATED := PATH="$(CURDIR)/$(BIN):$$PATH" VIRTUAL_ENV="$(CURDIR)/$(VENV)"
# Files that begin with an underscore are shared by benchmarks and are none themselves.
BENCHMARKS = $(basename $(notdir $(sort $(wildcard benchmarks/[!_]*.py))))

.DEFAULT_GOAL := help
.PHONY: help demo lab test check bench clean debian-packages

help: ## list these commands
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-6s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

demo: $(STAMP) ## run the quickstart notebook here, in the terminal
	@$(ACTIVATED) $(BIN)/python example_notebooks/execute.py example_notebooks/01_quickstart.ipynb

lab: $(STAMP) ## open JupyterLab on the example notebooks
	@echo "Opening JupyterLab on example_notebooks (Ctrl-C ends it)"
	@$(ACTIVATED) $(BIN)/python -m jupyterlab example_notebooks $(if $(filter 0,$(shell id -u)),--allow-root)

test: $(STAMP) debian-packages ## run the tests, two at a time (PYTEST_ARGS="..." adds options)
	@$(ACTIVATED) $(BIN)/python -m pytest -n 2 --dist loadgroup $(PYTEST_ARGS)

check: $(STAMP) ## lint, formatting, types and the import rule
	@echo "Linting (ruff check)" && $(BIN)/python -m ruff check
	@echo "Formatting (ruff format --check)" && $(BIN)/python -m ruff format --check
	@echo "Types (mypy)" && $(BIN)/python -m mypy
	@echo "Import rule (lint-imports)" && $(BIN)/lint-imports --no-logo

bench: $(STAMP) ## measure speed; each program prints its table
	@for name in $(BENCHMARKS); do \
		echo "== python -m benchmarks.$$name"; \
		$(ACTIVATED) $(BIN)/python -m benchmarks.$$name || exit 1; \
	done

clean: ## remove the environment and everything that was built
	@rm -rf $(VENV) build dist *.egg-info htmlcov .coverage .coverage.*
	@rm -rf .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	@find . -path ./.git -prune -o -type d \( -name __pycache__ -o -name .ipynb_checkpoints \) -prune -exec rm -rf {} +
	@echo "Removed the environment and the build leftovers"

# The stamp is touched last: an installation that was interrupted is taken up again.
$(STAMP): pyproject.toml constraints.txt
	@started=$$(date +%s); \
	if [ -x $(BIN)/pip ]; then \
		echo "Bringing the environment ($(VENV)) up to date"; \
	else \
		$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null || { \
			echo "error: Python 3.10 or newer is needed, found: $$($(PYTHON) --version 2>&1 | tail -n 1)"; \
			echo "hint: make PYTHON=python3.11 test"; exit 1; }; \
		echo "Making the environment ($(VENV)), two to five minutes the first time"; \
		$(PYTHON) -m venv $(VENV) || exit 1; \
	fi; \
	$(BIN)/python -m pip install -qq --disable-pip-version-check -c constraints.txt -e ".[bench,dev,examples,test]" \
		|| { echo "error: pip could not install the packages (its message is above)"; \
		     echo "hint: check the network and try again; make clean starts afresh"; exit 1; }; \
	touch $@; \
	echo "The environment is ready ($$(($$(date +%s) - started)) s)"

debian-packages:
	@command -v dpkg >/dev/null 2>&1 || exit 0; \
	missing=""; \
	for package in $(DEBIAN_PACKAGES); do \
		dpkg -s $$package 2>/dev/null | grep -q '^Status: install ok installed' || missing="$$missing $$package"; \
	done; \
	[ -n "$$missing" ] || exit 0; \
	if [ "$$(id -u)" != 0 ]; then \
		echo "Missing Debian packages:$$missing (tests that need them will say so)"; \
		echo "hint: sudo apt-get install$$missing"; exit 0; \
	fi; \
	echo "Installing Debian packages:$$missing"; \
	said=$$( { apt-get update -qq && DEBIAN_FRONTEND=noninteractive \
		apt-get install -y -qq --no-install-recommends $$missing; } 2>&1 ) || { \
		echo "$$said" | tail -n 3; \
		echo "warning: apt-get could not install$$missing; tests that need them will say so"; }
