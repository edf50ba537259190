# Everything runs in .venv, which the first target that needs it makes from the lock file.
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
DATA ?= headwater-data
LISTEN ?= 127.0.0.1:9092
TEST_WORKERS ?= 4
TEST_SEEDS ?= 300
TEST_FIRST_SEED ?= new
UV_VERSION := 0.13.9

.DEFAULT_GOAL := help
.PHONY: help up test coverage lint docs interop interop-full interop-tools faults kills every-fault power-cuts soak simulate fuzz fuzz-full mutants audit package bench bench-python clean

help: ## list these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

$(READY): uv.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || \
		{ echo "Python 3.11 or newer is missing; install it, or name it: make PYTHON=/path/to/python3.11"; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || \
		{ echo "Python's venv module is missing; on Debian: apt-get install python3-venv"; exit 1; }
	@test -x $(BIN)/uv || { $(PYTHON) -m venv $(VENV) && $(BIN)/python -m pip install -q --disable-pip-version-check uv==$(UV_VERSION); }
	@UV_PROJECT_ENVIRONMENT=$(VENV) $(BIN)/uv sync --quiet --frozen --inexact --python $(BIN)/python
	@touch $@

up: $(READY) ## run the broker on 127.0.0.1:9092 (DATA=dir, LISTEN=host:port)
	@exec $(BIN)/headwater up --data $(DATA) --listen $(LISTEN)

test: $(READY) ## the fast tests, about two minutes (TEST_WORKERS=4 processes: most of the time tests wait)
	$(BIN)/python -m pytest -n $(TEST_WORKERS) --dist loadfile tests \
		--ignore=tests/interop --ignore=tests/faults --ignore=tests/package

coverage: $(READY) ## the fast tests, and how much of the core they reach: what they do not is in .ci/coverage.toml, which may only shrink
	@mkdir -p build/coverage
	$(BIN)/python -m pytest -n $(TEST_WORKERS) --dist loadfile --cov --cov-report=json:build/coverage/report.json tests \
		--ignore=tests/interop --ignore=tests/faults --ignore=tests/package
	$(BIN)/python .ci/branches.py build/coverage/report.json .ci/coverage.toml

lint: $(READY) ## format, lint, types, layout, generated files
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python codegen/generate.py --check
	$(BIN)/python codegen/settings_tables.py --check
	$(BIN)/python codegen/cli_reference.py --check

docs: $(READY) ## the site of the documents and the Python API, into build/docs
	$(BIN)/python -m sphinx -q -E -W --keep-going -c docs/site -d build/docs-trees . build/docs
	@echo "open build/docs/index.html"

audit: $(READY) ## known vulnerabilities of the packages in uv.lock (asks osv.dev)
	@$(BIN)/python .ci/audit.py

interop-tools: ## install kcat, rapidjson, libcurl and strace by apt, if possible
	@{ command -v kcat && command -v strace && test -e /usr/include/rapidjson/rapidjson.h && \
		ls /usr/include/curl/curl.h /usr/include/*-linux-gnu/curl/curl.h 2>/dev/null | grep -q .; } >/dev/null || { [ "$$(id -u)" = 0 ] && \
		command -v apt-get >/dev/null && \
		{ apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq kcat rapidjson-dev libcurl4-openssl-dev strace; } >/dev/null; } || \
		echo "kcat, rapidjson, libcurl or strace is missing: their tests will be skipped"

interop: $(READY) interop-tools ## other people's clients and Kafka's own tools (needs Java, Maven, Go, Cargo, npm, g++)
	$(BIN)/python -m pytest tests/interop

interop-full: $(READY) interop-tools ## the same, each suite whole, and 50 kills of each kind (about an hour)
	TEST_INTEROP=full TEST_COPY_KILLS=50 $(BIN)/python -m pytest tests/interop tests/faults/test_exactly_once.py

faults: $(READY) ## kills of the broker under load
	$(BIN)/python -m pytest tests/faults

kills: $(READY) ## 500 SIGKILLs under load, twice: numbered records, and clients of all kinds with a checker (half an hour)
	TEST_KILLS=500 $(BIN)/python -m pytest -s tests/faults/test_kills.py

every-fault: $(READY) ## an error at every call on the files of a scripted run, of every kind (half an hour)
	TEST_FAULTS=all $(BIN)/python -m pytest tests/simulation/test_faults.py

power-cuts: $(READY) ## 50 power cuts of ext4 under load (as root, on Linux; about ten minutes)
	TEST_POWER_CUTS=50 $(BIN)/python -m pytest -s tests/faults/test_power_cuts.py

soak: $(READY) ## half an hour under full load; memory and descriptors must stay flat
	TEST_SOAK_S=1800 $(BIN)/python -m pytest -s tests/faults/test_soak.py

simulate: $(READY) ## the whole broker simulated, 300 new seeds on two processors (TEST_SEEDS, TEST_FIRST_SEED; TEST_SEED=n repeats one)
	TEST_SEEDS=$(TEST_SEEDS) TEST_FIRST_SEED=$(TEST_FIRST_SEED) $(BIN)/python -m pytest -n 2 --dist load tests/simulation/test_whole_broker.py

fuzz: $(READY) ## damaged input on the wire and on disk
	$(BIN)/python -m pytest fuzz

fuzz-full: $(READY) ## 2,000,000 damaged frames, and attacks on a running broker (20 minutes)
	TEST_FUZZ_FRAMES=2000000 $(BIN)/python -m pytest fuzz/test_frames.py
	$(BIN)/python -m fuzz.full

mutants: $(READY) ## plant every bug of tests/mutants, one at a time: each must be noticed by its tests (some minutes)
	$(BIN)/python -m tests.mutants

package: $(READY) ## build the wheel, and start the broker from it in an empty environment
	$(BIN)/python -m pytest tests/package

bench: $(READY) ## Headwater and Apache Kafka compared (needs Java and Maven; about 15 minutes)
	$(BIN)/python -m benchmarks.run

bench-python: $(READY) ## the Python API compared with confluent-kafka, aiokafka, psygnal and blinker
	$(BIN)/python -m benchmarks.client
	$(BIN)/python -m benchmarks.in_process
	$(BIN)/python -m benchmarks.first_message

clean: ## remove what these targets made, except data
	rm -rf $(VENV) dist build .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
