"""Protocols as data: Table 9 and the authors' scripts typed a second time, shipped configs,
trainable parameters beside the paper's, and what the registry refuses.
"""

import csv
import functools
import re
import shutil
from dataclasses import astuple

import pytest
import torch
import transformers
from helpers.configs import DEFAULT, changed
from helpers.models import ROOT
from helpers.workflow import snakemake

from lora.errors import ConfigError
from lora.experiment import csv_tables, grid, hparam_rows, registry
from lora.experiment.cell import METHODS, Cell
from lora.experiment.config import read
from lora.experiment.hparams import Hparams, parse_setting
from lora.model import methods

CONFIGS = {  # name -> cells trained, runs
    "ablation-head.yaml": (2 * 3 * 5, 90),
    "baselines.yaml": (6 * 4, 72),
    "config.yaml": (3 + 15, 90),
    "demo.yaml": (4 + 8, 36),
    # 12 rows of Table 2, then what Table 6 and Table 5 add on MNLI.
    "paper.yaml": (12 * 8 + 14 + 4, 570),
}
TASKS = "mnli sst2 mrpc cola qnli qqp rte stsb".split()
WORDS = dict(
    lora="qv",
    ft="all",
    bitfit="bias",
    adapter_houlsby="both",
    adapter_pfeiffer="ffn",
    adapter_drop="ffn8",
)
RANKS = dict(lora=8, ft=0, bitfit=0, adapter_houlsby=8, adapter_pfeiffer=16, adapter_drop=48)

# Protocol, model, method, rank, setting, then the eight tasks in the order of TASKS, or one value
# for all.
TABLE_9 = """
paper         roberta-base  lora              8 examples_per_step 16 16 16 32 32 16 32 16
paper         roberta-base  lora              8 epochs            30 60 30 80 25 25 80 40
paper roberta-base lora 8 learning_rate 5e-4 5e-4 4e-4 4e-4 4e-4 5e-4 5e-4 4e-4
paper         roberta-base  lora              8 alpha             8
paper         roberta-base  lora              8 max_tokens        512
paper         roberta-large lora              8 examples_per_step 4 4 4 4 4 4 8 8
paper         roberta-large lora              8 epochs            10 10 20 20 10 20 20 30
paper roberta-large lora 8 learning_rate 3e-4 4e-4 3e-4 2e-4 2e-4 3e-4 4e-4 2e-4
paper         roberta-large lora              8 alpha             16
paper         roberta-large lora              8 max_tokens        128 128 512 128 512 512 512 512
paper-houlsby roberta-large lora              8 examples_per_step 4
paper-houlsby roberta-large lora              8 epochs            10 10 20 20 10 20 20 10
paper-houlsby roberta-large lora 8 learning_rate 3e-4 4e-4 3e-4 2e-4 2e-4 3e-4 4e-4 2e-4
paper-houlsby roberta-large lora              8 alpha             16
paper-houlsby roberta-large lora              8 max_tokens        128
paper-houlsby roberta-large adapter_pfeiffer 64 examples_per_step 32
paper-houlsby roberta-large adapter_pfeiffer 64 epochs            10 20 20 20 10 20 20 20
paper-houlsby roberta-large adapter_pfeiffer 64 learning_rate 3e-5 3e-5 3e-4 3e-4 3e-4 3e-4 3e-4 3e-4
paper-houlsby roberta-large adapter_pfeiffer 64 max_tokens        128
paper-houlsby roberta-large adapter_pfeiffer 16 examples_per_step 32
paper-houlsby roberta-large adapter_pfeiffer 16 epochs            5 20 20 20 10 20 20 20
paper-houlsby roberta-large adapter_pfeiffer 16 learning_rate     3e-4
paper-houlsby roberta-large adapter_pfeiffer 16 max_tokens        128
paper-houlsby roberta-large adapter_houlsby  64 examples_per_step 32
paper-houlsby roberta-large adapter_houlsby  64 epochs            10 5 10 10 5 20 20 10
paper-houlsby roberta-large adapter_houlsby 64 learning_rate 3e-5 3e-4 3e-4 3e-4 3e-4 3e-4 3e-4 3e-4
paper-houlsby roberta-large adapter_houlsby  64 max_tokens        128
paper-houlsby roberta-large adapter_houlsby   8 examples_per_step 32
paper-houlsby roberta-large adapter_houlsby   8 epochs            10 5 10 10 5 20 20 10
paper-houlsby roberta-large adapter_houlsby   8 learning_rate     3e-4
paper-houlsby roberta-large adapter_houlsby   8 max_tokens        128
"""  # noqa: E501
# microsoft/LoRA@c4593f0 examples/NLU/*.sh; the batch is that of one device.
SCRIPTS = """
scripts       roberta-base  lora              8 a_device          16 16 16 32 32 16 32 16
scripts       roberta-base  lora              8 devices           8 8 8 2 8 8 8 8
scripts       roberta-base  lora              8 epochs            30 60 30 80 25 25 80 40
scripts roberta-base lora 8 learning_rate 5e-4 5e-4 4e-4 4e-4 4e-4 5e-4 5e-4 4e-4
scripts       roberta-base  lora              8 max_tokens        512
scripts       roberta-large lora              8 a_device          4 8 4 4 4 4 8 4
scripts       roberta-large lora              8 devices           8
scripts       roberta-large lora              8 epochs            10 10 20 20 10 20 20 10
scripts roberta-large lora 8 learning_rate 3e-4 4e-4 3e-4 3e-4 2e-4 3e-4 4e-4 3e-4
scripts       roberta-large lora              8 max_tokens        128 512 512 128 512 512 512 128
"""
FAIRSEQ = """
paper roberta-large ft 0 learning_rate 1e-5 1e-5 1e-5 1e-5 1e-5 1e-5 2e-5 2e-5
paper         roberta-large ft                0 examples_per_step 32 32 16 16 32 32 16 16
paper         roberta-large ft                0 epochs            10
paper roberta-large ft 0 updates 123873 20935 2296 5336 33112 113272 2036 3598
paper roberta-large ft 0 warmup 7432 1256 137 320 1986 28318 122 214
"""


