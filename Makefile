# `make demo` runs the embedded demo, `make test` the tests. Both set up .venv first.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test test-slow test-all lint docs tables pictures bench gpu determinism faults slurm clean
.DEFAULT_GOAL := demo

demo: .venv/.ready
	$(BIN)/snakemake --cores all --configfile config/demo.yaml
	$(BIN)/snakemake --cores 1 --configfile config/demo.yaml --report results/demo/report.html --quiet
	@echo "Report    results/demo/report.html"

# Tables, figures and report of the tracked reference runs. Seconds; needs no torch.
tables: .venv/.ready
	$(BIN)/snakemake --cores 1 --configfile config/demo.yaml --config mode=existing results=results/reference
	$(BIN)/snakemake --cores 1 --configfile config/demo.yaml --config mode=existing results=results/reference \
		--report results/reference/report.html --quiet

# The tracked pictures in results/reference/pictures, from the reference runs. Needs chromium.
pictures: .venv/.ready
	$(BIN)/python workflow/scripts/pictures.py

# Speed of several ways to train, side by side. See benchmarks/README.md.
bench: .venv/.ready
	$(BIN)/python benchmarks/run.py

# Checks and speed on a GPU, in at most ten minutes; again runs what is missing. Exit status 2 without a GPU.
gpu: .venv/.ready
	PYTHONPATH=benchmarks:. $(BIN)/python -m gpu

# The demo with one core, all cores, and two threads a job: compares the bytes. About 20 minutes.
determinism: .venv/.ready
	$(BIN)/python tests/determinism.py

# 200 kills and every other disturbance of tests/faults. About 10 minutes; some need root.
faults: .venv/.ready
	$(BIN)/python tests/faults/run.py --kills 200

# Thirteen disturbances of grids on a one-node Slurm (tests/install_programs.sh). About 15 minutes.
slurm: .venv/.ready
	$(BIN)/python tests/slurm/run.py

# The fast tests, in parallel: every promise once. One thread a worker, as each worker has a core.
PYTEST = OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist worksteal

test: .venv/.ready
	$(PYTEST) -m "not slow"

# The tests that `make test` leaves out, one after another: some start servers or measure time.
test-slow: .venv/.ready
	$(BIN)/python -m pytest -m slow

test-all: test test-slow

# Generated parts of the documents and the JSON schema of the config.
docs: .venv/.ready
	$(BIN)/python workflow/scripts/generate_docs.py

lint: .venv/.ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/snakefmt --check Snakefile workflow
	$(BIN)/snakemake --lint

.venv/.ready: pyproject.toml envs/requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; this is " + sys.version)'
	@echo "Setting up .venv: 1 to 2 minutes."
	@$(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet -c envs/requirements.lock -e '.[dev,slurm]' >.venv/pip.log 2>&1 \
		|| { cat .venv/pip.log; exit 1; }
	@touch $@

clean:
	rm -rf .venv .snakemake results/demo
