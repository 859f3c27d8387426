"""Paths of a results folder: the pattern of the rules and the functions name the same files."""

import pytest

from lora import paths
from lora.experiment.cell import Cell


def test_a_run_folder_matches_the_pattern_of_the_rules():
    cell = Cell("roberta-base", "mrpc", "lora", "qv", 8, "paper")
    expected = paths.RUN_PATTERN.format(
        protocol="paper",
        model="roberta-base",
        task="mrpc",
        method="lora",
        weights="qv",
        rank=8,
        seed=3,
    )
    runs = paths.runs_dir("results")
    assert paths.run_dir(runs, cell.path, 3) == f"results/runs/{expected}"


@pytest.mark.parametrize("results", ["results", "./results", "/somewhere else/results"])
def test_the_text_of_a_results_folder_is_kept(results):
    """Snakemake compares parameters as text: another spelling would train every run again."""
    assert paths.manifest(results, "minilm") == f"{results}/sources/minilm/fetched.json"
    assert paths.tokens_dir(results, "m", "rte", 128) == f"{results}/tokens/m/rte/t128"
    folders = ("runs", "tables", "figures", "subspace", "logs", "state", "plan")
    for name in folders:
        assert getattr(paths, f"{name}_dir")(results) == f"{results}/{name}"


def test_the_root_is_the_checkout():
    assert (paths.ROOT / "Snakefile").is_file()
