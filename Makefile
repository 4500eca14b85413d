# All recipes, for people and CI. `make` alone lists them.

BIN := .venv/bin
INSTALLED := .venv/.installed
ARGS ?=

# The newest Python with a bundled redis-server first, then whatever python3 is.
PYTHON ?= $(shell for python in python3.13 python3.12 python3.11 python3; do \
	$$python -c 'import ensurepip, sys; sys.exit(not (3, 11) <= sys.version_info < (3, 15))' 2>/dev/null \
	&& echo $$python && break; done)
UV := $(shell command -v uv 2>/dev/null)
UV_PYTHON := $(if $(filter command environment,$(origin PYTHON)),$(PYTHON),>=3.11,<3.14)

export PYRIGHT_PYTHON_IGNORE_WARNINGS := 1
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: help
help:  ## list the recipes
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: setup
setup: $(INSTALLED)  ## create .venv with flowq and all tools, exactly as locked

.PHONY: demo
demo: setup  ## crawl a small site with faults, on its own Redis, and check the result
	$(BIN)/python -m examples.scraping.demo

.PHONY: flights
flights: setup  ## load a year of flights, and measure Redis and the worker meanwhile (a minute)
	$(BIN)/python -m examples.flights.year

.PHONY: versus
versus: setup  ## crawl the PostgreSQL manual with flowq and with Scrapy, in turns (ARGS="--rounds 5")
	$(BIN)/python -m benchmarks.crawl $(ARGS)

.PHONY: check
check: setup  ## lint, format, types and import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pyright
	$(BIN)/lint-imports --no-logo

.PHONY: test
test: check  ## check, then all tests (ARGS="-k lease" selects some)
	$(BIN)/python -m pytest -n auto $(ARGS)

.PHONY: data
data: setup  ## fetch the pages, files and data sets that some tests read
	$(BIN)/python -m examples.scraping.sites postgresql sphinx sqlite sqlalchemy
	$(BIN)/python -m examples.flights.dataset
	$(BIN)/python -c 'from examples.scraping.robots_files import robots_files; robots_files()'

SECONDS ?= 60
SEED ?= 1

.PHONY: chaos
chaos: setup  ## kill, freeze and starve a real run and its Redis (SECONDS=60 SEED=1), and verify the result
	$(BIN)/python -m tests.faults.storm --seconds $(SECONDS) --seed $(SEED)

PAGES ?= 200000
SHARDS ?= 6
FAULTS ?= kills=60,cuts=1000,replies=100,failover=2,blackout=1,full=2,slots=3

.PHONY: cluster
cluster: setup  ## crawl a synthetic site on a real Cluster in which much goes wrong, and verify it (PAGES= SHARDS= FAULTS=)
	$(BIN)/python -m tests.cluster.crawl --pages $(PAGES) --shards $(SHARDS) --fetch-seconds 0.3 --faults $(FAULTS) $(ARGS)

.PHONY: bench
bench: setup  ## compare flowq with two baselines (20 minutes; ARGS="--only W1 --reps 1")
	$(BIN)/python -m benchmarks --json benchmarks/figures.json --page docs/performance.md $(ARGS)
	$(BIN)/python -m tools.docs.pictures

.PHONY: bench-shards
bench-shards: setup  ## compare shards on several servers with one server (15 minutes; ARGS="--reps 1 --scale 0.2")
	$(BIN)/python -m benchmarks.shards --page docs/performance.md $(ARGS)

.PHONY: bench-dashboard
bench-dashboard: setup  ## measure the web page against its budget (5 minutes; ARGS="--seconds 10")
	$(BIN)/python -m benchmarks.dashboard $(ARGS)

.PHONY: bench-startup
bench-startup: setup  ## measure the wait for the first output of a command (a minute; ARGS="--reps 5")
	$(BIN)/python -m benchmarks.startup $(ARGS)

.PHONY: bench-harness
bench-harness: setup  ## measure how long a test with a harness takes (10 seconds; ARGS="--reps 9")
	$(BIN)/python -m benchmarks.harness $(ARGS)

.PHONY: walkthrough
walkthrough: setup  ## record docs/walkthrough.md again, from a real crawl
	$(BIN)/python -m examples.scraping.walkthrough

REPOSITORY ?=

.PHONY: docs
docs: setup  ## build the documentation as a site into build/docs/site (REPOSITORY=https://host/owner/flowq: edit links)
	REPOSITORY=$(REPOSITORY) $(BIN)/python -m tools.docs.site

.PHONY: pictures
pictures: setup  ## draw the pictures of the documentation again, from pipelines/ and benchmarks/*.json
	$(BIN)/python -m tools.docs.pictures

.PHONY: page-shots
page-shots: setup  ## draw every page of the web page into build/dashboard (ARGS="scrape index" for some, --docs for docs/)
	$(BIN)/python -m tests.dashboard.pictures $(ARGS)

.PHONY: reference
reference: setup  ## write docs/reference/ again, from the code
	$(BIN)/python -m tools.docs.reference

.PHONY: screenshot
screenshot: setup  ## record the picture of a terminal in README.md again, from a real crawl
	$(BIN)/python -m tools.docs.screenshot

.PHONY: record-docs
record-docs: setup  ## run the pages of the documentation, and record what their commands print (ARGS="docs/how-to/x.md")
	$(BIN)/python -m tests.docs.record $(ARGS)

.PHONY: format
format: setup  ## sort imports and format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

.PHONY: lock
lock: setup  ## resolve requirements.lock again from pyproject.toml
	$(BIN)/uv pip compile pyproject.toml --all-extras --group dev --universal --generate-hashes \
		--no-annotate --upgrade --quiet --custom-compile-command 'make lock' --output-file requirements.lock

.PHONY: build
build: setup  ## build the wheel and the source archive into dist/
	$(BIN)/uv build --no-build-isolation --python $(BIN)/python

.PHONY: clean
clean:  ## remove what the recipes created: .venv, dist, caches (not your data in .flowq)
	rm -rf .venv .demo build dist .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache .sites .robots .flights .scrapy-venv
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(BIN)/python:
ifneq ($(UV),)
	$(UV) venv --quiet --allow-existing --python '$(UV_PYTHON)' .venv
else
	@test -n "$(PYTHON)" || { echo >&2 "flowq needs Python 3.11 to 3.14 with venv. \
	Debian: apt-get install python3-venv. Elsewhere: make setup PYTHON=/path/to/python3"; exit 1; }
	$(PYTHON) -m venv .venv
endif

# --no-build-isolation: the build backend is locked like everything else.
$(INSTALLED): requirements.lock pyproject.toml | $(BIN)/python
ifneq ($(UV),)
	$(UV) pip install --quiet --python $(BIN)/python --require-hashes -r requirements.lock
	$(UV) pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation -e .
else
	$(BIN)/python -m pip install --quiet --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation -e .
endif
	@touch $@