@functools.cache
def rows() -> tuple[hparam_rows.HparamRow, ...]:
    return hparam_rows.read_hparam_rows()


def hparams(protocol: str, model: str, task: str, method: str = "lora", rank: int = 8) -> Hparams:
    return hparam_rows.resolve(rows(), Cell(model, task, method, WORDS[method], rank, protocol), {})


def typed(text: str) -> dict[tuple, dict[str, tuple[float, ...]]]:
    """(protocol, model, method, rank) -> setting -> its figure for each task."""
    found = {}
    for line in text.split("\n")[1:-1]:
        protocol, model, method, rank, name, *values = line.split()
        values = tuple(map(float, values * (8 if len(values) == 1 else 1)))
        assert len(values) == 8
        found.setdefault((protocol, model, method, int(rank)), {})[name] = values
    return found


def ours(of: tuple, name: str) -> tuple[float, ...]:
    protocol, model, method, rank = of
    return tuple(getattr(hparams(protocol, model, task, method, rank), name) for task in TASKS)


def differences(one: Hparams, other: Hparams) -> set[str]:
    return {name for name, value in one.as_dict().items() if value != getattr(other, name)}


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


def test_table_9_is_typed_the_same_twice():
    table = typed(TABLE_9)
    assert len(table) == 7 and sum(map(len, table.values())) == 31
    for of, settings in table.items():
        for name, values in settings.items():
            assert ours(of, name) == values, (of, name)


def test_the_start_from_mnli_is_of_three_tasks_and_not_under_the_dagger():
    for protocol in ("paper", "scripts"):
        for model in ("roberta-base", "roberta-large"):
            starts = {task: hparams(protocol, model, task).start for task in TASKS}
            assert starts == {
                task: "mnli" if task in ("mrpc", "rte", "stsb") else "pretrained" for task in TASKS
            }
    plain = [
        ("paper-houlsby", "lora"),
        ("paper", "ft"),
        ("paper", "bitfit"),
        ("paper-houlsby", "adapter_pfeiffer"),
    ]
    for protocol, method in plain:
        assert {
            hparams(protocol, "roberta-large", task, method, RANKS[method]).start for task in TASKS
        } == {"pretrained"}


