# Everything is installed into $(VENV); docs/installation.md explains what and why.

PYTHON ?= python3
VENV ?= .venv
TORCH_VERSION ?= 2.13.0
# Index for torch alone, e.g. the CPU index named on PyTorch's installation page; empty: pip's own.
TORCH_INDEX ?=
FIFTYONE_VERSION ?= 1.22.1
DATASET ?= motive-demo
ARGS ?=
PYTEST_ARGS ?=
# Processes that share the tests, at most: each has a database and a torch of its own.
WORKERS ?= 4

BIN := $(VENV)/bin
# pip-audit has dependencies of its own, which are not ours to have or to audit.
AUDIT := $(VENV)/audit
PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check --no-input install
# Named after the version, so that another TORCH_VERSION installs anew.
STAMP := $(VENV)/.installed-torch-$(TORCH_VERSION)
TYPED := motive_fo cli plugin scripts

.DEFAULT_GOAL := help
.PHONY: help install database demo app test test-slow test-app test-s3 coverage mutants lint audit clean distclean

help: ## print these targets
	@echo "Targets:"
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-11s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))
	@echo "Variables: PYTHON VENV TORCH_VERSION TORCH_INDEX ARGS DATASET PYTEST_ARGS WORKERS (docs/installation.md)"

install: $(STAMP) database ## install everything into .venv, database included (once; later runs only check)

demo: install ## synthesise clips, score them, leave a dataset and an export (ARGS="--videos DIR")
	$(BIN)/motive demo $(ARGS)

app: install ## open DATASET (motive-demo) in the FiftyOne App
	$(BIN)/motive app $(DATASET) $(ARGS)

test: lint ## lint, type checks and the tests (PYTEST_ARGS="-k name")
	$(BIN)/pytest --numprocesses=auto --maxprocesses=$(WORKERS) --dist=loadfile $(PYTEST_ARGS)

test-slow: install ## the tests that take minutes
	$(BIN)/pytest -m slow $(PYTEST_ARGS)

test-app: install ## the tests that drive the App in Chromium, which has to be installed
	@command -v chromium >/dev/null || command -v chromium-browser >/dev/null || command -v google-chrome >/dev/null || \
	  { echo "make test-app needs Chromium (Debian: apt install chromium)." >&2; exit 1; }
	@$(BIN)/python -c 'import playwright' 2>/dev/null || $(PIP) playwright
	$(BIN)/pytest -m app $(PYTEST_ARGS)

# not among the development tools: their boto is older than FiftyOne's own choice
test-s3: install ## the tests of stores in a bucket, against a server of this machine
	@$(BIN)/python -c 'import moto.server, s3fs' 2>/dev/null || $(PIP) 's3fs>=2025.2' 'moto[s3]>=5' flask flask-cors
	$(BIN)/pytest -m slow -k s3 tests/store/test_place.py tests/dataset/test_remote_runs.py \
	  tests/pipeline/test_lost_files.py $(PYTEST_ARGS)

coverage: install ## which lines of motive_fo the tests run, child processes included (PYTEST_ARGS="tests/store")
	rm -f .coverage .coverage.*
	$(BIN)/coverage run -m pytest --numprocesses=auto --maxprocesses=$(WORKERS) --dist=loadfile $(PYTEST_ARGS)
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report --skip-covered --sort=cover

mutants: install ## whether the tests notice wrong lines (ARGS="motion/mask": of one module)
	$(BIN)/python -m benchmarks.mutants $(ARGS)

lint: install ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/mypy $(TYPED)

audit: install ## look up known holes of the installed packages, where the package index tells them
	@test -x $(AUDIT)/bin/pip-audit || { $(PYTHON) -m venv $(AUDIT) && \
	  $(AUDIT)/bin/python -m pip --quiet --disable-pip-version-check --no-input install pip-audit; }
	$(BIN)/python scripts/audit.py $(AUDIT)/bin/pip-audit

clean: ## remove build products and caches
	rm -rf build dist motive_fo.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis .coverage .coverage.*
	find benchmarks cli motive_fo plugin scripts tests -name __pycache__ -prune -exec rm -rf {} +

distclean: clean ## clean, and remove the environment with all that is installed in it
	rm -rf $(VENV)

# Looks every time whether the server starts: quick, and it mends what a later `pip install` broke.
database: $(STAMP)
	@$(BIN)/python scripts/install_database.py

$(BIN)/python:
	@found=; for python in $(PYTHON) python3.11 python3.12 python3.13; do \
	  if $$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then found=$$python; break; fi; \
	done; \
	if [ -z "$$found" ]; then \
	  echo "No Python >= 3.11 found: install one, or name it with make PYTHON=/path/to/python3." >&2; exit 1; \
	fi; \
	if ! $$found -c 'import ensurepip, venv' 2>/dev/null; then \
	  echo "$$found lacks the venv module (Debian, Ubuntu: apt install python3-venv)." >&2; exit 1; \
	fi; \
	$$found -m venv $(VENV)

# setuptools and wheel: older pips complain where they are missing, and the tests build the wheel with them.
# torch comes before all else: whatever needs torch then takes this build instead of choosing one itself.
$(STAMP): pyproject.toml setup.py Makefile scripts/install_database.py | $(BIN)/python
	@rm -f $(VENV)/.installed-*
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(BIN)/python -m ensurepip >/dev/null
	@$(PIP) "setuptools>=77" wheel
	@echo "Installing torch $(TORCH_VERSION) into $(VENV)"
	@if [ -z "$(TORCH_INDEX)" ] && [ "$$(uname -s)" = Linux ] && ! command -v nvidia-smi >/dev/null; then \
	  echo "No NVIDIA GPU seen: if pip begins to fetch CUDA packages, see TORCH_INDEX in docs/installation.md."; \
	fi
	@$(PIP) $(if $(TORCH_INDEX),--index-url "$(TORCH_INDEX)") torch==$(TORCH_VERSION)
	@echo "Installing FiftyOne $(FIFTYONE_VERSION), motive-fo and the development tools"
	@$(PIP) fiftyone==$(FIFTYONE_VERSION) "$$($(BIN)/python scripts/install_database.py --requirement)" \
	  --editable ".[dev]"
	@touch $@
