"""Grids of the config files in config/: cells, parameter counts and jobs."""

import functools
import re

import pytest
import torch
import transformers
from helpers.models import ROOT
from helpers.protocols import TASKS, rows
from helpers.workflow import snakemake

from lora.experiment import csv_tables, grid, hparam_rows
from lora.experiment.cell import Cell
from lora.experiment.config_files import read
from lora.model import methods

CONFIGS = {  # name -> cells trained, runs
    "ablation-head.yaml": (2 * 3 * 5, 90),
    "baselines.yaml": (6 * 4, 72),
    "config.yaml": (3 + 15, 90),
    "deberta.yaml": (8, 40),
    "demo.yaml": (4 + 8, 36),
    # 12 rows of Table 2, then what Table 6 and Table 5 add on MNLI.
    "paper.yaml": (12 * 8 + 14 + 4, 570),
}


def test_every_cell_of_every_shipped_config_resolves():
    assert {path.name for path in (ROOT / "config").glob("*.yaml")} == set(CONFIGS)
    for name, (cells, runs) in CONFIGS.items():
        loaded = grid.load(read(str(ROOT / "config" / name)))
        assert (len(loaded.cells), len(loaded.cells) * len(loaded.seeds)) == (cells, runs), name
        assert all(loaded.hparams(cell).max_tokens <= 512 for cell in loaded.cells)
        assert all(loaded.tasks[cell.task].dataset in loaded.sources for cell in loaded.cells)


def test_the_paper_config_has_every_row_of_table_2_on_roberta():
    """Each RoBERTa value of the paper's Table 2 has a cell, and each cell has a value."""
    loaded = grid.load(read(str(ROOT / "config/paper.yaml")))
    published = {
        Cell(
            *(fact[key] for key in ("model", "task", "method", "weights")),
            rank=int(fact["rank"]),
            protocol=fact["protocol"] or "paper",
        )
        for fact in loaded.published
        if fact["table"] == "table2"
        and fact["source"].startswith("arXiv")
        and fact["task"] in TASKS
        and fact["model"] in ("roberta-base", "roberta-large")
    }
    assert published == set(loaded.tables["table2"].cells) and len(published) == 12 * 8


def test_the_deberta_config_has_the_last_row_of_table_2():
    """Its settings are those of Table 10; examples with all of its columns."""
    loaded = grid.load(read(str(ROOT / "config/deberta.yaml")))
    published = {
        (fact["task"], fact["weights"], int(fact["rank"]))
        for fact in loaded.published
        if (fact["model"], fact["method"]) == ("deberta-xxl", "lora") and fact["task"] in TASKS
    }
    cells = {cell.task: cell for cell in loaded.tables["table2"].cells}
    assert published == {(cell.task, cell.weights, cell.rank) for cell in cells.values()}
    names = "examples_per_step epochs learning_rate max_tokens weight_decay alpha warmup_frac start"
    for task, expected in {
        "mnli": (8, 5, 1e-4, 256, 0, 8, 0.1, "pretrained"),
        "mrpc": (32, 30, 2e-4, 128, 0.01, 8, 0.1, "mnli"),
        "qnli": (6, 8, 1e-4, 512, 0.01, 8, 0.1, "pretrained"),
        "stsb": (4, 10, 2e-4, 128, 0.1, 8, 0.1, "mnli"),
    }.items():
        hparams = loaded.hparams(cells[task])
        assert tuple(getattr(hparams, name) for name in names.split()) == expected


