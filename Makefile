# make demo    the whole thing on the phantom: environment, run, path of the report
# make test    the same environment, the tests
# make check   formatting, lint, types, import contracts
# make setup   the environment only (.venv); instant when nothing changed
#
# PYTHON=python3.12 chooses the interpreter, CONSTRAINTS= (empty) lets pip choose versions within pyproject's bounds,
# OUT=DIR is where the demo writes, PYTEST="-m slow" goes to pytest, JOBS=4 tests so many files side by side.

SHELL := bash
CONSTRAINTS ?= constraints.txt
OUT ?= runs/demo
JOBS ?= 2
PYTHON ?= $(firstword $(foreach name,python3 python3.11 python3.12 python3.13,\
	$(shell $(name) -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $(name))))
BIN := .venv/bin
STAMP := .venv/.setup-done

.PHONY: help setup demo test check

help:
	@sed -n 's/^# make/make/p' Makefile

setup: $(STAMP)

$(STAMP): pyproject.toml $(CONSTRAINTS)
	@test -n "$(PYTHON)" || { echo "scuba_ray needs Python 3.11 or newer with venv (Debian: apt install python3-venv);" \
		"name one with make setup PYTHON=..." >&2; exit 1; }
	@test -x $(BIN)/python || { echo "[1/3] environment .venv ($$($(PYTHON) --version))"; $(PYTHON) -m venv .venv; }
	@echo "[2/3] packages: PyTorch is the large one (with CUDA some 5 GB on disk), so the first time takes minutes"
	@set -o pipefail; $(BIN)/python -m pip install --no-compile --disable-pip-version-check --no-color --progress-bar off \
		$(if $(CONSTRAINTS),--constraint $(CONSTRAINTS)) --editable '.[cpu,serve,dev]' 2>&1 | tee .venv/install.log \
		| awk '/^(Collecting|Processing) / && ++n % 20 == 0 { sub(/.*\//, "", $$2); print "      " n " packages found, the last one " $$2; fflush() } \
			/^Installing collected/ { print "      " n " packages found, unpacking them"; fflush() } \
			/^ERROR|^error|^  *Error/ { print; fflush() }' \
		|| { tail -n 25 .venv/install.log; echo "pip failed; its whole output: .venv/install.log" >&2; exit 1; }
	@# pip compiles on one core; every Ray worker imports these, and some machines forbid Python to keep what it compiles
	@$(BIN)/python -m compileall -qq -j 0 .venv/lib scuba_ray tests || true
	@touch $@
	@echo "[3/3] ready: $(BIN)/scuba"

demo: setup
	@$(BIN)/scuba demo --out "$(OUT)"

test: setup
	@OMP_NUM_THREADS=1 $(BIN)/pytest --numprocesses $(JOBS) --dist loadfile $(PYTEST)

check: setup
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports
