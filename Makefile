# Every command a developer or CI needs. `make help` lists them.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.stamp
CODE := streams schemas sinks bench tests scripts
# Coverage by branches: the whole, and the modules where the thinking is.
COVERAGE_MIN := 95
PURE := $(wildcard $(addprefix streams/,$(addsuffix .py,merge digest finals certificate frames mixed pile kinds buffer plan \
    arrival inbox tape shard session live pace watermark \
    sessions release opening joiner ledger ledgers coverage gaps minute_bars derived derived_session derived_frames \
    deriver acls scale days history latest conditions tick_bars rerun feeds/dispatch feeds/script feeds/rehearsal sources/rehearsal)))
# Files of integration and fault tests at once, each with brokers and workers of its own: they wait about half of the time.
STACKS ?= 2
# More arguments for pytest, e.g. make unit ARGS='-k merge -x'
ARGS ?=

.PHONY: help
help: ## List these targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sort | awk -F ':.*## ' '{printf "  make %-10s %s\n", $$1, $$2}'

.PHONY: env
env: $(STAMP) ## Make .venv with the locked dependencies and this project (PYTHON=… chooses the interpreter)

$(STAMP): requirements.lock pyproject.toml scripts/env.sh
	@PYTHON="$(PYTHON)" bash scripts/env.sh $(VENV)
	@touch $@

.PHONY: demo
demo: $(STAMP) ## Replay a synthetic week through a real Kafka and show the tape
	@$(BIN)/sessiontape demo

.PHONY: test
test: $(STAMP) ## Run the unit, integration and fault tests, and those in containers where Docker is
	@$(MAKE) -j2 $(if $(filter true,$(CI)),--output-sync=target) test-unit test-containers
	@$(BIN)/python -m pytest tests/integration tests/faults tests/clickhouse -n $(STACKS) --dist loadfile \
	    $(if $(PYTEST_COVERAGE),--cov-append $(PYTEST_COVERAGE)) $(ARGS)

# Side by side: the tests in containers wait most of the time, for brokers that die and come back.
.PHONY: test-unit test-containers
test-unit:
	@$(BIN)/python -m pytest tests/unit -n auto $(PYTEST_COVERAGE) $(ARGS)

test-containers:
	@if docker info >/dev/null 2>&1 || [ "$(CI)" = true ]; then $(MAKE) containers; \
	else echo "no Docker engine answers: the tests in containers are not run" >&2; fi

.PHONY: containers
containers: $(STAMP) ## Run the stack in containers: Docker and compose, with no registry
	@docker info >/dev/null || { echo "start a Docker engine first" >&2; exit 1; }
	@$(MAKE) images-local
	@$(BIN)/python -m pytest tests/containers --durations=10 $(ARGS)

.PHONY: images-local
images-local: $(STAMP) ## Build the images of the container tests from packages alone
	@$(BIN)/python -m scripts.local_images

.PHONY: test-clickhouse
test-clickhouse: $(STAMP) ## Test the sink with a ClickHouse server (pulls the official image)
	@SESSIONTAPE_CLICKHOUSE_IMAGE=$${SESSIONTAPE_CLICKHOUSE_IMAGE:-clickhouse/clickhouse-server:25.8} \
	    $(BIN)/python -m pytest tests/clickhouse $(ARGS)

.PHONY: unit
unit: $(STAMP) ## Run the unit tests, no broker
	@$(BIN)/python -m pytest tests/unit -n auto $(ARGS)

.PHONY: faults
faults: $(STAMP) ## Run the fault tests with many more kills
	@SESSIONTAPE_TEST_KILLS=20 $(BIN)/python -m pytest tests/faults --timeout=3600 -o faulthandler_timeout=3700 $(ARGS)

.PHONY: ci
ci: export PYTEST_COVERAGE := --cov --cov-report=
ci: lint types test ## All that CI checks: lint, types, tests once with coverage, the coverage gates
	@$(BIN)/coverage report --fail-under=$(COVERAGE_MIN)
	@$(BIN)/coverage report --fail-under=100 --include=$$(echo $(PURE) | tr ' ' ',')

.PHONY: lint
lint: $(STAMP) ## Check style, format and the import contracts
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/lint-imports

.PHONY: types
types: $(STAMP) ## Check types, tests included
	@$(BIN)/mypy $(CODE)

.PHONY: format
format: $(STAMP) ## Format the code and mend what ruff can mend
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

.PHONY: bench
bench: $(STAMP) ## Measure the budgets
	@$(BIN)/sessiontape bench $(ARGS)

.PHONY: soak
soak: $(STAMP) ## Rehearse two days at 100 times their speed, faults and all: half an hour
	@$(BIN)/python -m bench.soak $(ARGS)

.PHONY: lock
lock: $(STAMP) ## Resolve the dependencies anew into requirements.lock
	@$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --all-extras --generate-hashes \
	    --upgrade --no-header --no-annotate --no-emit-index-url --output-file requirements.lock pyproject.toml
	@$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --extra registry --generate-hashes \
	    --constraints requirements.lock --no-header --no-annotate --no-emit-index-url \
	    --output-file deploy/images/requirements.lock pyproject.toml

.PHONY: lock-jars
lock-jars: $(STAMP) ## Resolve Kafka's jars anew into streams/local/kafka.sha256
	@$(BIN)/python scripts/lock_jars.py

.PHONY: clean
clean: ## Remove the environment, caches and reports
	@rm -rf $(VENV) .coverage .coverage.* .mypy_cache .ruff_cache .pytest_cache .import_linter_cache \
	    .hypothesis htmlcov dist build
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
