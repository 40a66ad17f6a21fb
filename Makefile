# Everything a fresh machine needs: python3 (3.11 or newer) with venv. `make demo` and `make test` do the rest.
PYTHON  ?= python3
RUNTIME ?= cpu
VENV    := .venv
BIN     := $(VENV)/bin
OUT     ?= out/demo

.PHONY: demo test check unit coverage lint format install install-dev constraints system clean help

help: ## What can be made
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

demo: $(VENV)/.installed ## Install, render a scripted street, count on it, compare with the truth
	$(BIN)/passerby demo --out $(OUT)

test: install-dev system ## Install everything and pass all checks and tests
	$(MAKE) lint unit

lint: ## Style, types, import rules
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

unit: ## The tests alone
	$(BIN)/python -m pytest -p no:cacheprovider --durations=25

coverage: ## The tests again, and which lines they leave out (half as long again)
	$(BIN)/python -m pytest --cov --cov-report=term:skip-covered -p no:cacheprovider

format: ## Put the code into its shape
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

install: $(VENV)/.installed ## The pipeline alone (RUNTIME=gpu for CUDA machines)
install-dev: $(VENV)/.installed-dev ## The pipeline, training and everything the tests need

$(BIN)/uv:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv==$$(sed -n 's/^uv==//p' constraints.txt)

$(VENV)/.installed: pyproject.toml constraints.txt | $(BIN)/uv
	$(BIN)/uv pip install --quiet --python $(BIN)/python --constraint constraints.txt -e '.[$(RUNTIME)]'
	touch $@

$(VENV)/.installed-dev: pyproject.toml constraints.txt | $(BIN)/uv
	$(BIN)/uv pip install --quiet --python $(BIN)/python --constraint constraints.txt -e '.[$(RUNTIME),training,dev]'
	touch $@ $(VENV)/.installed

constraints: | $(BIN)/uv ## Resolve the pinned versions anew
	{ echo "# The versions that are tested together. Made from pyproject.toml by: make constraints"; \
	  $(BIN)/uv pip compile --quiet --upgrade pyproject.toml --extra cpu --extra training --extra dev \
	    --python $(BIN)/python --no-header --no-annotate --no-emit-index-url; \
	  echo "uv==$$($(BIN)/uv --version | cut -d' ' -f2)"; } > constraints.txt.new && mv constraints.txt.new constraints.txt

system: ## Debian packages that some tests use (a real RTSP server, ffmpeg); asks for nothing where they are there
	@sh deploy/test-system.sh

clean: ## Remove what was made here
	rm -rf $(VENV) out build dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .coverage
