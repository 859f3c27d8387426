"""Import of the course's result folders: synthetic folders of the same form, and its tables."""

import json
import math
import re
import statistics

import pytest
from helpers.synthetic import load, table

from lora import files, paths
from lora.columns import METRICS_COLUMNS, PROVENANCE_COLUMNS
from lora.errors import ConfigError
from lora.experiment import csv_tables, hparam_rows, registry
from lora.experiment.cell import Cell
from lora.run_record import RunRecord
from lora.tables import collect, import_course, provenance
from lora.tables.cells import make, write

HEADER = "Training Loss,Epoch,Step,Validation Loss,Accuracy,F1,Precision,Recall"
MNLI = [
    f"r{rank}_{modules}"
    for rank in (1, 4, 64)
    for modules in ("query", "query_value", "query_value_key_dense")
]
SEEDS = (42, 43, 44, 45, 46)
RAN = {
    "sst2": ("alpha", "8"),
    "qqp": ("examples_per_step", "4"),
    "mnli": ("alpha", "1r"),
}  # other than the course reports

# tn292/cs5782_final_project: the epochs of results/mnli/<run> at a7f5106 and 5ca114d, and the
# values in Table 3 of its report.
PRINTED = {
    ("q", 1): (("r1_query", [0.6898624554253693, 0.7183902190524707, 0.7273560876209882]), "72.74"),
    ("qv", 64): (
        ("r64_query_value", [0.8496179317371371, 0.8651044319918492, 0.8728476821192053]),
        "87.28",
    ),
    ("qkvo", 1): (
        ("r1_query_value_key_dense", [0.8300560366785532, 0.8419765664798777, 0.8550178298522669]),
        "85.50",
    ),
}


def write_results(folder, values, steps=230, header=HEADER):
    """A run as the course's code writes it: a row an epoch, no training loss."""
    folder.mkdir(parents=True)
    rows = [
        f",{epoch}.0,{epoch * steps},{0.5 - 0.1 * value},"
        f"{value},{value - 0.01},{value - 0.02},{value}"
        for epoch, value in enumerate(values, start=1)
    ]
    (folder / import_course.FILE).write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    return folder / import_course.FILE


def accuracies(place: int) -> list[float]:
    """Three epochs, of which the second is the best."""
    return [0.80 + place / 128, 0.86 + place / 128, 0.85 + place / 256]


@pytest.fixture
def results(tmp_path):
    """All runs the course has, in little: three tasks with five seeds, MNLI with one."""
    folder = tmp_path / "results"
    for task, alpha in (("mrpc", 16), ("sst2", 8), ("qqp", 16)):
        for place, seed in enumerate(SEEDS):
            write_results(folder / task / f"{task}_r8_a{alpha}_s{seed}", accuracies(place))
    for place, name in enumerate(MNLI):
        write_results(folder / "mnli" / name, accuracies(place), steps=24544)
    (folder / "sst2" / ".DS_Store").write_bytes(b"\0")
    (folder / "table1.png").write_bytes(b"\0")
    return folder


@pytest.fixture
def as_run(monkeypatch):
    """A protocol of what the course ran: the one it reports, but for RAN."""
    read_facts = csv_tables.read_rows
    reported = [
        row | dict(protocol="as-run")
        for row in read_facts("hparams.csv")
        if row["protocol"] == "course"
    ]
    kept = [
        row
        for row in reported
        if (row["task"], row["name"]) not in {(task, name) for task, (name, _) in RAN.items()}
    ]
    changed = [
        kept[0] | dict(task=task, name=name, value=value) for task, (name, value) in RAN.items()
    ]

    def with_protocol(name, *folder):
        return read_facts(name, *folder) + (kept + changed if name == "hparams.csv" else [])

    monkeypatch.setattr(registry, "read_rows", with_protocol)
    return "as-run"


def read(folder, output, **changes):
    return import_course.read_results(
        folder, output, **(dict(default_seed=42, default_alpha="1r") | changes)
    )


