# headrace: `make demo` and `make test` need nothing but Python 3.11+ and the package index.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SEEDS ?= 10000
ROUNDS ?= 200
SEED ?=
WORKERS ?= 2
MINUTES ?= 10
EXAMPLES ?= 300

.DEFAULT_GOAL := help
.PHONY: help demo up test check lint types imports bench simulate kills fuzz storm soak lock clean

help:  ## Show this list.
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(VENV)/.runtime  ## Send a year of flights through the pipeline on this machine and prove the result.
	$(BIN)/headrace demo $(ARGS)

up: $(VENV)/.runtime  ## Run the local stack until Ctrl-C.
	$(BIN)/headrace up $(ARGS)

test: $(VENV)/.dev $(VENV)/.kcl  ## Run all tests this machine can run; what it lacks is skipped and named.
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal $(ARGS)

check: lint types imports test  ## What CI runs: lint, types, import rules, tests.

lint: $(VENV)/.dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: $(VENV)/.dev
	$(BIN)/mypy

imports: $(VENV)/.dev
	$(BIN)/lint-imports

bench: $(VENV)/.dev  ## Measure; prints a table of ratios and writes bench-results/.
	$(BIN)/python -m tests.bench $(ARGS)

simulate: $(VENV)/.dev  ## Simulate crashes, zombies and lost answers: make simulate SEEDS=10000
	$(BIN)/python -m tests.sim --seeds $(SEEDS) --jobs $(WORKERS) $(ARGS)

kills: $(VENV)/.dev  ## Kill real workers at random moments while producers write: make kills ROUNDS=200 SEED=1
	KILL_ROUNDS=$(ROUNDS) $(if $(SEED),KILL_SEED=$(SEED)) \
		$(BIN)/python -m pytest -s tests/e2e/test_kill_loop.py $(ARGS)

fuzz: $(VENV)/.dev  ## Ask the HTTP API what its OpenAPI document allows and forbids: make fuzz EXAMPLES=300
	FUZZ_EXAMPLES=$(EXAMPLES) $(BIN)/python -m pytest -n $(WORKERS) tests/web/test_fuzz.py $(ARGS)

storm: $(VENV)/.dev  ## The long fault tests of the HTTP API: a minute of throttling, tables that hang, 10,000 connections, kill -9 under load.
	WEB_STORM=1 API_KILLS=10 $(BIN)/python -m pytest tests/web/test_faults_connections.py tests/web/test_faults_stream.py \
		tests/e2e/test_front_door_kills.py tests/e2e/test_tables_down.py $(ARGS)

soak: $(VENV)/.dev  ## Run the stack at full speed; fails when memory or descriptors grow: make soak MINUTES=10
	$(BIN)/python -m tests.soak --minutes $(MINUTES) $(ARGS)

lock: $(VENV)/.dev  ## Resolve the dependencies anew into constraints.txt.
	$(BIN)/pip install --quiet uv
	$(BIN)/uv pip compile --quiet --universal --no-header --no-annotate --python-version 3.11 \
		--extra local --extra postgres --extra kcl --group dev pyproject.toml --output-file constraints.txt

clean:  ## Delete the virtual environment and everything generated.
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache bench-results dist

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "headrace needs Python 3.11 or newer; set PYTHON=/path/to/python3"; exit 1; }
	@echo "making $(VENV), once"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade "pip>=25.1"

$(VENV)/.runtime: pyproject.toml constraints.txt | $(VENV)/bin/python
	@echo "installing what headrace needs into $(VENV), once: about a minute"
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[local]'
	@touch $@

$(VENV)/.dev: pyproject.toml constraints.txt | $(VENV)/bin/python
	@echo "installing what headrace and its tests need into $(VENV), once: about a minute"
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[local,postgres]' --group dev
	@touch $@ $(VENV)/.runtime

# KCL's jars come from Maven Central while amazon-kclpy is built. Without Java, or without a way there, its tests are skipped.
$(VENV)/.kcl: pyproject.toml constraints.txt | $(VENV)/.dev
	@if ! command -v java >/dev/null; then \
		echo "*** no java here: the tests of the real KCL daemon will be skipped ***"; \
	elif $(BIN)/pip install --quiet --constraint constraints.txt --editable '.[kcl]'; then \
		touch $@; \
	else \
		echo "*** amazon-kclpy does not install: the tests of the real KCL daemon will be skipped."; \
		echo "*** Its jars come from Maven Central; KCL_MVN_REPO_SEARCH_URL names a mirror. ***"; \
	fi