def test_scripts_are_the_authors_and_differ_from_table_9_where_they_do():
    for (protocol, model, method, rank), settings in typed(SCRIPTS).items():
        for name in ("epochs", "learning_rate", "max_tokens"):
            assert ours((protocol, model, method, rank), name) == settings[name], (model, name)
        steps = tuple(
            each * count
            for each, count in zip(settings["a_device"], settings["devices"], strict=True)
        )
        assert ours((protocol, model, method, rank), "examples_per_step") == steps
    for task in TASKS:
        base = differences(
            hparams("paper", "roberta-base", task), hparams("scripts", "roberta-base", task)
        )
        assert base == {"alpha", "examples_per_step"}
        large = differences(
            hparams("paper", "roberta-large", task), hparams("scripts", "roberta-large", task)
        )
        more = dict(
            sst2={"max_tokens"},
            cola={"learning_rate"},
            stsb={"max_tokens", "learning_rate", "epochs"},
        )
        assert large == {"examples_per_step"} | more.get(task, set()), task


def test_the_course_as_it_ran_differs_from_its_report_where_it_did():
    more = dict(sst2={"alpha"}, qqp={"examples_per_step"})
    for task in ("sst2", "mrpc", "qqp", "mnli"):
        report, ran = (
            hparams("course", "roberta-base", task),
            hparams("course-as-run", "roberta-base", task),
        )
        assert differences(report, ran) == {"head", "weight_decay"} | more.get(task, set()), task
    assert (hparams("course-as-run", "roberta-base", "sst2").alpha, ran.alpha) == (
        8,
        8,
    )  # MNLI: alpha is r
    assert hparams("course-as-run", "roberta-base", "mnli", rank=64).alpha == 64
    assert hparams("course-as-run", "roberta-base", "qqp").examples_per_step == 4


def test_fine_tuning_is_fairseqs():
    ((of, settings),) = typed(FAIRSEQ).items()
    for name in ("learning_rate", "examples_per_step", "epochs"):
        assert ours(of, name) == settings[name]
    fractions = tuple(
        round(up / of_all, 2)
        for up, of_all in zip(settings["warmup"], settings["updates"], strict=True)
    )
    assert ours(of, "warmup_frac") == fractions and fractions[TASKS.index("qqp")] == 0.25
    one = hparams("paper", "roberta-base", "rte", "ft", 0)
    assert (one.weight_decay, one.adam_beta1, one.adam_beta2) == (0.1, 0.9, 0.98)
    assert (one.adam_epsilon, one.max_grad_norm) == (1e-6, 0)


@pytest.mark.parametrize("method", METHODS)
def test_every_method_runs_where_it_may(method):
    """On base and large under the paper's protocols, and on the demo's model; LoRA† on large."""
    for protocol, models in (
        ("paper", ("roberta-base", "roberta-large")),
        (
            "paper-houlsby",
            ("roberta-large",) if method == "lora" else ("roberta-base", "roberta-large"),
        ),
        ("course", ("roberta-base", "bert-base-uncased", "minilm")),
        ("demo", ("minilm",)),
    ):
        for model in models:
            for task in TASKS:
                assert hparams(protocol, model, task, method, RANKS[method]).head == "trained"


def test_lora_takes_nothing_that_has_no_meaning_for_it():
    """Without a row for a model, alpha is missing; it is not taken from another method."""
    for protocol in ("paper", "paper-houlsby", "scripts"):
        with pytest.raises(
            ConfigError, match="alpha: no row" if protocol != "scripts" else "epochs: no row"
        ):
            hparams(protocol, "bert-base-uncased", "sst2")
    assert {hparams("course", "minilm", "sst2").alpha, hparams("demo", "minilm", "sst2").alpha} == {
        16,
        8,
    }


def test_every_row_speaks_of_something_that_is_there():
    models = {source.name for source in registry.read_sources().values() if source.role == "model"}
    keys = [astuple(row)[:6] for row in rows()]
    assert len(keys) == len(set(keys))
    for row in rows():
        assert row.method in ("*", *METHODS) and row.model in ("*", *models), row
        assert row.task in ("*", *registry.read_tasks()), row
        assert re.fullmatch(r"\*|[1-9][0-9]*", row.rank), row
        parse_setting(row.name, row.value, rank=8)


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
    """The encoder with its real sizes and no numbers in it."""
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
def test_trainable_parameters_beside_the_papers(model, method, weights, rank, count, label, agree):
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


@pytest.fixture
def folder(tmp_path):
    """A copy of config/*.csv to change."""
    for name in csv_tables.COLUMNS:
        shutil.copy(ROOT / "config" / name, tmp_path / name)
    return tmp_path