def test_every_run_of_the_course_becomes_a_run_folder(results, tmp_path, as_run):
    """Cell by folder name; rows number by number; what is unknown is empty."""
    written = read(results, tmp_path / "out", protocol=as_run)
    assert len(written) == len(set(written)) == 3 * len(SEEDS) + len(MNLI)
    folder = tmp_path / "out/runs" / as_run / "roberta-base/mnli/lora/qkvo/r64/seed42"
    assert folder in written
    rows = files.read_csv(folder / "metrics.csv", METRICS_COLUMNS)
    assert [(row["epoch"], row["step"], row["accuracy"]) for row in rows] == [
        (number, 24544 * number, value)
        for number, value in enumerate(accuracies(len(MNLI) - 1), start=1)
    ]
    assert (
        rows[0]["f1"] == rows[0]["accuracy"] - 0.01
        and rows[0]["precision"] == rows[0]["accuracy"] - 0.02
    )
    assert all(
        math.isnan(row[name])
        for row in rows
        for name in ("train_loss", "learning_rate", "accuracy_mismatched")
    )
    record = json.loads((folder / "run.json").read_text())
    assert set(record) == set(RunRecord.model_fields)
    assert record["best"] == dict(epoch=2, metric="accuracy", value=accuracies(len(MNLI) - 1)[1])
    assert (
        record["data"]["source"]
        == "imported from mnli/r64_query_value_key_dense/training_results.csv"
    )
    assert (
        record["device"] == "unknown"
        and record["digest"] == ""
        and set(record["versions"].values()) == {""}
    )
    sst2 = json.loads(
        (
            tmp_path / "out/runs" / as_run / "roberta-base/sst2/lora/qv/r8/seed44/run.json"
        ).read_text()
    )
    assert (
        sst2["settings"]["hparams"]["alpha"] == 8 and sst2["parameters"]["trainable"] == 294_912
    )  # the paper's 0.3M


@pytest.mark.parametrize("weights, rank", [("qv", 8), ("q", 1), ("qkvo", 64)])
def test_parameters_are_those_of_the_model(weights, rank):
    """RoBERTa-base in transformers, without memory, and our LoRA in it."""
    import torch
    import transformers

    from lora.model import methods

    with torch.device("meta"):
        config = transformers.RobertaConfig(
            vocab_size=50265, max_position_embeddings=514, type_vocab_size=1
        )
        base = transformers.RobertaModel(config, add_pooling_layer=False)
    assert sum(value.numel() for value in base.parameters()) == import_course.FROZEN
    cell = Cell(import_course.MODEL, "mrpc", "lora", weights, rank, "course")
    hparams = hparam_rows.resolve(hparam_rows.read_hparam_rows(), cell, {})
    rows = [dict.fromkeys(METRICS_COLUMNS, 0.5) | dict(epoch=1)]
    folder = paths.ROOT
    run = import_course.ImportedRun(folder / "mrpc/x" / import_course.FILE, cell, 42, hparams, rows)
    counted = import_course._record(run, registry.read_tasks()["mrpc"], folder).parameters
    member = methods.AdapterSpec(42, weights, rank, 2, hparams)
    assert counted.trainable == methods.trainable_parameters(base, member, head=False)
    assert counted.trainable + counted.head == methods.trainable_parameters(base, member)


def test_tables_are_made_of_what_was_imported(tmp_path):
    """Median and spread as in the standard library; unknown provenance is empty."""
    series = [accuracies(place) for place in (3, 0, 4, 1, 2)]
    for seed, values in zip(SEEDS, series, strict=True):
        write_results(tmp_path / "results/mrpc" / f"mrpc_r8_a16_s{seed}", values)
    read(tmp_path / "results", tmp_path / "out", protocol="course")
    asked = load(
        seeds=list(SEEDS), tables=dict(table2=table(["roberta-base"], ["mrpc"]), table6=None)
    )
    collect.collect(asked, tmp_path / "out/runs", tmp_path / "runs.csv")
    made = make(asked, tmp_path / "runs.csv", "table2")
    best = [100 * values[1] for values in series]
    assert made.cells[0]["n"] == 5
    assert made.cells[0]["best_median"] == pytest.approx(statistics.median(best), abs=1e-5)
    assert made.cells[0]["best_std"] == pytest.approx(statistics.stdev(best), abs=1e-5)
    write(asked, tmp_path / "runs.csv", "table2", tmp_path / "tables")
    rows = provenance.provenance(asked, tmp_path / "out/runs")
    assert {(row["device"], row["torch"], row["commit"], row["digest"]) for row in rows} == {
        ("unknown", "", "", "")
    }
    provenance.write_provenance(
        asked, asked.config.as_dict(), tmp_path / "out/runs", tmp_path / "tables"
    )
    again = files.read_csv(tmp_path / "tables/provenance.csv", PROVENANCE_COLUMNS)
    assert all(math.isnan(row["train_examples"]) and math.isnan(row["wall_s"]) for row in again)


