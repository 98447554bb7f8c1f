# make demo [CT=folder] [EXIT=1]   the main job, on your CT or on a phantom
# make test                        all tests, minutes per tier
# make check                       format, lint, types, import directions
# make setup bench clean

RUN := .venv/bin/
TIERS ?= unit integration parity faults security
# Every test of the main job starts several Pythons: without cached bytecode each would compile its libraries anew.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: setup demo test check bench clean pins

setup: .venv/.installed

.venv/.installed: requirements/dev.txt pyproject.toml scripts/install-system
	./scripts/install-system
	test -x $(RUN)python || "$$(PYTHON=$(PYTHON) ./scripts/find-python)" -m venv .venv
	$(RUN)python -m pip install --quiet --disable-pip-version-check 'uv>=0.8'
	$(RUN)uv pip install --quiet --compile-bytecode --python $(RUN)python --require-hashes -r requirements/dev.txt
	$(RUN)uv pip install --quiet --python $(RUN)python --no-deps -e .
	touch $@

demo: setup
	$(RUN)orthanc-enrich demo $(if $(CT),"$(CT)") $(if $(EXIT),--exit)

test: setup
	./scripts/install-system postgresql
	./scripts/in-loopback ./scripts/test-tiers $(TIERS)

check: setup
	$(RUN)ruff format --check .
	$(RUN)ruff check .
	$(RUN)mypy
	$(RUN)lint-imports

bench: setup
	./scripts/in-loopback $(RUN)python -m pytest tests/benchmarks -s

pins: setup
	./scripts/pin-requirements

clean:
	rm -rf .demo dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .venv
