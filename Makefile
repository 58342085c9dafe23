# Everything a person or CI does with this tree. `make help` lists it.
# Needs a Python 3.11 or newer with venv. PYTHON=python3.12 make setup takes another one.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DATA ?= data
BASE ?=
SEED ?= 1
PART ?= kills
PIP_INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-input
FOLDERS := benchmarks bus examples ingest metering meterflow processors simulators sinks tests web

.DEFAULT_GOAL := help
.NOTPARALLEL:
.DELETE_ON_ERROR:
.PHONY: help setup setup-test setup-services services services-stop images compose-test containers-test \
        run test endurance chaos lint check format lock clean

help: ## what can be made
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-15s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(VENV)/.run ## install what running needs into .venv, from the lock (quick when done)
	@PYTHON=$(BIN)/python scripts/build-kernels

setup-test: setup $(VENV)/.test ## the same with the test tools

run: setup ## the whole service with a simulated park, its data in ./data
	$(BIN)/meterflow up --simulate --data $(DATA)

setup-services: ## the programs the tests talk to: Kafka, influxd, Mosquitto, Chromium (first time: 10 minutes)
	@scripts/setup-services

services: setup-test setup-services ## sets up and starts Kafka, InfluxDB and Mosquitto, prints their addresses
	@$(BIN)/python -m tests.real.services start

services-stop: ## stops what `make services` started; their data stays
	@$(BIN)/python -m tests.real.services stop

images: setup-test ## meterflow's image; BASE=local: on a base made here, and Kafka's, Mosquitto's, InfluxDB's too
	@scripts/build-images $(BASE)

compose-test: setup-test ## runs docker-compose.yml and looks at it from outside (BASE=local: on local images)
	@scripts/compose-test $(BASE)

containers-test: setup-test ## service tests through testcontainers (BASE=local: on local images)
	@scripts/containers-test $(BASE)

test: setup-test setup-services ## all tests (they start their own services)
	@PYTHON=$(BIN)/python scripts/build-kernels
	$(BIN)/python -m pytest $(ARGS)

endurance: setup-test ## the embedded service under PART=kills, power, faults or soak, SEED=N (docs/reliability.md)
	$(BIN)/python -m tests.endurance.endure $(PART) --seed $(SEED) $(ARGS)

chaos: setup-test setup-services ## the distributed service under faults: SEED=1 SECONDS=60 READINGS=40000 FAULTS=0
	@PYTHON=$(BIN)/python scripts/build-kernels
	$(BIN)/python -m tests.chaos --seed $(or $(SEED),1) --seconds $(or $(SECONDS),60) \
	  --readings $(or $(READINGS),40000) --faults $(or $(FAULTS),0) --only "$(ONLY)"

lint: setup-test ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

check: lint test ## exactly what CI runs

format: setup-test ## put the code into its form
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

lock: ## pin the newest allowed dependencies again: requirements/*.txt
	@scripts/lock

clean: ## remove what was built and installed here, not ./data
	rm -rf $(VENV) build dist */kernels/build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find $(FOLDERS) -name __pycache__ -type d -prune -exec rm -rf {} +

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "meterflow needs Python 3.11 or newer. Name one: make $(MAKECMDGOALS) PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); \
	  echo "$(PYTHON) cannot make virtual environments. On Debian: apt-get install python3-venv" >&2; exit 1; }

# The order-only prerequisite keeps a stamp valid when the interpreter's link is touched.
$(VENV)/.run: requirements/run.txt pyproject.toml meterflow/__init__.py | $(BIN)/python
	@echo "installing the packages of requirements/run.txt ..."
	@$(PIP_INSTALL) --require-hashes --only-binary :all: --requirement requirements/run.txt
	@$(PIP_INSTALL) --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/.test: requirements/test.txt $(VENV)/.run
	@echo "installing the packages of requirements/test.txt ..."
	@$(PIP_INSTALL) --require-hashes --only-binary :all: --requirement requirements/test.txt
	@touch $@