def add_row(folder, **row):
    with open(folder / "hparams.csv", "a", encoding="utf-8", newline="") as handle:
        blank = dict.fromkeys(csv_tables.COLUMNS["hparams.csv"], "*") | dict(source="made for a test")
        csv.DictWriter(handle, csv_tables.COLUMNS["hparams.csv"], lineterminator="\n").writerow(
            blank | row
        )


def test_two_rows_as_specific_that_differ_are_refused(folder):
    """A rank against a task: each is named once. A row that names both decides."""
    config = changed(tables__table6=None)
    add_row(folder, protocol="course", method="lora", rank="8", name="learning_rate", value="1e-4")
    with pytest.raises(ConfigError) as caught:
        grid.load(config, folder)
    assert len(caught.value.problems) == 1
    assert caught.value.problems[0] == (
        "protocol 'course', learning_rate: equally specific rows say 1e-4, 4e-4; make one "
        "more specific"
    )
    add_row(
        folder,
        protocol="course",
        method="lora",
        task="mrpc",
        rank="8",
        name="learning_rate",
        value="2e-4",
    )
    loaded = grid.load(config, folder)
    assert {cell.task: loaded.hparams(cell).learning_rate for cell in loaded.cells} == dict(
        sst2=1e-4, mrpc=2e-4, qqp=1e-4
    )


def test_a_row_of_another_rank_decides_nothing(folder):
    add_row(folder, protocol="course", method="lora", rank="64", name="learning_rate", value="1e-4")
    loaded = grid.load(DEFAULT, folder)
    found = {
        cell.rank: loaded.hparams(cell).learning_rate for cell in loaded.tables["table6"].cells
    }
    assert found == {1: 5e-4, 2: 5e-4, 4: 5e-4, 8: 5e-4, 64: 1e-4}


@pytest.mark.parametrize(
    "changes, message",
    [
        (
            dict(protocol="paper-houlsbi"),
            "protocol: got 'paper-houlsbi'; allowed: .*did you mean 'paper-houlsby'",
        ),
        (
            dict(tables__table2__protocols=["course", "script"]),
            r"tables\.table2\.protocols: got 'script'; allowed: .*did you mean 'scripts'",
        ),
        (
            dict(protocols={"mine": {"base": "cours", "head": "frozen"}}),
            r"protocols\.mine\.base: got 'cours'; allowed: .*did you mean 'course'",
        ),
        (
            dict(protocols={"mine": {"base": "course"}, "other": {"base": "mine"}}),
            r"protocols\.other\.base: got 'mine'; allowed: course, course-as-run, demo, paper, ",
        ),
        (
            dict(protocols={"paper": {"base": "course"}}),
            "'paper' is already a protocol of config/hparams.csv",
        ),
        (
            dict(protocols={"mine": {"base": "course", "hed": "frozen"}}),
            r"protocols\.mine: got 'hed'.*did you mean 'head'",
        ),
        (dict(protocols={"mine": {"head": "frozen"}}), r"protocols\.mine: missing key 'base'"),
        (
            dict(overrides={"start": "mnly"}),
            "start of sst2 is 'mnly'; allowed: pretrained, a task .*or a PEFT folder",
        ),
        (
            dict(
                protocol="paper",
                pack=["task", "seed"],
                tables__table6=None,
                tables__table2__tasks=["mnli", "mrpc"],
            ),
            "pack: mrpc starts from mnli, which the same job would train; leave task out of pack, "
            "or set start: pretrained",
        ),
        (
            dict(protocol="scripts", tables__table2__baselines=[{"method": "bitfit"}]),
            "protocol 'scripts', epochs: no row for protocol 'scripts'",
        ),
    ],
)
def test_what_is_refused_is_said(changes, message):
    with pytest.raises(ConfigError, match=message):
        grid.load(changed(**changes))


def test_a_chain_of_starts_is_refused(folder):
    add_row(folder, protocol="paper", method="lora", task="mnli", name="start", value="sst2")
    config = changed(protocol="paper", tables__table6=None, tables__table2__tasks=["mrpc"])
    with pytest.raises(
        ConfigError,
        match="mrpc starts from mnli, which starts from sst2; allowed: a task that starts",
    ):
        grid.load(config, folder)


