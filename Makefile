# Two commands matter: `make run` and `make test`. Each sets up its own .venv on first use.
#
#   make run                          the whole suite, profile cpu, no GPU and no network needed
#   make run PROFILE=smoke            the same notebook in two minutes, with far too little training
#   make run CORPUS=path:../my-repo   another code base (also installed:NAME, git:URL[@rev], zip:FILE)
#   make run RESUME=1                 go on with the last interrupted run of the same settings
#   make test                         everything that is tested
#   make pretrain DATA=docstrings RECIPE=improved   one model from random weights (SMOKE=1, RESUME=1, SCALE=full)
#   make lab DATA=docstrings          the fixed-budget notebook: baseline, seeds, ladder, report
PROFILE ?= cpu
CORPUS  ?=
OUT     ?= .
RESUME  ?=
SEED    ?=
PYTHON  ?= $(shell for v in 3.11 3.12 3.13 3; do command -v python$$v >/dev/null 2>&1 && python$$v -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo python$$v; break; }; done)
VENV    := .venv
BIN     := $(VENV)/bin

DATA    ?= docstrings
RECIPE  ?= baseline
SCALE   ?= auto
SMOKE   ?=

.PHONY: run pretrain lab test lint bench compat t4-on-cpu t4-on-gpu clean

run: $(VENV)/.ready
	@$(BIN)/python -m helpers run --profile "$(PROFILE)" --out "$(OUT)" \
		$(if $(CORPUS),--corpus "$(CORPUS)") $(if $(SEED),--seed "$(SEED)") $(if $(RESUME),--resume)

pretrain: $(VENV)/.ready
	@$(BIN)/python -m helpers pretrain --data "$(DATA)" --recipe "$(RECIPE)" --scale "$(SCALE)" --out "$(OUT)" \
		$(if $(SMOKE),--smoke) $(if $(RESUME),--resume)

lab: $(VENV)/.ready
	@$(BIN)/python -m helpers lab --data "$(DATA)" --scale "$(SCALE)" --out "$(OUT)" $(if $(RESUME),--resume)

# One file of tests is run by one process; a thread each, since the processes share the cores.
test: $(VENV)/.ready lint
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadfile

lint: $(VENV)/.ready
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check --quiet . || { echo "run: $(BIN)/ruff format ."; exit 1; }

bench: $(VENV)/.ready
	@for file in benchmarks/*.py; do echo "== $$file"; $(BIN)/python $$file || exit 1; done

# torch comes first and pinned: a plain `torch` asked for by another package would pull gigabytes of CUDA.
# The requirement files are copied in last, so that an interrupted set-up is started again.
$(VENV)/.ready: requirements-lock.txt
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed; none was found on PATH." >&2; exit 1; }
	@echo "Setting up $(VENV) with $(PYTHON) (once, a few minutes) ..."
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check "$$(grep '^torch==' requirements-lock.txt)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-lock.txt
	@touch $@

# The smoke run on the package versions of a hosted runtime (.ci/compat), and profile t4 on stand-ins.
compat: $(VENV)/.ready
	@PYTHON="$(PYTHON)" .ci/compat

t4-on-cpu: $(VENV)/.ready
	@rm -rf runs/t4-on-cpu && $(BIN)/python scripts/t4_on_cpu.py runs/t4-on-cpu/plain
	@$(BIN)/python scripts/t4_on_cpu.py runs/t4-on-cpu/nf4 --nf4

# On a machine with a CUDA GPU of 16 GiB or more and a torch that can use it.
t4-on-gpu: $(VENV)/.ready
	@$(BIN)/python scripts/t4_on_gpu.py runs/t4-on-gpu/small
	@$(BIN)/python scripts/t4_on_gpu.py runs/t4-on-gpu/larger --larger

clean:
	rm -rf $(VENV) .pytest_cache .ruff_cache
