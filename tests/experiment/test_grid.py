"""From a config to cells: tables, packs, methods, sources and overrides; light imports."""

import subprocess
import sys

import pytest
from helpers.configs import DEFAULT, changed
from helpers.models import ROOT

from lora.errors import ConfigError
from lora.experiment import grid
from lora.experiment.cell import Cell
from lora.experiment.config_files import read


def test_default_grid_is_that_of_the_course():
    loaded = grid.load(DEFAULT)
    assert [cell.task for cell in loaded.tables["table2"].cells] == ["sst2", "mrpc", "qqp"]
    assert len(loaded.tables["table6"].cells) == 15 and len(loaded.cells) == 18
    mrpc = loaded.hparams(Cell("roberta-base", "mrpc", "lora", "qv", 8, "course"))
    assert (
        mrpc.learning_rate,
        mrpc.alpha,
        mrpc.epochs,
        mrpc.examples_per_step,
        mrpc.max_tokens,
    ) == (4e-4, 16, 3, 16, 128)


def test_a_cell_that_two_tables_need_is_one_cell():
    loaded = grid.load(changed(tables__table2__tasks=["mnli"]))
    assert len(loaded.tables["table2"].cells) + len(loaded.tables["table6"].cells) == 16
    assert len(loaded.cells) == 15


@pytest.mark.parametrize("name", ["demo.yaml", "config.yaml"])
def test_every_shipped_config_is_valid(name):
    assert grid.load(read(str(ROOT / "config" / name))).cells


def test_a_pack_that_would_train_more_than_the_tables_is_refused():
    """Table 2 has rank 8 only, Table 6 five ranks. Other problems are in the same message."""
    with pytest.raises(ConfigError) as caught:
        grid.load(
            changed(
                pack=["rank", "seed"],
                protocol="paper",
                tables__table2__tasks=["sst2", "mrpc", "movie-polarity"],
            )
        )
    packed, *others = caught.value.problems
    assert packed.startswith(
        "pack: got [rank, seed], which trains all values of rank together, but no table uses"
    )
    named = (
        ", ".join(f"paper/roberta-base/sst2/lora/qv/r{rank}" for rank in (1, 2, 4)) + " and 9 more"
    )
    assert (
        f"uses {named}; use pack: [seed], or one config per table with the other one null" in packed
    )
    assert others and all("no row for protocol 'paper'" in other for other in others)


@pytest.mark.parametrize(
    "pack",
    [[], ["seed"], ["rank", "seed"], ["seed", "weights", "rank"], ["task", "seed"], ["task"]],
)
@pytest.mark.parametrize("table", ["table2", "table6"])
def test_a_single_table_packs_any_axis(pack, table):
    """The advice of the message works: with the other table null, the config loads."""
    other = {"table2": "table6", "table6": "table2"}[table]
    assert grid.load(changed(pack=pack, **{f"tables__{other}": None})).packing.axes == tuple(pack)


def test_baselines_are_cells_with_their_methods_weights():
    blocks = [dict(method="ft"), dict(method="adapter_drop", weights=["ffn0", "ffn8"], ranks=[48])]
    loaded = grid.load(
        changed(
            tables__table2__baselines=blocks,
            tables__table6=None,
            protocol="paper",
            tables__table2__tasks=["sst2"],
            overrides={name: value for name, value in DEMO_VALUES.items()},
        )
    )
    paths = [cell.path.removeprefix("paper/roberta-base/sst2/") for cell in loaded.cells]
    assert paths == ["lora/qv/r8", "ft/all/r0", "adapter_drop/ffn0/r48", "adapter_drop/ffn8/r48"]


def test_sources_and_overrides_from_the_config():
    loaded = grid.load(
        changed(
            sources={"glue-mrpc": {"kind": "file", "locator": "glue"}}, overrides={"alpha": "2r"}
        )
    )
    assert loaded.sources["glue-mrpc"].kind == "file" and loaded.sources["glue-mrpc"].role == "data"
    assert loaded.hparams(Cell("roberta-base", "mnli", "lora", "qv", 64, "course")).alpha == 128


DEMO_VALUES = dict(
    epochs=3,
    learning_rate=1e-3,
    examples_per_step=16,
    max_tokens=128,
    alpha=8,
    lora_dropout=0,
    init_a="kaiming",
    init_a_std=0.02,
    head="trained",
    weight_decay=0.1,
    warmup_frac=0.06,
    max_grad_norm=1,
    adam_beta1=0.9,
    adam_beta2=0.999,
    adam_epsilon=1e-8,
    start="pretrained",
)


def imports(code: str, forbidden: tuple[str, ...]) -> list[str]:
    """Which of `forbidden` are loaded after running `code` in a new Python."""
    probe = f"{code}\nimport sys\nprint(*[name for name in {forbidden!r} if name in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", probe], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return done.stdout.split()


def test_grid_imports_no_torch():
    assert (
        imports(
            "import lora.experiment.grid, lora.planning.forecast, lora.planning.plan",
            ("torch", "pandas", "transformers", "numpy"),
        )
        == []
    )


def test_the_import_test_can_fail():
    assert imports("import lora.model.layers", ("torch",)) == ["torch"]