def test_a_task_never_starts_from_itself():
    """With one start for all runs, the runs of that task start from the pre-trained model."""
    loaded = grid.load(changed(overrides={"start": "mnli"}))
    starts = {
        (cell.task, cell.rank): loaded.start_of(cell)
        for cell in loaded.cells
        if cell.weights == "qv"
    }
    mnli = Cell("roberta-base", "mnli", "lora", "qv", 8, "course")
    assert starts == {(task, 8): mnli for task in ("sst2", "mrpc", "qqp")} | {
        ("mnli", r): None for r in (1, 2, 4, 8, 64)
    }


def test_the_advice_against_a_start_in_the_same_pack_holds():
    """Without task in pack, or with start: pretrained, it loads; the start is trained too."""
    config = dict(protocol="paper", tables__table6=None, tables__table2__tasks=["mrpc"])
    apart = grid.load(changed(**config))
    assert [cell.task for cell in apart.table_cells] == ["mrpc"] and [
        cell.task for cell in apart.cells
    ] == ["mrpc", "mnli"]
    assert (
        apart.start_of(apart.cells[0]) == apart.cells[1] and apart.start_of(apart.cells[1]) is None
    )
    plain = grid.load(changed(**config, pack=["task", "seed"], overrides={"start": "pretrained"}))
    assert [cell.task for cell in plain.cells] == ["mrpc"]


def test_a_protocol_of_ones_own_is_another_with_changes():
    loaded = grid.load(read(str(ROOT / "config/ablation-head.yaml")))
    by_protocol = {}
    for cell in loaded.cells:
        by_protocol.setdefault(cell.protocol, {})[cell.weights, cell.rank] = loaded.hparams(cell)
    trained, frozen = by_protocol["demo"], by_protocol["demo-frozen-head"]
    assert trained.keys() == frozen.keys() and len(trained) == 15
    assert {frozenset(differences(trained[key], frozen[key])) for key in trained} == {
        frozenset({"head"})
    }


def test_the_paper_config_is_a_dag_with_an_edge_from_mnli(tmp_path):
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


def test_the_most_specific_row_wins_and_a_tie_is_an_error():
    cell = Cell("m", "t", "lora", "q", 1, "p")

    def row(value, method="*", model="*", task="*"):
        return hparam_rows.HparamRow("p", method, model, task, "*", "epochs", value, "")

    others = hparams("demo", "minilm", "sst2").as_dict()
    del others["epochs"]
    assert (
        hparam_rows.resolve([row("3"), row("5", task="t"), row("9", task="u")], cell, others).epochs
        == 5
    )
    with pytest.raises(ConfigError, match="equally specific rows say 5, 6"):
        hparam_rows.resolve([row("5", task="t"), row("6", model="m")], cell, others)


def test_paper_protocol_is_table_9():
    """Spot checks against Table 9 of the paper: RoBERTa-base CoLA and large RTE."""
    cola = hparam_rows.resolve(rows(), Cell("roberta-base", "cola", "lora", "qv", 8, "paper"), {})
    assert (
        cola.examples_per_step,
        cola.epochs,
        cola.learning_rate,
        cola.alpha,
        cola.max_tokens,
    ) == (32, 80, 4e-4, 8, 512)
    rte = hparam_rows.resolve(rows(), Cell("roberta-large", "rte", "lora", "qv", 8, "paper"), {})
    assert (rte.examples_per_step, rte.epochs, rte.learning_rate, rte.alpha, rte.max_tokens) == (
        8,
        20,
        4e-4,
        16,
        512,
    )


def test_every_fact_has_a_source():
    for name in csv_tables.COLUMNS:
        for row in csv_tables.read_rows(name):
            assert row["source"], (name, row)


def test_a_broken_fact_table_names_its_lines(tmp_path):
    (tmp_path / "tasks.csv").write_text(",".join(csv_tables.COLUMNS["tasks.csv"]) + "\nsst2,SST-2\n")
    with pytest.raises(ConfigError, match="line 2 has 2 cells; expected 10"):
        csv_tables.read_rows("tasks.csv", tmp_path)
    (tmp_path / "sources.csv").write_text("name,kind\n")
    with pytest.raises(ConfigError, match="the header is 'name,kind'"):
        csv_tables.read_rows("sources.csv", tmp_path)
