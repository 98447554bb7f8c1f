# `make` and `make help` list the targets: a target's line says after ## what it does.

RUN := .venv/bin/
TIERS ?= unit integration parity parity/nnunet parity/bpr parity/ibsi2 faults security browser
# Every test of the main job starts several Pythons: without cached bytecode each would compile its libraries anew.
unexport PYTHONDONTWRITEBYTECODE
# MkDocs Material announces other software on every build.
export NO_MKDOCS_2_WARNING = 1

.DEFAULT_GOAL := help
.PHONY: help setup demo test check docs docs-tables input-tables ibsi-tables changelog conformance fuzz faults security-tests scaling-figures bench bench-ci bench-compare bench-job bench-radiomics bench-front-door bench-ohif bench-long-report parity-env parity parity-small bench-nnunet bench-bpr bench-segthor pins clean bench-cohort audit-pins try-containers try-install try-install-uv test-trixie

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: .venv/.installed .venv/.ohif ## Install the Debian packages, .venv and OHIF, which everything else uses

.venv/.installed: requirements/dev.txt pyproject.toml scripts/install-system
	./scripts/install-system
	test -x $(RUN)python || "$$(PYTHON=$(PYTHON) ./scripts/find-python)" -m venv .venv
	$(RUN)python -m pip install --quiet --disable-pip-version-check 'uv>=0.8'
	PYTHONPATH=$(CURDIR)/scripts/python312 $(RUN)uv pip install --quiet --compile-bytecode --python $(RUN)python --require-hashes -r requirements/dev.txt
	$(RUN)uv pip install --quiet --python $(RUN)python --no-deps -e .
	touch $@

# A missing viewer stops nothing; the next `make` tries again.
.venv/.ohif: .venv/.installed scripts/install-ohif orthanc_plugin/service/ohif_package.py
	@if ./scripts/install-ohif; then touch $@; fi

parity-env: .parity/.installed

# The original frameworks and torch have an environment of their own: nothing that is installed for users needs them.
.parity/.installed: requirements/parity.txt pyproject.toml scripts/parity-env
	./scripts/parity-env "$$(PYTHON=$(PYTHON) ./scripts/find-python)"
	touch $@

demo: setup ## Run the main job on a phantom, or on your own: CT=FOLDER MODEL=NAME|FOLDER|ZIP EXIT=1
	$(RUN)orthanc-enrich demo $(if $(CT),"$(CT)") $(if $(MODEL),--model "$(MODEL)") $(if $(EXIT),--exit)

test: setup parity-env ## Run all tests and print the minutes of each tier; TIERS="unit integration" for some
	./scripts/install-system postgresql chromium nginx prometheus rsyslog rsyslog-gnutls libxml2-utils
	./scripts/in-loopback ./scripts/test-tiers $(TIERS)

check: setup ## Check format, lint, types, import directions, dependencies, unused code, spelling, documentation
	$(RUN)ruff format --check .
	$(RUN)ruff check .
	$(RUN)mypy
	$(RUN)lint-imports
	$(RUN)deptry orthanc_plugin
	$(RUN)bandit --quiet --recursive --severity-level medium orthanc_plugin
	$(RUN)python scripts/unused_code.py
	$(RUN)codespell
	$(RUN)mkdocs build --quiet --strict

docs: setup ## Build the documentation site into .site
	$(RUN)mkdocs build --quiet --strict
	@echo "open .site/index.html"

docs-tables: setup ## Write the tables of docs/reference out of the code
	$(RUN)python -m scripts.docs_tables
	$(RUN)python -m scripts.licences

input-tables: setup ## Measure the check of HU and compare readers on the traps; writes docs/geometry.md (minutes)
	$(RUN)python -m scripts.plausibility_table
	$(RUN)python -m scripts.traps_table

ibsi-tables: setup parity-env ## Measure IBSI's phantoms and filters (IBSI_CT_PHANTOM=FOLDER, IBSI2_MAPS=FOLDER); writes docs/radiomics-ibsi.md
	$(RUN)python -m tests.parity.ibsi_page
	.parity/bin/python -m tests.parity.ibsi2.table

changelog: setup ## Show what the next release brings; VERSION=1.2.3 gathers it into CHANGELOG.md
	$(RUN)towncrier build $(if $(VERSION),--version "$(VERSION)" --yes,--version Unreleased --draft)

conformance: setup ## Read every object of every real series by independent readers; writes docs/conformance.md
	$(RUN)python -m pytest tests/integration/test_conformance*.py --matrix --matrix-page -q -n auto --dist loadfile -o timeout=1800

fuzz: setup ## Read 10,000 seeded mutations of CT series as `run` does; writes docs/input-quality.md
	$(RUN)python -m tests.faults.fuzzing.campaign --write

faults: setup ## Kill, freeze and starve the system in eleven ways; writes docs/faults.md (two hours)
	./scripts/install-system postgresql
	./scripts/in-loopback $(RUN)python -m tests.faults.campaign --write

scaling-figures: setup ## Measure queue, workers and STOW, and simulate sites; writes docs/scaling.md (run it alone)
	./scripts/install-system postgresql
	./scripts/in-loopback $(RUN)python -m tests.benchmarks.stow_throughput --write
	./scripts/in-loopback $(RUN)python -m tests.benchmarks.two_workers --write
	./scripts/in-loopback $(RUN)python -m tests.benchmarks.neighbouring_jobs --cores 2 --write
	./scripts/in-loopback $(RUN)python -m tests.benchmarks.stage_times --write
	./scripts/in-loopback $(RUN)python -m tests.benchmarks.queue_scale --write
	$(RUN)python -m tests.benchmarks.simulator --write