def test_a_rank_table_is_made_of_what_was_imported(tmp_path):
    for place, name in enumerate(MNLI):
        write_results(tmp_path / "results/mnli" / name, accuracies(place), steps=24544)
    read(tmp_path / "results", tmp_path / "out", protocol="course", default_seed=7)
    wanted = table(["roberta-base"], ["mnli"], ["q", "qv", "qkvo"], [1, 4, 64])
    asked = load(seeds=[7], tables=dict(table2=None, table6=wanted))
    collect.collect(asked, tmp_path / "out/runs", tmp_path / "runs.csv")
    made = make(asked, tmp_path / "runs.csv", "table6")
    found = {(cell["weights"], cell["rank"]): cell["best_median"] for cell in made.cells}
    for place, (rank, weights) in enumerate(
        (rank, weights) for rank in (1, 4, 64) for weights in ("q", "qv", "qkvo")
    ):
        assert found[weights, rank] == pytest.approx(100 * accuracies(place)[1], abs=1e-5)


def test_the_courses_printed_values_are_reproduced(tmp_path):
    for (name, values), _ in PRINTED.values():
        write_results(tmp_path / "results/mnli" / name, values, steps=24544)
    read(tmp_path / "results", tmp_path / "out", protocol="course")
    wanted = table(["roberta-base"], ["mnli"], ["q", "qv", "qkvo"], [1, 64])
    asked = load(seeds=[42], mode="partial", tables=dict(table2=None, table6=wanted))
    collect.collect(asked, tmp_path / "out/runs", tmp_path / "runs.csv")
    cells = make(asked, tmp_path / "runs.csv", "table6").cells
    found = {
        (cell["weights"], cell["rank"]): f"{cell['best_median']:.2f}" for cell in cells if cell["n"]
    }
    assert found == {key: printed for key, (_, printed) in PRINTED.items()}


@pytest.mark.parametrize(
    "modules, weights",
    [
        ("value", "v"),
        ("value_query", "qv"),
        ("output_key_value_query", "qkvo"),
        ("query_value_key_dense", "qkvo"),
    ],
)
def test_modules_in_any_order(tmp_path, modules, weights):
    write_results(tmp_path / "results/mnli" / f"r4_{modules}", accuracies(0))
    (folder,) = read(tmp_path / "results", tmp_path / "out", protocol="course")
    assert folder.parts[-3:] == (weights, "r4", "seed42")


@pytest.mark.parametrize(
    "name, message",
    [
        (
            "mnli/r4_query_mlp",
            "modules query, mlp; allowed: query, key, value, and dense or output, each once",
        ),
        ("mnli/r4_query_query", "modules query, query; allowed"),
        ("mnli/r4_dense_output", "modules dense, output; allowed"),
        ("mnli/r0_query", "rank is 0"),
        (
            "mnli/r4",
            "the folder's name is 'r4'; allowed: <task>_r<rank>_a<alpha>_s<seed>, or r<rank>_",
        ),
        ("mrpc/mrpc_r8_a16", "the folder's name is 'mrpc_r8_a16'; allowed"),
        ("mrpc/sst2_r8_a16_s42", "the folder's name has 'sst2', its parent 'mrpc'"),
        (
            "mrpc/mrpc_r8_a8_s42",
            "alpha is 8 in the folder's name, but 16 in protocol course (config/hparams.csv); both",
        ),
        (
            "cola/cola_r8_a16_s42",
            "the metric of cola is matthews, which the course's code does not record",
        ),
        ("results/mrpc_r8_a16_s42", "task 'results' is unknown; allowed: mnli"),
    ],
)
def test_wrong_folder_names_are_refused(tmp_path, name, message):
    write_results(tmp_path / "results" / name, accuracies(0))
    with pytest.raises(ConfigError, match=re.escape(message)) as caught:
        read(tmp_path / "results", tmp_path / "out", protocol="course")
    assert name in str(caught.value) and not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "change, message",
    [
        (
            lambda text: text.replace("Accuracy", "Acc"),
            "line 1: columns Training Loss, Epoch, Step, Validation Loss, Acc",
        ),
        (lambda text: "", "line 1: columns none; expected Training Loss"),
        (lambda text: re.sub(r"\n,2\.0.*", "", text), "line 3: epoch 3; expected 2"),
        (lambda text: text.replace(",3.0,", ",2.0,"), "line 4: epoch 2; expected 3"),
        (
            lambda text: re.sub(r",3\.0.*\n", "", text),
            "2 epochs; protocol course (config/hparams.csv) has 3",
        ),
        (
            lambda text: text.replace(",3.0,", ",2.9,"),
            "line 4: Epoch is '2.9'; allowed: a whole number",
        ),
        (
            lambda text: text.replace(",690,", ",460,"),
            "line 4: step 460 after 460; expected a higher one",
        ),
        (
            lambda text: text.replace(",0.86,", ",nan,"),
            "line 3: Accuracy is 'nan'; allowed: a finite number",
        ),
        (
            lambda text: text.replace(",0.86,", ",,"),
            "line 3: Accuracy is ''; allowed: a finite number",
        ),
        (
            lambda text: text.replace(",0.86,", ",86.0,"),
            "line 3: Accuracy is 86.0; allowed: a fraction, 0 to 1 (if it is in per cent",
        ),
        (
            lambda text: text.replace(",0.86,", ",-0.1,"),
            "line 3: Accuracy is -0.1; allowed: a fraction, 0 to 1",
        ),
        (
            lambda text: text.replace(",0.86,", ",good,"),
            "line 3: Accuracy is 'good'; allowed: a number",
        ),
        (lambda text: text.replace(",0.86,", ","), "line 3: 7 cells; expected 8"),
    ],
)
def test_wrong_numbers_are_named_with_file_and_line(tmp_path, change, message):
    path = write_results(tmp_path / "results/mrpc/mrpc_r8_a16_s42", accuracies(0))
    path.write_text(change(path.read_text(encoding="utf-8")), encoding="utf-8")
    with pytest.raises(ConfigError, match=re.escape(message)) as caught:
        read(tmp_path / "results", tmp_path / "out", protocol="course")
    assert str(path) in str(caught.value) and not (tmp_path / "out").exists()


