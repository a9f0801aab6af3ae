# Everything a developer runs. What takes more than a line is in Python; works with make 3.81 and any POSIX shell.
.DEFAULT_GOAL := help
PYTHON ?= python3
BIN := .venv/bin
PYTEST := $(BIN)/python -m pytest
# T=path runs those tests only, K=expression those whose names match, ARGS is passed on as it is.
SELECT = $(if $(K),-k "$(K)") $(ARGS)
# Tests start some hundred services: without bytecode each would compile our modules anew.
unexport PYTHONDONTWRITEBYTECODE
QUICK := -m "not containers and not slow"
# Most of what tests do is wait: two processes, each with a broker of its own, take little more than half the time.
# What one chooses to run runs in one, and so does everything on a broker that they would have to share.
WORKERS ?= 2
PARALLEL := $(if $(T)$(K)$(LOOPCAST_TEST_AMQP_URL),,-n $(WORKERS) --dist loadfile --no-loadscope-reorder)
SOURCES := shared/src services/*/src deploy/local deploy/images deploy/compose deploy/kubernetes

##@ Start

.PHONY: help
help: ## Show this list
	@awk 'BEGIN {FS = ":.*## "} \
	  /^##@/ {printf "\n%s\n", substr($$0, 5)} \
	  /^[a-z][a-z0-9-]*:.*## / {printf "  make %-18s %s\n", $$1, $$2}' Makefile

.PHONY: setup
setup: ## Make .venv from nothing (does nothing when nothing changed)
	@$(PYTHON) deploy/local/bootstrap.py

.PHONY: run
run: setup ## RabbitMQ, every service and a loop that feeds them (ARGS="--port-offset 100")
	@$(BIN)/loopcast up --demo $(ARGS)

##@ Test (T=tests/unit/shared K=expression)

.PHONY: test
test: setup ## Unit, integration and end to end, on a broker of its own
	$(PYTEST) $(QUICK) $(PARALLEL) $(SELECT) $(or $(T),tests)

.PHONY: test-unit
test-unit: setup ## Without network
	$(PYTEST) $(QUICK) $(PARALLEL) $(SELECT) $(or $(T),tests/unit)

.PHONY: test-integration
test-integration: setup ## Against a real RabbitMQ
	$(PYTEST) $(QUICK) $(PARALLEL) $(SELECT) $(or $(T),tests/integration)

.PHONY: test-e2e
test-e2e: setup ## The whole system, as a user starts it
	$(PYTEST) $(QUICK) $(SELECT) $(or $(T),tests/e2e)

.PHONY: test-containers
test-containers: setup ## What needs a container engine
	$(PYTEST) -m containers $(SELECT) $(or $(T),tests)

.PHONY: test-slow
test-slow: setup ## Chaos, soak and other long runs
	$(PYTEST) -m "slow and not containers" $(SELECT) $(or $(T),tests)

.PHONY: coverage
coverage: setup ## Tests, and which lines they never ran
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest $(QUICK) $(SELECT) $(or $(T),tests)
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report

.PHONY: bench
bench: setup ## Benchmarks (T=tests/benchmarks/fanout.py ARGS="its options")
	$(BIN)/python $(or $(T),tests/benchmarks/fanout.py) $(ARGS)

##@ Check

.PHONY: lint
lint: setup ## Style and mistakes
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

.PHONY: format
format: setup ## Format, and mend what can be mended
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

.PHONY: typecheck
typecheck: setup ## mypy, strict
	$(BIN)/mypy $(SOURCES)

##@ Deploy

.PHONY: images
images: setup ## Build the services' images (ARGS="gateway --base IMAGE --tag TAG -- what the engine takes")
	@$(BIN)/python deploy/images/build.py $(ARGS)

.PHONY: compose-up
compose-up: setup ## Everything in containers (ARGS=--observability: with Jaeger, Prometheus and Grafana)
	@$(BIN)/python deploy/compose/run.py up $(ARGS)

.PHONY: compose-down
compose-down: setup ## End it; the data stays (ARGS=--volumes: it does not)
	@$(BIN)/python deploy/compose/run.py down $(ARGS)

##@ Keep

.PHONY: requirements
requirements: setup ## Pin requirements/*.txt anew (ARGS=--upgrade for newer releases)
	$(BIN)/python deploy/local/requirements.py $(ARGS)

.PHONY: docs
docs: setup ## Write the pages and manifests that come out of the code
	$(BIN)/python docs/generate.py
	$(BIN)/python deploy/kubernetes/generate.py

.PHONY: clean
clean: ## Remove .venv, .state, caches; the data under .loopcast stays
	rm -rf .venv .state .mypy_cache .ruff_cache .pytest_cache .hypothesis .coverage .coverage.* htmlcov
	find shared services tests deploy -name __pycache__ -prune -exec rm -rf {} +