# Model, method, weights, rank: parameters without the head, the paper's label (Table 2), and how
# they agree:
# "rounded" to the label's digits, "2^20" when a million is taken as 2^20, "" not at all.
COUNTS = [
    ("roberta-base", "lora", "qv", 8, 294_912, "0.3M", "rounded"),
    ("roberta-base", "ft", "all", 0, 124_055_040, "125.0M", ""),
    ("roberta-base", "bitfit", "bias", 0, 102_144, "0.1M", "rounded"),
    ("roberta-base", "adapter_drop", "ffn8", 48, 298_176, "0.3M", "rounded"),
    ("roberta-base", "adapter_drop", "ffn0", 48, 894_528, "0.9M", "rounded"),
    ("roberta-large", "lora", "qv", 8, 786_432, "0.8M", "rounded"),
    ("roberta-large", "ft", "all", 0, 354_310_144, "355.0M", ""),
    ("roberta-large", "adapter_pfeiffer", "ffn", 64, 3_171_840, "3.0M", "2^20"),
    ("roberta-large", "adapter_pfeiffer", "ffn", 16, 811_392, "0.8M", "rounded"),
    ("roberta-large", "adapter_houlsby", "both", 64, 6_343_680, "6.0M", "2^20"),
    ("roberta-large", "adapter_houlsby", "both", 8, 835_968, "0.8M", "rounded"),
]
HEADS = {
    "roberta-base": 592_130,
    "roberta-large": 1_051_650,
}  # of two labels; the paper does not count them


@functools.cache
def shape_of(model: str):
    """Return the encoder in its real size on the meta device."""
    large = dict(
        hidden_size=1024, num_hidden_layers=24, num_attention_heads=16, intermediate_size=4096
    )
    config = transformers.RobertaConfig(
        vocab_size=50265,
        max_position_embeddings=514,
        type_vocab_size=1,
        pad_token_id=1,
        layer_norm_eps=1e-5,
        **(large if model == "roberta-large" else {}),
    )
    with torch.device("meta"):
        return transformers.RobertaModel(config, add_pooling_layer=False)


@pytest.mark.parametrize("model, method, weights, rank, count, label, agree", COUNTS)
def test_trainable_parameter_counts_agree_with_the_papers(
    model, method, weights, rank, count, label, agree
):
    cell = Cell(model, "sst2", method, weights, rank, "paper")
    settings = hparam_rows.resolve(rows(), cell, {})
    member = methods.AdapterSpec(0, weights, rank, 2, settings, method, cell.first_layer)
    assert methods.trainable_parameters(shape_of(model), member, head=False) == count
    assert methods.trainable_parameters(shape_of(model), member) == count + HEADS[model]
    millions = [
        name
        for name, size in (("rounded", 10**6), ("2^20", 2**20))
        if f"{count / size:.1f}M" == label
    ]
    assert (millions[0] if millions else "") == agree
    labels = {
        fact["trainable"]
        for fact in csv_tables.read_rows("published.csv")
        if fact["table"] == "table2"
        and (fact["model"], fact["method"], fact["weights"]) == (model, method, weights)
        and (int(fact["rank"] or 0), fact["task"]) == (rank, "sst2")
        and fact["source"].startswith("arXiv")
    }
    assert labels == {label}


def test_jobs_of_the_paper_config_wait_for_their_mnli_runs(tmp_path):
    """Dry run of paper.yaml: the jobs, and the runs that MRPC, RTE and STS-B wait for."""
    output = snakemake("-n", "--configfile", ROOT / "config/paper.yaml", "--directory", tmp_path)
    jobs = re.findall(r"rule train:\n +input: (.*)\n +output: (.*)\n", output)
    assert len(jobs) == 114 and not (tmp_path / "results").exists()
    starts = {}
    for inputs, outputs in jobs:
        cell = Cell.parse(re.search(r"runs/(.*?)/seed0/metrics.csv", outputs)[1])
        starts[cell] = set(re.findall(r"runs/(\S*?)/seed[0-4]/run.json", inputs))
        assert inputs.count("run.json") == 5 * len(starts[cell])
    for cell, found in starts.items():
        waits = (
            cell.protocol == "paper"
            and cell.method == "lora"
            and cell.task in ("mrpc", "rte", "stsb")
        )
        assert found == ({f"paper/{cell.model}/mnli/lora/qv/r8"} if waits else set()), cell
