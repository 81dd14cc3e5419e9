# The project's commands. Each target installs what it needs.
.DEFAULT_GOAL := help
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
CODE := protocol process pieces supernode peer operator cli testbed demo bench faults release tests charts handbook
PRODUCT := protocol process pieces supernode peer operator cli
# Names of keys, and example URLs with passwords, are no secrets. Tests also have random-looking values.
PLAIN_SECRETS := --disable-plugin KeywordDetector --disable-plugin BasicAuthDetector
TEST_SECRETS := --disable-plugin Base64HighEntropyString --disable-plugin HexHighEntropyString
KEEP ?=
CLUSTER ?=
ARCH ?=
RUNS ?=
ROWS ?=
SEED ?=
ONLY ?=
COUNT ?=
BENCH ?= build/bench
REGISTRY ?=
ENGINE ?= docker
PUSH ?= yes

.PHONY: help
help: ## Show this list
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 18

$(VENV)/ready: pyproject.toml requirements/dev.txt
	@$(PYTHON) -c 'import sys; sys.exit("Pantala needs Python 3.11 or newer; set PYTHON=") if sys.version_info < (3, 11) else None'
	@test -x $(BIN)/pip || $(PYTHON) -m venv $(VENV)
	@echo "installing the locked dependencies into $(VENV)" >&2
	@$(BIN)/python -m pip install -q --disable-pip-version-check --require-hashes -r requirements/dev.txt
	@$(BIN)/python -m pip install -q --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

$(VENV)/release: $(VENV)/ready requirements/release.txt
	@$(BIN)/python -m pip install -q --disable-pip-version-check --require-hashes -r requirements/release.txt
	@touch $@

.PHONY: venv
venv: $(VENV)/ready ## Make the virtual environment from the hashed locks

.PHONY: demo
demo: $(VENV)/ready ## Run the main job on this machine: KEEP=1 leaves it running, CLUSTER=1 uses the cluster of KUBECONFIG
	@$(BIN)/python -m demo $(if $(KEEP),--keep) $(if $(CLUSTER),--cluster)

.PHONY: lint
lint: $(VENV)/ready ## Check style, types, spelling, plain English and the imports between packages
	@$(BIN)/ruff format --check --quiet $(CODE) || { echo "run make format"; exit 1; }
	@$(BIN)/ruff check --quiet $(CODE)
	@$(BIN)/codespell -D - -D tests/support/plain-words.txt $(filter-out tests,$(CODE)) docs crds *.md
	@$(BIN)/python -m tests.support.prose
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-cache | tail -n 12

.PHONY: format
format: $(VENV)/ready ## Format the code
	@$(BIN)/ruff format --quiet $(CODE)
	@$(BIN)/ruff check --quiet --fix $(CODE)

.PHONY: machine
machine: $(VENV)/ready ## Build the programs of the tests, once (27 minutes); as root also install Debian packages
	@$(BIN)/python -m testbed.machine

.PHONY: test
test: lint machine ## Run everything: lint and all tests; as root also the end-to-end tests
	@$(BIN)/python -m pytest -n 4 --dist loadfile -m "not alone and not controlplane and not e2e"
	@$(BIN)/python -m pytest -m "alone and not e2e"
	@$(MAKE) --no-print-directory --jobs=2 e2e controlplane

.PHONY: controlplane
controlplane: $(VENV)/ready ## Run the operator's tests with a real API server, and show their output at the end
	@mkdir -p build
	@nice $(BIN)/python -m pytest -n 2 --dist loadfile -m "controlplane and not alone and not e2e" > build/controlplane.log 2>&1 \
		&& cat build/controlplane.log || { cat build/controlplane.log; exit 1; }

.PHONY: unit
unit: $(VENV)/ready ## Run the unit and property tests, in about a minute
	@PYTHONDONTWRITEBYTECODE= HYPOTHESIS_PROFILE=$${HYPOTHESIS_PROFILE:-quick} $(BIN)/python -m pytest -q -n auto --maxprocesses 4 --dist worksteal -p no:schemathesis tests/unit tests/property

.PHONY: fuzz
fuzz: $(VENV)/ready ## Send hostile inputs to all parsers until Ctrl-C: SEED=7 repeats a run, ONLY=wire for some
	@$(BIN)/python -m tests.fuzz $(SEED:%=--seed %) $(ONLY:%=--only '%')

.PHONY: integration
integration: $(VENV)/ready ## Run the tests over real sockets and processes, without Kubernetes and root
	@$(BIN)/python -m pytest tests/integration -m "not controlplane and not e2e"

.PHONY: screenshots
screenshots: $(VENV)/ready ## Make docs/images/console-*.png from a running system (root installs Chromium; a minute)
	@$(BIN)/python -m tests.support.screenshots

.PHONY: faults
faults: $(VENV)/ready ## Inject faults in large numbers and count what they break (an hour): ROWS="kills-peer ..." for some, COUNT=10 for few
	@$(BIN)/python -m faults $(ROWS:%=--rows %) $(COUNT:%=--count %)

.PHONY: e2e
e2e: $(VENV)/ready ## Run the end-to-end suite on a real multi-node cluster (root, or KUBECONFIG)
	@$(BIN)/python -m pytest tests/e2e

.PHONY: e2e-ipv6
e2e-ipv6: $(VENV)/ready ## Run the end-to-end cases of files, images and networks on a cluster without IPv4 (root)
	@PANTALA_TESTBED_IPV6=1 $(BIN)/python -m pytest tests/e2e/test_install.py tests/e2e/test_mirror.py tests/e2e/test_networks.py