def test_all_problems_are_listed_at_once_and_nothing_is_skipped(tmp_path):
    folder = tmp_path / "results"
    write_results(folder / "mrpc/mrpc_r8_a16_s42", [0.8, 88.0, 0.8])
    write_results(folder / "mrpc/best", [0.8, 88.0, 0.8])
    write_results(folder / "mnli/r4_query_value", accuracies(0))
    write_results(folder / "mnli/r4_value_query", accuracies(1))
    write_results(folder / "results", accuracies(1))
    (folder / "mrpc/mrpc_r8_a16_s43").mkdir()
    with pytest.raises(ConfigError) as caught:
        read(folder, tmp_path / "out", protocol="course")
    told = "\n".join(caught.value.problems)
    assert len(caught.value.problems) == 12, (
        told
    )  # four fractions are per cent in each of the first two
    assert "mnli/r4_value_query/training_results.csv: the same run as" in told
    assert "mrpc/best/training_results.csv: the folder's name is 'best'" in told
    assert "mrpc_r8_a16_s43: no training_results.csv" in told
    assert "results/training_results.csv: not the CSV of a run" in told
    assert not (tmp_path / "out").exists()


def test_a_seed_and_alpha_that_no_name_has_must_be_given(tmp_path):
    write_results(tmp_path / "results/mnli/r4_query", accuracies(0))
    with pytest.raises(ConfigError) as caught:
        read(
            tmp_path / "results",
            tmp_path / "out",
            protocol="course",
            default_seed=None,
            default_alpha=None,
        )
    assert [problem.split(": ")[-1] for problem in caught.value.problems] == [
        f"the folder's name has no {what}; set it with --{what}" for what in ("seed", "alpha")
    ]
    with pytest.raises(ConfigError, match="alpha is 16 as given, but 4 in protocol course"):
        read(tmp_path / "results", tmp_path / "out", protocol="course", default_alpha="16")
    with pytest.raises(ConfigError, match="alpha is 'two'"):
        read(tmp_path / "results", tmp_path / "out", protocol="course", default_alpha="two")


def test_an_existing_run_is_never_replaced(tmp_path):
    write_results(tmp_path / "results/mnli/r4_query", accuracies(0))
    (folder,) = read(tmp_path / "results", tmp_path / "out", protocol="course")
    before = (folder / "metrics.csv").read_bytes()
    with pytest.raises(ConfigError, match="seed42 exists"):
        read(tmp_path / "results", tmp_path / "out", protocol="course")
    assert (folder / "metrics.csv").read_bytes() == before


def test_a_folder_without_results_is_refused(tmp_path):
    with pytest.raises(ValueError, match="no <task>/<run>/training_results.csv under"):
        read(tmp_path, tmp_path / "out")


@pytest.mark.parametrize("seed", [-1, 2**32])
def test_a_seed_out_of_range_is_refused_before_anything_is_written(results, tmp_path, seed):
    """The other runs, which have a seed in their name, are not written either."""
    with pytest.raises(ConfigError, match=f"seed is {seed}; allowed: a whole number"):
        read(results, tmp_path / "out", default_seed=seed)
    assert not (tmp_path / "out").exists()
