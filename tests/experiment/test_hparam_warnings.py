"""Unusual hyperparameters give a warning; those of the paper and the shipped configs don't."""

import dataclasses

import pytest
from helpers.fuzzing import fuzz
from helpers.glue import GLUE
from helpers.models import ROOT
from helpers.workflow import snakemake, write_config
from hypothesis import given
from hypothesis import strategies as st

from lora.data import formats
from lora.experiment import config_files, grid, hparam_rows, hparam_warnings, registry
from lora.experiment.cell import Cell
from lora.experiment.hparams import HPARAM_FIELDS, Hparams
from lora.model import attention

CELL = Cell("roberta-base", "sst2", "lora", "qv", 8, "paper")
PAPER = hparam_rows.resolve(hparam_rows.read_hparam_rows(), CELL, {})


@pytest.mark.parametrize("name", sorted(path.name for path in (ROOT / "config").glob("*.yaml")))
def test_shipped_configs_are_usual(name):
    loaded = grid.load(config_files.read(str(ROOT / "config" / name)))
    warned = {
        cell: hparam_warnings.warnings_of(loaded.hparams(cell), cell) for cell in loaded.cells
    }
    assert {cell: warnings for cell, warnings in warned.items() if warnings} == {}


@pytest.mark.parametrize(
    "rank, alpha", [(1, 8), (64, 8), (4, 32), (8, 8), (8, 16), (64, 16), (1, 16), (512, 512)]
)
def test_the_papers_ranks_and_scales_are_usual(rank, alpha):
    """Tables 6, 9 and 11, and the course's."""
    assert (
        hparam_warnings.warnings_of(
            dataclasses.replace(PAPER, alpha=alpha), dataclasses.replace(CELL, rank=rank)
        )
        == []
    )


@pytest.mark.parametrize(
    "changes, warning_start",
    [
        (
            dict(learning_rate=5.0),
            "learning_rate is 5.0; usual is 1e-07 to 0.02: AdamW changes a weight by about that",
        ),
        (dict(learning_rate=1e-9), "learning_rate is 1e-09; usual is"),
        (dict(epochs=500), "epochs is 500; usual is 1 to 200: the paper's longest are 80"),
        (dict(examples_per_step=4096), "examples_per_step is 4096; usual is 1 to 1024"),
        (
            dict(max_tokens=4),
            "max_tokens is 4; usual is 16 to 512: more than half of SST-2's sentences",
        ),
        (dict(lora_dropout=0.8), "lora_dropout is 0.8; usual is 0 to 0.5"),
        (dict(init_a="gaussian", init_a_std=5), "init_a_std is 5; usual is 0.0001 to 1"),
        (dict(weight_decay=10), "weight_decay is 10; usual is 0 to 1"),
        (
            dict(warmup_frac=1),
            "warmup_frac is 1; usual is 0 to 0.5: above, the learning rate rises during most",
        ),
        (dict(adam_epsilon=1), "adam_epsilon is 1; usual is 0 to 0.001"),
        (
            dict(adam_beta1=0.999, adam_beta2=0.9),
            "adam_beta1 is 0.999 and adam_beta2 0.9; usual is 0.9 and 0.999",
        ),
        (dict(alpha=800), "alpha/r is 100; usual is 0.015625 to 64"),
        (dict(alpha=0.01), "alpha/r is 0.00125; usual is"),
    ],
)
def test_an_unusual_value_is_one_warning(changes, warning_start):
    (warning,) = hparam_warnings.warnings_of(dataclasses.replace(PAPER, **changes), CELL)
    assert warning.startswith(warning_start)


def test_hyperparameters_that_a_method_ignores_give_no_warning():
    odd = dataclasses.replace(PAPER, lora_dropout=0.9, init_a="gaussian", init_a_std=9, alpha=1e6)
    assert len(hparam_warnings.warnings_of(odd, CELL)) == 3
    assert (
        hparam_warnings.warnings_of(
            odd, dataclasses.replace(CELL, method="ft", weights="all", rank=0)
        )
        == []
    )
    assert (
        hparam_warnings.warnings_of(
            dataclasses.replace(PAPER, init_a="kaiming", init_a_std=9), CELL
        )
        == []
    )


