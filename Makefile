# make demo [CT=folder] [MODEL=name|folder|zip] [EXIT=1]   the main job, on your CT or on a phantom
# make test           all tests, minutes per tier
# make check          format, lint, types, import directions
# make parity         nnU-Net models against the original frameworks, all cases (parity-small: those of CI); writes docs/parity.md
# make bench-nnunet   seconds and memory against nnunetv2's own predictor
# make bench-bpr      seconds against bpreg's own inference
# make conformance    every object of every real series by independent readers, all cases; writes docs/conformance.md
# make bench-segthor  the SegTHOR network at true size against nnunet 1.7.1 (half an hour on two cores)
# make setup bench clean

RUN := .venv/bin/
TIERS ?= unit integration parity parity/nnunet parity/bpr faults security
# Every test of the main job starts several Pythons: without cached bytecode each would compile its libraries anew.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: setup demo test check conformance bench parity-env parity parity-small bench-nnunet bench-bpr bench-segthor clean pins

setup: .venv/.installed

.venv/.installed: requirements/dev.txt pyproject.toml scripts/install-system
	./scripts/install-system
	test -x $(RUN)python || "$$(PYTHON=$(PYTHON) ./scripts/find-python)" -m venv .venv
	$(RUN)python -m pip install --quiet --disable-pip-version-check 'uv>=0.8'
	$(RUN)uv pip install --quiet --compile-bytecode --python $(RUN)python --require-hashes -r requirements/dev.txt
	$(RUN)uv pip install --quiet --python $(RUN)python --no-deps -e .
	touch $@

parity-env: .parity/.installed

# The original frameworks and torch have an environment of their own: nothing that is installed for users needs them.
.parity/.installed: requirements/parity.txt pyproject.toml scripts/parity-env
	./scripts/parity-env "$$(PYTHON=$(PYTHON) ./scripts/find-python)"
	touch $@

demo: setup
	$(RUN)orthanc-enrich demo $(if $(CT),"$(CT)") $(if $(MODEL),--model "$(MODEL)") $(if $(EXIT),--exit)

test: setup parity-env
	./scripts/install-system postgresql
	./scripts/in-loopback ./scripts/test-tiers $(TIERS)

check: setup
	$(RUN)ruff format --check .
	$(RUN)ruff check .
	$(RUN)mypy
	$(RUN)lint-imports

conformance: setup
	$(RUN)python -m pytest tests/integration/test_conformance*.py --matrix --matrix-page -q -n auto --dist loadfile -o timeout=1800

bench: setup
	./scripts/in-loopback $(RUN)python -m pytest tests/benchmarks -s

parity: setup parity-env
	.parity/bin/python -m pytest tests/parity/nnunet --full --page -q -o timeout=1800
	.parity/bin/python -m pytest tests/parity/bpr -q

parity-small: setup parity-env
	.parity/bin/python -m pytest tests/parity/nnunet --page -q -o timeout=1800

bench-nnunet: setup parity-env
	.parity/bin/python -m tests.benchmarks.nnunet_against_peer total-fast

bench-bpr: setup parity-env
	.parity/bin/python -m tests.benchmarks.bpr_against_peer

bench-segthor: setup parity-env
	.parity/bin/python -m tests.benchmarks.nnunet_against_peer segthor

pins: setup
	./scripts/pin-requirements

clean:
	rm -rf .demo dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .venv .parity
