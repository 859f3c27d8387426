"""Config to cells: what is accepted, what is refused and in which words, and that the Snakefile side stays light."""

import subprocess
import sys

import pytest
from helpers.configs import DEFAULT, changed
from helpers.models import ROOT

from lora.errors import ConfigError
from lora.experiment import grid, registry
from lora.experiment.cell import Cell
from lora.experiment.config import read


def test_default_grid_is_the_courses():
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


def test_cell_and_path_are_each_other():
    for cell in grid.load(DEFAULT).cells:
        assert Cell.parse(cell.path) == cell
    for wrong in ("a/b/lora/qv", "a/b/lora/qv/8", "a/b/lora/vq/r8", "a/b/lora/qv/r0"):
        with pytest.raises(ValueError):
            Cell.parse(wrong)


def test_all_problems_are_told_at_once():
    config = changed(
        seeds=[1, 1],
        device="gpu",
        tables__table6__ranks=[0, 4],
        tables__table2__task=["sst2"],
        overrides={"alpha": [1]},
    )
    del config["pack"]
    with pytest.raises(ConfigError) as caught:
        grid.load(config)
    text = str(caught.value)
    for part in (
        "missing key 'pack'",
        "seeds: got [1, 1]; allowed: each only once",
        'device: got "gpu"; allowed: "auto" or "cpu" or "cuda"',
        "tables.table6.ranks[0]: got 0; allowed: at least 1",
        "tables.table2: unknown key 'task' (did you mean 'tasks'?); allowed: models, tasks, method, weights, ranks",
        "overrides.alpha: got [1]",
    ):
        assert part in text, text


@pytest.mark.parametrize(
    "changes, message",
    [
        (dict(tables__table2__tasks=["sst-2"]), "got 'sst-2'; allowed: .*did you mean 'sst2'"),
        (
            dict(tables__table2__models=["roberta"]),
            "tables.table2.models: got 'roberta'; allowed: bert-base-uncased",
        ),
        (dict(tables__table2__models=["glue-sst2"]), "models: got 'glue-sst2'"),
        (dict(tables__table6__weights=["vq"]), "weights is 'vq'; .*write 'qv'"),
        (dict(tables__table6__weights=["qx"]), "weights is 'qx'; allowed: letters of 'qkvo'"),
        (dict(protocol="papre"), "protocol: got 'papre'; allowed: .*did you mean 'paper'"),
        (dict(overrides={"learning_rte": 1}), "did you mean 'learning_rate'"),
        (
            dict(overrides={"learning_rate": "fast"}),
            "learning_rate is 'fast'; allowed: a number above 0",
        ),
        (dict(overrides={"epochs": 2.5}), "epochs is 2.5; allowed: a whole number of at least 1"),
        (dict(overrides={"head": "melted"}), "head is 'melted'; allowed: trained or frozen"),
        (dict(tables={"table2": None, "table6": None}), "no table is asked for"),
        (
            dict(pack=["epoch"]),
            r"pack\[0\]: got \"epoch\"; allowed: \"protocol\" or \"task\" or \"weights\" or \"rank\" or \"seed\"",
        ),
        (dict(pack=["seed", "seed"]), "pack: got .*; allowed: each only once"),
        (dict(precision="fp16"), 'precision: got "fp16"; allowed: "auto" or "bf16" or "fp32"'),
        (
            dict(sources={"mine": {"kind": "file", "locator": "x"}}),
            "role is ''; allowed: model, data",
        ),
        (
            dict(sources={"mine": {"role": "model", "kind": "hub", "locator": "a/b"}}),
            "pinned by a 40-digit commit",
        ),
        (
            dict(protocol="paper", tables__table2__tasks=["movie-polarity"], tables__table6=None),
            "no row for protocol 'paper'",
        ),
    ],
)
def test_what_is_refused_is_said(changes, message):
    with pytest.raises(ConfigError, match=message):
        grid.load(changed(**changes))


def test_a_pack_that_would_train_more_than_is_asked_for_is_refused():
    """Table 2 has rank 8 alone and Table 6 five ranks. It is told together with what else is wrong."""
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
        "pack: got [rank, seed], which trains all values of rank together, but no table asks for"
    )
    named = (
        ", ".join(f"paper/roberta-base/sst2/lora/qv/r{rank}" for rank in (1, 2, 4)) + " and 9 more"
    )
    assert (
        f"asks for {named}; use pack: [seed], or a config for each table, with the other one null"
        in packed
    )
    assert others and all("no row for protocol 'paper'" in other for other in others)


