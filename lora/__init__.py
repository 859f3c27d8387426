"""Reproduction of LoRA (Hu et al. 2021, arXiv 2106.09685) on GLUE: train a grid of runs, and
tabulate them next to the published values."""

__version__ = "0.1.0"  # the only place to change it; `make docs` writes the copies of it

# Part of every run's digest and a parameter of the train rule. Raise it when the same settings
# give other numbers, and only then: the runs that it changes are trained again, and the change is
# this one line. `experiment.versions` says which runs have an earlier version.
RESULTS_VERSION = 4
