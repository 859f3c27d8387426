# Two commands: `make demo` runs the embedded demo, `make test` the tests. Both set up .venv first.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test lint tables bench determinism faults slurm clean
.DEFAULT_GOAL := demo

demo: .venv/.ready
	$(BIN)/snakemake --cores all --configfile config/demo.yaml
	$(BIN)/snakemake --cores 1 --configfile config/demo.yaml --report results/demo/report.html --quiet
	@cat results/demo/tables/table2.md results/demo/tables/table6.md
	@echo "Tables: results/demo/tables  Plots: results/demo/figures  Report: results/demo/report.html"

# Tables, plots and report of the tracked reference runs: seconds, no training, no torch.
tables: .venv/.ready
	$(BIN)/snakemake --cores 1 --configfile config/demo.yaml --config mode=existing results=results/reference
	$(BIN)/snakemake --cores 1 --configfile config/demo.yaml --config mode=existing results=results/reference \
		--report results/reference/report.html --quiet

# Ways of training timed side by side; see benchmarks/README.md.
bench: .venv/.ready
	$(BIN)/python benchmarks/run.py

# The demo three times, by one core, by all, and with two threads a job: the same bytes or not. For every night.
determinism: .venv/.ready
	$(BIN)/python tests/determinism.py

# At least 200 kills and every other disturbance of tests/faults: about ten minutes, as root for all of them.
faults: .venv/.ready
	$(BIN)/python tests/faults/run.py --kills 200

# Grids on a Slurm of one node (tests/slurm/install.sh), disturbed in twelve ways: about a quarter of an hour.
slurm: .venv/.ready
	$(BIN)/python tests/slurm/run.py

test: .venv/.ready
	$(BIN)/python -m pytest

lint: .venv/.ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/snakefmt --check Snakefile workflow
	$(BIN)/snakemake --lint

.venv/.ready: pyproject.toml envs/requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; this is " + sys.version)'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet -c envs/requirements.lock -e '.[dev,slurm]'
	@touch $@

clean:
	rm -rf .venv .snakemake results/demo