bench-radiomics: setup ## Measure CPU seconds of radiomics beside pyradiomics, MIRP and pictologics; ORGAN=lungs (run it alone)
	test -e .bench/mirp/installed || { $$(./scripts/find-python) -m venv .bench/mirp && .bench/mirp/bin/pip install --quiet mirp==2.7.0 && touch .bench/mirp/installed; } || rm -rf .bench/mirp
	test -e .bench/pictologics/installed || { $(RUN)uv venv --quiet --clear --python "$(or $(PYTHON312),>=3.12)" .bench/pictologics && $(RUN)uv pip install --quiet --python .bench/pictologics/bin/python pictologics==0.9.0 && touch .bench/pictologics/installed; } || rm -rf .bench/pictologics
	$(RUN)python -m tests.benchmarks.radiomics_against_peers --organ $(or $(ORGAN),heart)

bench: setup ## Measure every stage and the whole job beside peers (15 minutes; run it alone); WRITE=1 writes docs/performance.md
	./scripts/in-loopback $(RUN)python -m tests.benchmarks.suite $(if $(WRITE),--write) $(if $(JSON),--json "$(JSON)")

bench-ci: setup ## Measure small stages beside peers; fails if a ratio is 30 % below the stated one
	./scripts/in-loopback $(RUN)python -m tests.benchmarks.suite --ci

bench-compare: setup ## Compare two results of `make bench JSON=FILE`: A=FILE B=FILE
	$(RUN)python -m tests.benchmarks.compare "$(A)" "$(B)"

bench-job: setup ## Measure seconds and memory of the main job against its limits
	./scripts/in-loopback $(RUN)python -m pytest tests/benchmarks -s

security-tests: setup ## Try all that the security tests know; writes docs/security-tests.md (minutes)
	./scripts/in-loopback $(RUN)python -m pytest tests/security tests/unit/audit tests/unit/cli/test_audit.py tests/unit/service/test_access.py --security-page -q -n 0

parity: setup parity-env ## Compare every nnU-Net case with the original frameworks; writes docs/parity.md
	.parity/bin/python -m pytest tests/parity/nnunet --full --page -q -o timeout=1800
	.parity/bin/python -m pytest tests/parity/bpr -q

parity-small: setup parity-env ## Compare the nnU-Net cases that CI runs
	.parity/bin/python -m pytest tests/parity/nnunet --page -q -o timeout=1800

bench-cohort: setup ## Build and ask tables of 100,000 synthetic series; writes docs/cohort.md (run it alone)
	$(RUN)python -m tests.benchmarks.cohort --write

bench-front-door: setup ## Measure WADO-RS through the front door against nginx (run it alone)
	./scripts/install-system nginx
	./scripts/in-loopback $(RUN)python -m tests.benchmarks.front_door

bench-ohif: setup ## Measure OHIF's opening of a real CT through the front door against nginx and Orthanc (run it alone)
	./scripts/install-system nginx chromium
	./scripts/in-loopback $(RUN)python -m tests.benchmarks.ohif_opening

bench-long-report: setup ## Measure when OHIF shows a report of 116 structures (run it alone); WRITE=1 writes docs/results.md
	./scripts/install-system chromium
	./scripts/in-loopback $(RUN)python -m tests.benchmarks.long_report $(if $(WRITE),--write)

bench-nnunet: setup parity-env ## Measure seconds and memory against nnunetv2's own predictor
	.parity/bin/python -m tests.benchmarks.nnunet_against_peer total-fast

bench-bpr: setup parity-env ## Measure seconds against bpreg's own inference
	.parity/bin/python -m tests.benchmarks.bpr_against_peer

bench-segthor: setup parity-env ## Measure the SegTHOR network at true size against nnunet 1.7.1 (half an hour on two cores)
	.parity/bin/python -m tests.benchmarks.nnunet_against_peer segthor

try-install: try-install-uv ## Walk through docs/install.md on a bare Debian 12 and 13, also with pip (root; minutes)
	$(RUN)python -m scripts.walk --pip trixie

try-install-uv: setup ## Walk through docs/install.md on a bare Debian 12 and 13, as CI does (root)
	./scripts/install-system debootstrap
	$(RUN)python -m scripts.walk bookworm trixie

test-trixie: setup ## Run the tests of Orthanc and its plugin on Debian 13's Orthanc and Python (root)
	./scripts/install-system debootstrap
	$(RUN)python -m scripts.trixie

try-containers: setup ## Carry out docker/ without an engine, and enrich a phantom in it (root; minutes the first time)
	./scripts/install-system debootstrap postgresql
	$(RUN)python -m scripts.stack

audit-pins: setup ## Hold pins against PyPI's advisories, or against saved ones: ADVISORIES=all.zip
	$(RUN)python -m scripts.audit_pins $(if $(ADVISORIES),--advisories "$(ADVISORIES)") requirements/cpu.txt requirements/gpu.txt

pins: setup ## Pin what pyproject.toml asks for; UPGRADE=1 raises every version
	./scripts/pin-requirements $(if $(UPGRADE),--upgrade)

clean: ## Remove everything that was built or installed here
	rm -rf .gpu .bench .browser .demo dist .site .coverage .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .venv .parity