@pytest.mark.parametrize(
    "pack",
    [[], ["seed"], ["rank", "seed"], ["seed", "weights", "rank"], ["task", "seed"], ["task"]],
)
@pytest.mark.parametrize("table", ["table2", "table6"])
def test_a_table_of_its_own_packs_any_axis(pack, table):
    """The message's advice holds: with the other table null, what was refused loads."""
    other = {"table2": "table6", "table6": "table2"}[table]
    assert grid.load(changed(pack=pack, **{f"tables__{other}": None})).packing.axes == tuple(pack)


def test_methods_are_cells_of_their_own_with_their_one_word():
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
    for wrong, message in (
        (dict(method="adapter_drop", ranks=[4]), "needs it: ffn<n>"),
        (dict(method="adapter_houlsby"), "ranks: method 'adapter_houlsby' needs it"),
        (dict(method="ft", ranks=[8]), "rank is 8; allowed for method 'ft': 0"),
        (
            dict(method="adapter_pfeiffer", weights=["qv"], ranks=[8]),
            "weights is 'qv'; allowed for method 'adapter_pfeiffer': ffn",
        ),
        (
            dict(method="lora", weights=["qv"], ranks=[8], protocols=["papre"]),
            "protocols: got 'papre'.*did you mean 'paper'",
        ),
    ):
        with pytest.raises(ConfigError, match=rf"baselines\[0\]\..*{message}"):
            grid.load(changed(tables__table2__baselines=[wrong]))


def test_sources_and_overrides_from_the_config():
    loaded = grid.load(
        changed(
            sources={"glue-mrpc": {"kind": "file", "locator": "glue"}}, overrides={"alpha": "2r"}
        )
    )
    assert loaded.sources["glue-mrpc"].kind == "file" and loaded.sources["glue-mrpc"].role == "data"
    assert loaded.hparams(Cell("roberta-base", "mnli", "lora", "qv", 64, "course")).alpha == 128


def test_the_most_specific_row_wins_and_a_tie_is_an_error():
    cell = Cell("m", "t", "lora", "q", 1, "p")

    def row(value, method="*", model="*", task="*"):
        return dict(
            protocol="p",
            method=method,
            model=model,
            task=task,
            rank="*",
            name="epochs",
            value=value,
            source="",
        )

    others = {name: value for name, value in DEMO_VALUES.items() if name != "epochs"}
    assert registry.resolve([row(3), row(5, task="t"), row(9, task="u")], cell, others).epochs == 5
    with pytest.raises(ConfigError, match="equally specific rows say 5, 6"):
        registry.resolve([row("5", task="t"), row("6", model="m")], cell, others)


DEMO_VALUES = dict(
    epochs=3, learning_rate=1e-3, examples_per_step=16, max_tokens=128, alpha=8, lora_dropout=0, init_a="kaiming",
    init_a_std=0.02, head="trained", weight_decay=0.1, warmup_frac=0.06, max_grad_norm=1, adam_beta1=0.9,
    adam_beta2=0.999, adam_epsilon=1e-8, start="pretrained",
)  # fmt: skip


def test_paper_protocol_is_table_9():
    """Spot checks against Table 9 of the paper: RoBERTa-base CoLA and large RTE."""
    rows = registry.read_rows("hparams.csv")
    cola = registry.resolve(rows, Cell("roberta-base", "cola", "lora", "qv", 8, "paper"), {})
    assert (
        cola.examples_per_step,
        cola.epochs,
        cola.learning_rate,
        cola.alpha,
        cola.max_tokens,
    ) == (32, 80, 4e-4, 8, 512)
    rte = registry.resolve(rows, Cell("roberta-large", "rte", "lora", "qv", 8, "paper"), {})
    assert (rte.examples_per_step, rte.epochs, rte.learning_rate, rte.alpha, rte.max_tokens) == (
        8,
        20,
        4e-4,
        16,
        512,
    )


def test_every_fact_has_a_source():
    for name in registry.FACTS:
        for row in registry.read_rows(name):
            assert row["source"], (name, row)


def test_a_broken_fact_table_names_its_lines(tmp_path):
    (tmp_path / "tasks.csv").write_text(",".join(registry.FACTS["tasks.csv"]) + "\nsst2,SST-2\n")
    with pytest.raises(ConfigError, match="line 2 has 2 cells; expected 10"):
        registry.read_rows("tasks.csv", tmp_path)
    (tmp_path / "sources.csv").write_text("name,kind\n")
    with pytest.raises(ConfigError, match="the header is 'name,kind'"):
        registry.read_rows("sources.csv", tmp_path)


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
