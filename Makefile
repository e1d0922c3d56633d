# Every target installs what it needs, pinned and checked by hash, into .venv; Go binaries are built once into ~/.cache.
PYTHON ?= python3
# Tests wait more than they work: more processes than cores. Each has a control plane of its own; two have a node.
JOBS ?= 6
PARALLEL := -n $(JOBS)
PY := .venv/bin/python
# Tracing doubles what a test costs: it is done where it is held to a number, for the core and the tests of its own.
CORE := tests/unit/core tests/golden
CORE_COVERED := $(PY) -m pytest -q $(CORE) --cov=injector/core --cov-fail-under=100
NO_CLUSTER := not cluster and not node and not browser
QUICK := $(PY) -m pytest -q -m "$(NO_CLUSTER) and not slow"
# Tests of commands wait; thousands of others cost a third less in one process than their results between several.
WAITING := tests/unit/cli tests/unit/probe
REST := $(addprefix --ignore=,$(CORE))
# What `make test` runs in plain processes next to the builds: the first three on the newest Python, which is that of the
# image (tests/newest.py); `make unit` runs them on both.
UNBUILT := $(addprefix --ignore=tests/,unit lint http property offline bench)
# Laws of pure functions and of files, what documents and charts promise, what measures, and what runs other programs:
# one Python is enough.
ONCE := $(addprefix --ignore=tests/,property offline contract bench mutation selfhosted)
# `make cluster KUBERNETES=1.30 HELM=3`: other versions than the newest; tests/controlplane/binaries.py has those that there are.
export DAPR_TOKEN_INJECTOR_TEST_KUBERNETES := $(KUBERNETES)
export DAPR_TOKEN_INJECTOR_TEST_HELM := $(HELM)

# Without bytecode files every process of a test compiles what it imports, and every pytest all tests.
export PYTHONDONTWRITEBYTECODE :=

# Debian has iptables and others where only root looks for programs.
export PATH := $(PATH):/usr/sbin:/sbin

.DEFAULT_GOAL := help
.PHONY: help demo kind-demo test unbuilt built quick unit coverage cluster node image lint bench soak soak-sealed mutation lock clean

help: ## Show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sort | awk -F ':.*## ' '{printf "  make %-11s %s\n", $$1, $$2}'

.venv/.ready: requirements/dev.txt pyproject.toml
	@requirements/venv.sh $(PYTHON) .venv

demo: .venv/.ready ## Show what the webhook answers, then a Deployment's Pod made by a real API server (KEEP=1 leaves it up)
	@$(PY) deploy/demo/demo.py

kind-demo: ## The same in a kind cluster, with the image, the chart and a real sidecar (needs Docker, kind, kubectl, Helm)
	@deploy/kind/up

test: .venv/.ready ## All tests: with a real API server, node and browser, and what needs none on the newest Python here
	@requirements/packages.sh --node --browser
	@$(PY) -m tests.alongside "$(MAKE) --no-print-directory unbuilt" -- $(MAKE) --no-print-directory built

unbuilt: # the half of `make test` that needs no program built
	@$(CORE_COVERED)
	@python=$$($(PY) -m tests.newest) && pytest="$$python -m pytest -q" && \
		$(PY) -m tests.alongside "$(PY) -m pytest -q tests/property" -- \
		$(PY) -m tests.alongside "$$pytest -m '$(NO_CLUSTER)' tests/http" -- \
		$$pytest -m '$(NO_CLUSTER)' $(ONCE) --ignore=tests/http
	@$(PY) -m tests.prepare unit
	@$(PY) -m pytest -q tests/offline tests/bench

built: # the other half
	@$(PY) -m tests.prepare test
	@$(PY) -m pytest $(REST) $(UNBUILT) $(PARALLEL)

quick: .venv/.ready ## The inner loop: one Python, no cluster, no laws, no slow test; under a minute on two idle cores
	@$(PY) -m tests.prepare unit
	@$(PY) -m tests.alongside '$(QUICK) $(WAITING) -n 2' -- $(QUICK) tests/unit tests/golden tests/contract tests/lint \
		$(addprefix --ignore=,$(WAITING))

unit: .venv/.ready ## The tests that need no cluster, on this Python and on the newest one here
	@$(PY) -m tests.prepare unit
	@$(CORE_COVERED) $(PARALLEL)
	@python=$$($(PY) -m tests.newest) && $$python -m pytest -q -m "$(NO_CLUSTER)" $(ONCE) $(PARALLEL)
	@$(PY) -m pytest -m "$(NO_CLUSTER)" $(REST) $(PARALLEL)

coverage: .venv/.ready ## All tests, traced: at least 95 % of all lines and branches (twice the time of `make test`)
	@requirements/packages.sh --node --browser
	@$(PY) -m tests.prepare test
	@$(PY) -m pytest --cov $(PARALLEL)

cluster: .venv/.ready ## The tests with a real API server (built once; tests/controlplane/target.py shows how to use yours)
	@requirements/packages.sh
	@$(PY) -m tests.prepare cluster
	@$(PY) -m pytest -m cluster $(PARALLEL)

node: .venv/.ready ## The tests with a real node: image, chart, kubelet, daprd (as root; tests/node/target.py shows how to use a cluster of yours)
	@requirements/packages.sh --node
	@$(PY) -m tests.prepare node
	@$(PY) -m pytest -m node

image: ## Build the container image with docker, podman or buildah (BASE=... another base, IMAGE=... another name)
	@deploy/image/build.sh $(IMAGE)

lint: .venv/.ready ## Formatting, lint rules, types, import directions, spelling
	@$(PY) -m ruff format --check . && $(PY) -m ruff check . && $(PY) -m mypy --cache-dir ~/.cache/dapr-token-injector/mypy && .venv/bin/lint-imports && .venv/bin/codespell

bench: .venv/.ready ## Measure us and the peers in turn, print ratios (bench-results/)
	@$(PY) -m tests.bench $(BENCH)

soak: .venv/.ready ## Create 10,000 Pods per kind of API server while things happen to the webhook; needs root (SOAK="--help" for more)
	@$(PY) -m tests.availability $(SOAK)

soak-sealed: .venv/.ready ## Kill 500 containers of sealed and unsealed Pods while their Secret changes; needs root (SOAK="--help" for more)
	@requirements/packages.sh --node
	@$(PY) -m tests.node.soak $(SOAK)

mutation: .venv/.ready ## Mutate decision, plan and patch; at least 90 % must be noticed
	@$(PY) -m tests.mutation

lock: .venv/.ready ## Renew the pinned requirements
	@requirements/lock.sh

clean: ## Remove what the targets above made in this folder (the cache of Go binaries stays)
	@rm -rf .venv .venv-* .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .coverage* mutants bench-results