.PHONY: images
images: ## Build the four images and push them: REGISTRY=registry.example.com, ENGINE=podman, PUSH= to build only
	@test -n "$(REGISTRY)" || { echo "name the registry: make images REGISTRY=registry.example.com"; exit 1; }
	@command -v $(ENGINE) > /dev/null || { echo "$(ENGINE) is not in PATH. Install it, or name another engine, such as ENGINE=podman"; exit 1; }
	@for process in operator supernode peer runtime; do \
		image=$(REGISTRY)/pantala/$$process:$$(sed -n 's/^version: //p' charts/pantala/Chart.yaml); \
		$(ENGINE) build --target $$process --tag $$image . $(if $(PUSH),&& $(ENGINE) push $$image) || exit 1; \
	done

.PHONY: cluster
cluster: $(VENV)/ready ## Bring up a real three-node cluster on this machine (root)
	@$(BIN)/python -m testbed.cluster up

.PHONY: install
install: $(VENV)/ready ## Install Pantala from this checkout on the cluster of make cluster, or upgrade it (root)
	@$(BIN)/python -m testbed.cluster install

.PHONY: bench
bench: $(VENV)/ready ## Measure downloads, reads of origins and the API (root, nginx, curl; 40 min): RUNS=1 for a short one
	@mkdir -p $(dir $(BENCH))
	@$(BIN)/python -m bench $(RUNS:%=--runs %) --json $(BENCH).json --plot $(BENCH).svg

.PHONY: simulate
simulate: $(VENV)/ready ## Simulate up to 10,000 peers in virtual time with the real scheduler and exchange (half an hour)
	@mkdir -p $(dir $(BENCH))
	@PYTHONHASHSEED=0 $(BIN)/python -m bench simulate --runs 1 --calm 0 --json $(BENCH)-simulate.json --plot $(BENCH)-simulate.svg

.PHONY: bench-stampede
bench-stampede: $(VENV)/ready ## Measure three nodes of a real cluster that pull one image (root; 25 min): RUNS=1 for a short one
	@mkdir -p $(dir $(BENCH))
	@$(BIN)/python -m bench stampede $(RUNS:%=--runs %) --json $(BENCH)-stampede.json --plot $(BENCH)-stampede.svg

.PHONY: crds
crds: $(VENV)/ready ## Generate the chart's copies of crds/, the reference and docs/troubleshooting.md
	@$(BIN)/python -m charts.generate

.PHONY: pages
pages: $(VENV)/ready ## Generate the pages of the documentation that come from the code
	@$(BIN)/python -m handbook.flags
	@$(BIN)/python -m handbook.api
	@$(BIN)/python -m handbook.commands
	@$(BIN)/python -m handbook.pictures

.PHONY: proto
proto: $(VENV)/ready ## Generate the runtime helper's messages
	@$(BIN)/python -m pantala_runtime.proto.generate

$(VENV)/audit: $(VENV)/ready requirements/audit.txt
	@test -x $(VENV)-audit/bin/pip || $(PYTHON) -m venv $(VENV)-audit
	@$(VENV)-audit/bin/python -m pip install -q --disable-pip-version-check --require-hashes -r requirements/audit.txt
	@touch $@

.PHONY: audit
audit: $(VENV)/audit ## Search the code for unsafe calls, and all files for secrets; works offline
	@$(VENV)-audit/bin/bandit -q -ll -c pyproject.toml -r $(PRODUCT)
	@git ls-files -z ':!tests' ':!requirements' | xargs -0 $(VENV)-audit/bin/detect-secrets-hook $(PLAIN_SECRETS)
	@git ls-files -z tests | xargs -0 $(VENV)-audit/bin/detect-secrets-hook $(PLAIN_SECRETS) $(TEST_SECRETS)

.PHONY: audit-dependencies
audit-dependencies: $(VENV)/audit ## Compare all locked dependencies with the known vulnerabilities; asks the package index
	@for lock in requirements/*.txt; do $(VENV)-audit/bin/pip-audit --strict --require-hashes --disable-pip -r $$lock; done

$(VENV)-docs/ready: requirements/docs.txt
	@test -x $(VENV)-docs/bin/pip || $(PYTHON) -m venv $(VENV)-docs
	@$(VENV)-docs/bin/python -m pip install -q --disable-pip-version-check --require-hashes -r requirements/docs.txt
	@touch $@

.PHONY: site
site: $(VENV)-docs/ready ## Build the site of the documentation into build/site; a dead link is an error
	@NO_MKDOCS_2_WARNING=1 $(VENV)-docs/bin/mkdocs build --quiet --strict

.PHONY: plugin
plugin: $(VENV)/ready ## Build kubectl pantala as one file into dist/, for this machine and its python3
	@$(BIN)/python -m release plugin

.PHONY: release-tools
release-tools: $(VENV)/release

.PHONY: release-dry-run
release-dry-run: $(VENV)/release ## Run the steps of a release into dist/, publish nothing (root; ARCH=amd64 for one only)
	@$(BIN)/python -m release dry-run $(ARCH:%=--arch %)

.PHONY: locks
locks: $(VENV)/ready ## Lock the dependencies again
	@bash requirements/compile.sh

.PHONY: clean
clean: ## Remove generated files; the cache of Kubernetes programs stays
	@rm -rf $(VENV) $(VENV)-audit $(VENV)-docs .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache dist build
