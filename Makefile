# Everything starts here: `make demo`. Needs Python 3.11, make and a C library; no Docker, no root.
# Each target does what it needs beforehand and nothing twice.

PYTHON ?= $(shell command -v python3.11 || command -v python3 || echo python3.11)
VENV := .venv
BIN := $(VENV)/bin
ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help setup demo test faults verify lint clean

help: ## Say what can be made
	@echo "Upwell: make TARGET [PYTHON=/path/to/python3.11] [ARGS='more arguments for the command']"
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  \1\t\2/p' $(MAKEFILE_LIST) | expand -t 12

# An interpreter of the wrong version, or without venv, is said before anything is made.
$(VENV)/.created:
	@'$(PYTHON)' -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' 2>/dev/null || { \
	  echo "Upwell needs Python 3.11, and '$(PYTHON)' is not that. Install it (Debian, Ubuntu: python3.11 and python3.11-venv;" >&2; \
	  echo "elsewhere: uv python install 3.11, pyenv or conda), then: make setup PYTHON=/path/to/python3.11" >&2; exit 2; }
	@'$(PYTHON)' -c 'import ensurepip, venv' 2>/dev/null || { \
	  echo "'$(PYTHON)' has no venv module: install the package python3.11-venv" >&2; exit 2; }
	@echo "Creating $(VENV) with $$('$(PYTHON)' -c 'import sys; print(sys.version.split()[0], sys.executable)')"
	@'$(PYTHON)' -m venv $(VENV)
	@touch $@

$(VENV)/.uv: requirements-uv.lock | $(VENV)/.created
	@echo "Installing uv"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-uv.lock
	@touch $@

$(VENV)/.installed: requirements.lock pyproject.toml $(VENV)/.uv
	@echo "Installing the locked packages (3 GB to fetch, mostly torch; once)"
	@$(BIN)/python .ci/install.py
	@touch $@

setup: $(VENV)/.installed ## Create .venv, fetch servers, model weights and data (once; then in a second)
	@$(BIN)/upwell setup

demo: setup ## Real Kafka, Postgres and Triton; MovieLens-100K turned into re-rankings and texts before your eyes
	@$(BIN)/upwell demo $(ARGS)

test: setup ## The whole test suite on the real parts
	@$(BIN)/python -m pytest $(ARGS)

faults: setup ## Kill and stop everything for ten minutes (HOURS=1, SEED=...); an outsider proves nothing lost or doubled
	@$(BIN)/python tests/faults $(if $(HOURS),--hours $(HOURS)) $(if $(SEED),--seed $(SEED)) $(ARGS)

verify: setup ## Full-size figures, resumable; dated JSON under docs/results/
	@$(BIN)/upwell verify $(ARGS)

lint: $(VENV)/.installed ## ruff, mypy, import rules
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check
	@$(BIN)/mypy
	@$(BIN)/lint-imports

clean: ## Remove .venv, caches and build folders; downloads and the local stack's data stay
	@rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