def test_a_rank_of_half_the_width_gives_a_warning():
    odd = dataclasses.replace(CELL, rank=513)
    (warning,) = hparam_warnings.warnings_of(dataclasses.replace(PAPER, alpha=513), odd)
    assert warning.startswith("rank is 513; usual is 1 to 512")
    width = (
        1024  # at half of it, A and B together have as many numbers as the square matrix they adapt
    )
    assert 2 * hparam_warnings.RANK * width == width * width
    assert (
        hparam_warnings.warnings_of(dataclasses.replace(PAPER, alpha=1e9)) == []
    )  # without a cell the rank is not known


def test_highest_max_tokens_is_the_limit_of_attention():
    assert (
        HPARAM_FIELDS["max_tokens"].metadata["maximum"]
        == attention.WIDTHS[-1]
        == hparam_warnings.USUAL["max_tokens"][1]
    )


def test_most_sentences_of_sst2_are_longer_than_the_lowest_usual_max_tokens():
    """Lengths in words, each at least one token, plus two special tokens."""
    if not (GLUE / "SST-2").is_dir():
        pytest.skip(f"no official GLUE files in {GLUE}; set LORA_GLUE_DIR")
    texts = formats.read(registry.read_tasks()["sst2"], GLUE)["validation"].first
    least = hparam_warnings.USUAL["max_tokens"][0]
    assert sum(len(text.split()) + 2 > least for text in texts) > len(texts) / 2


def test_a_grid_gives_each_warning_once():
    cells = [dataclasses.replace(CELL, task=task) for task in ("sst2", "mrpc", "rte")]
    odd = dataclasses.replace(PAPER, learning_rate=5.0)
    first, second = hparam_warnings.warnings_of_cells(
        {cells[0]: odd, cells[1]: PAPER, cells[2]: dataclasses.replace(odd, epochs=900)}
    )
    assert first.startswith("learning_rate is 5.0") and first.endswith(
        f"(of {cells[0].path} and 1 more)"
    )
    assert second.startswith("epochs is 900") and second.endswith(f"(of {cells[2].path})")


def test_a_dry_run_shows_the_warnings(tmp_path):
    path = write_config(tmp_path, dict(overrides=dict(learning_rate=5)))
    output = snakemake("-n", "--configfile", path, "--directory", tmp_path)
    assert (
        output.count("learning_rate is 5.0; usual is 1e-07 to 0.02") == 1
        and "and 17 more" in output
    )
    (tmp_path / "config.yaml").write_text("seeds: [1]\nprotocol: demo\nseeds: [2]\n")
    code, output = snakemake("-n", "--configfile", path, "--directory", tmp_path, check=False)
    assert (
        code != 0 and "key 'seeds' is there more than once" in output and "Traceback" not in output
    )


def values_of(field) -> st.SearchStrategy:
    limits = field.metadata
    if limits["choices"]:
        return st.sampled_from(limits["choices"])
    if field.type is str:
        return st.just("pretrained")
    if field.type is int:
        return st.integers(limits["minimum"], limits["maximum"])
    least = limits["minimum"] if limits["minimum"] is not None else limits["above"]
    most = limits["maximum"] if limits["maximum"] is not None else limits["below"]
    return st.floats(
        least,
        most,
        exclude_min=limits["above"] is not None,
        exclude_max=limits["below"] is not None,
        allow_infinity=False,
        allow_nan=False,
    )


@fuzz(100)
@given(st.fixed_dictionaries({name: values_of(field) for name, field in HPARAM_FIELDS.items()}))
def test_any_allowed_values_can_be_checked(values):
    """Including the largest and smallest numbers."""
    for cell in (None, CELL, dataclasses.replace(CELL, rank=2**31 - 1)):
        for sentence in hparam_warnings.warnings_of(Hparams(**values), cell):
            assert "; usual is " in sentence
