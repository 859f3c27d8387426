"""Damaged data sets, tokens, runs, adapters and checkpoints: read correctly, or refused.

What is read from a damaged file is compared with a second, simpler reader, so a line or a split
that is silently left out fails too.
"""

import csv
import json
import math
import shutil

import numpy as np
import pytest
import torch
from helpers import fuzzing, synthetic
from helpers.fuzzing import fuzz, tensors_of, valid_or_refused
from helpers.glue import GLUE
from helpers.training import make_tokens
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save

from lora.adapters import peft_folder, peft_names
from lora.columns import PROVENANCE_COLUMNS, RUNS_COLUMNS
from lora.data import tokens
from lora.data.formats import read
from lora.data.glue import OFFICIAL
from lora.experiment import registry
from lora.files import read_csv
from lora.tables import collect, provenance
from lora.tables.cells import make
from lora.training import checkpoint

pytestmark = pytest.mark.slow

TASKS = registry.read_tasks()
PAIRS = (
    'index\tsentence1\tsentence2\tlabel\n0\ta b\tc, "d" e\tentailment\n'
    "1\té\t\tnot_entailment\n2\tx\ty\tentailment\n"
)
SPLITS = {
    "sst2": "sentence\tlabel\na film\t1\n\" it 's\t0\nlong, long\t1\n",
    "rte": PAIRS,
    "stsb": "index\tsentence1\tsentence2\tscore\n0\ta\tb\t5.000\n1\tc\td\t0\n2\te\tf\t2.5\n",
    "cola": 'gj04\t1\t\tThe cat.\nbc71\t0\t*\tCat the.\nbc71\t1\t\tA "quote.\n',
}


def check_examples(task, content: bytes, examples) -> None:
    """Assert that every line is an example with its label, but for few that are skipped."""
    lines = content.decode("utf-8-sig").removesuffix("\n").split("\n")[task.name != "cola" :]
    assert len(examples) == len(lines) > 0
    for line, first, label in zip(lines, examples.first, examples.labels, strict=True):
        assert first in line.removesuffix("\r").split("\t")
        assert 0 <= label <= 5 if task.is_regression else label in range(task.num_labels)


@fuzz(200)
@given(st.data())
def test_a_damaged_data_set_is_read_or_refused(tmp_path_factory, given_data):
    folder = tmp_path_factory.getbasetemp() / "glue"
    folder.mkdir(exist_ok=True)
    name = given_data.draw(st.sampled_from(sorted(SPLITS)))
    content = given_data.draw(fuzzing.damaged_bytes(SPLITS[name].encode()))
    (folder / "train.tsv").write_bytes(SPLITS[name].encode())
    (folder / "dev.tsv").write_bytes(content)
    with valid_or_refused(folder / "dev.tsv"):
        check_examples(TASKS[name], content, read(TASKS[name], folder)["validation"])


@fuzz(100)
@given(st.data())
def test_damaged_parquet_files_are_read_or_refused(tmp_path_factory, given_data):
    """Parquet pages have no checksums here, so another text may be read, but as one example."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    folder = tmp_path_factory.getbasetemp() / "parquet"
    folder.mkdir(exist_ok=True)
    paths = [folder / f"{split}-00000-of-00001.parquet" for split in ("train", "validation")]
    for path in paths:
        pq.write_table(pa.table(dict(sentence=["a", "b", "c"], label=[0, 1, 1])), path)
    path = given_data.draw(st.sampled_from(paths))
    path.write_bytes(given_data.draw(fuzzing.damaged_bytes(path.read_bytes())))
    with valid_or_refused(folder):
        for one in read(TASKS["sst2"], folder).values():
            assert len(one.first) == len(one.labels) > 0 and set(one.labels) <= {0, 1}


@pytest.mark.parametrize(
    "name, label_at", [("sst2", 1), ("rte", 3), ("stsb", 9), ("cola", 1), ("mrpc", 0)]
)
def test_a_damaged_line_of_glues_files_is_refused_with_its_number(tmp_path, name, label_at):
    folder = GLUE / OFFICIAL[name].folder
    if not folder.is_dir():
        pytest.skip(f"no official GLUE files in {GLUE}; set LORA_GLUE_DIR")
    shutil.copy(folder / "dev.tsv", tmp_path / "train.tsv")
    lines = (folder / "dev.tsv").read_bytes().splitlines()
    for at in (1, 7, len(lines) - 1):
        cells = lines[at].split(b"\t")
        wrong_label = b"\t".join([*cells[:label_at], b"maybe", *cells[label_at + 1 :]])
        skipped = len(lines) > 1000  # GLUE's readers skip up to 0.1 % of the lines
        for line in (
            wrong_label,
            b"",
            lines[at][:3],
            b"x\t" + lines[at],
            b"\0" + lines[at],
            b"\xff" + lines[at],
        ):
            (tmp_path / "dev.tsv").write_bytes(
                b"\n".join([*lines[:at], line, *lines[at + 1 :], b""])
            )
            if skipped and line == lines[at][: len(line)]:
                splits = read(TASKS[name], tmp_path)
                assert len(splits["validation"]) == len(splits["train"]) - 1
                assert splits["validation"].counts.skipped_lines == 1
                continue
            with pytest.raises(ValueError, match=rf"dev\.tsv, line {at + 1}\b") as caught:
                read(TASKS[name], tmp_path)
            fuzzing.check_message(str(caught.value))


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """A prepared data set: (folder to damage, content of its files, its arrays)."""
    folder = make_tokens(tmp_path_factory.mktemp("prepared") / "tokens")
    files = {name: (folder / name).read_bytes() for name in ("tokens.safetensors", "tokens.json")}
    loaded = {
        name: [np.array(part) for part in (one.ids, one.offsets, one.types, one.labels)]
        for name, one in tokens.load(folder).items()
    }
    return folder, files, loaded


def write_damaged(folder, files, name, content) -> None:
    for other, valid in files.items():
        (folder / other).write_bytes(valid)
    (folder / name).write_bytes(content)


def check_tokens(prepared) -> None:
    folder, _, expected = prepared
    with valid_or_refused(folder):
        loaded = tokens.load(folder)
        assert loaded.keys() == expected.keys()
        for name, one in loaded.items():
            for part, wanted in zip(
                (one.ids, one.offsets, one.types, one.labels), expected[name], strict=True
            ):
                assert part.dtype == wanted.dtype and np.array_equal(part, wanted)


@fuzz(150)
@given(st.data())
def test_damaged_tokens_are_unchanged_or_refused(prepared, given_data):
    folder, files, _ = prepared
    name = given_data.draw(st.sampled_from(sorted(files)))
    write_damaged(folder, files, name, given_data.draw(fuzzing.damaged_bytes(files[name])))
    check_tokens(prepared)


@fuzz(100)
@given(st.data())
def test_tokens_with_other_facts_or_another_header_are_refused(prepared, given_data):
    folder, files, _ = prepared
    arrays = files["tokens.safetensors"]
    size = int.from_bytes(arrays[:8], "little")
    if given_data.draw(st.booleans()):
        tree = given_data.draw(fuzzing.damaged_tree(json.loads(files["tokens.json"])))
        write_damaged(folder, files, "tokens.json", json.dumps(tree).encode())
    else:
        header = json.dumps(
            given_data.draw(fuzzing.damaged_tree(json.loads(arrays[8 : 8 + size])))
        ).encode()
        write_damaged(
            folder,
            files,
            "tokens.safetensors",
            len(header).to_bytes(8, "little") + header + arrays[8 + size :],
        )
    check_tokens(prepared)


GRID = synthetic.load(
    seeds=[0], tables=dict(table2=synthetic.table(["roberta-base"], ["mrpc"]), table6=None)
)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A made run of GRID: (its folder, content of its files, the runs folder)."""
    runs_dir = tmp_path_factory.mktemp("runs")
    folder = synthetic.write_run(
        GRID, GRID.cells[0], 0, runs_dir, synthetic.epochs([0.8, 0.9, 0.85])
    )
    return (
        folder,
        {name: (folder / name).read_bytes() for name in ("metrics.csv", "run.json")},
        runs_dir,
    )


def check_run(run) -> None:
    folder, _, runs_dir = run
    output = runs_dir / "runs.csv"
    with valid_or_refused(runs_dir):
        collect.collect(GRID, runs_dir, output)
        rows = read_csv(output, RUNS_COLUMNS)
        with open(folder / "metrics.csv", encoding="utf-8-sig", newline="") as handle:
            own = [float(row["accuracy"] or "nan") for row in csv.DictReader(handle)]
        assert [row["epoch"] for row in rows] == [1, 2, 3]
        assert np.array_equal([row["accuracy"] for row in rows], own, equal_nan=True)
        made = make(GRID, output, "table2")
        assert made.cells[0]["n"] + made.cells[0]["n_failed"] == 1
    with valid_or_refused(runs_dir):
        provenance.write_provenance(GRID, GRID.config.as_dict(), runs_dir, runs_dir / "tables")
        read_csv(runs_dir / "tables/provenance.csv", PROVENANCE_COLUMNS)


@fuzz(100)
@given(st.data())
def test_a_damaged_run_is_collected_unchanged_or_refused(run, given_data):
    folder, files, _ = run
    name = given_data.draw(st.sampled_from(sorted(files)))
    write_damaged(folder, files, name, given_data.draw(fuzzing.damaged_bytes(files[name])))
    check_run(run)


@fuzz(100)
@given(st.data())
def test_a_run_with_another_record_is_collected_or_refused(run, given_data):
    folder, files, _ = run
    tree = given_data.draw(fuzzing.damaged_tree(json.loads(files["run.json"])))
    write_damaged(folder, files, "run.json", json.dumps(tree).encode())
    check_run(run)


@pytest.fixture(scope="module")
def adapter(tmp_path_factory):
    folder = tmp_path_factory.mktemp("adapter")
    peft_folder.write_adapter(folder, tensors_of(), "bert", "tiny", "qv", 2, 4.0, 0.1)
    return folder, {
        name: (folder / name).read_bytes() for name in (peft_folder.CONFIG, peft_folder.TENSORS)
    }


def check_adapter(folder) -> None:
    with valid_or_refused(folder):
        tensors, settings = peft_folder.read_adapter(folder, "bert")
        stored = load_file(folder / peft_folder.TENSORS)
        assert len(tensors) == len(stored)
        for name, value in tensors.items():
            assert (
                torch.equal(value, stored[peft_names.peft_name(name, "bert")])
                and torch.isfinite(value).all()
            )
        assert tensors["0.q.a"].shape[0] == settings.pairs["0.q"].rank and math.isfinite(
            settings.pairs["0.q"].scale
        )


@fuzz(100)
@given(st.data())
def test_a_damaged_adapter_is_read_or_refused(adapter, given_data):
    folder, files = adapter
    name = given_data.draw(st.sampled_from(sorted(files)))
    write_damaged(folder, files, name, given_data.draw(fuzzing.damaged_bytes(files[name])))
    check_adapter(folder)


@fuzz(100)
@given(st.data())
def test_an_adapter_with_other_settings_or_tensors_is_read_or_refused(adapter, given_data):
    folder, files = adapter
    if given_data.draw(st.booleans()):
        tree = given_data.draw(fuzzing.damaged_tree(json.loads(files[peft_folder.CONFIG])))
        write_damaged(folder, files, peft_folder.CONFIG, json.dumps(tree).encode())
    else:
        tensors = {
            peft_names.peft_name(name, "bert"): value for name, value in tensors_of().items()
        }
        for key in given_data.draw(
            st.lists(st.sampled_from(sorted(tensors)), min_size=1, max_size=2, unique=True)
        ):
            value = tensors.pop(key)
            shape = given_data.draw(st.lists(st.integers(0, 5), max_size=3))
            other = st.sampled_from(
                [torch.ones(shape), value.half(), value / 0, value.int(), value.reshape(-1)]
            )
            for name in given_data.draw(
                st.lists(st.sampled_from([key, f"x.{key}", key.replace(".0.", ".7.")]), max_size=2)
            ):
                tensors[name] = given_data.draw(other).clone()
        write_damaged(folder, files, peft_folder.TENSORS, save(tensors))
    check_adapter(folder)


@fuzz(100)
@given(st.data())
def test_a_damaged_checkpoint_is_not_used(tmp_path_factory, given_data):
    folder, digest = tmp_path_factory.getbasetemp() / "states", "ab" * 32
    shutil.rmtree(folder, ignore_errors=True)
    saved, meta = {"now/a": torch.arange(6.0)}, dict(epoch=1, rows=[dict(accuracy=0.5)], done=False)
    checkpoint.save(folder, digest, "epoch1", saved, meta)
    inside = checkpoint.folder_of(folder, digest)
    files = {path.name: path.read_bytes() for path in inside.iterdir()}
    name = given_data.draw(st.sampled_from(sorted(files)))
    if name == checkpoint.NEWEST and given_data.draw(st.booleans()):
        content = json.dumps(
            given_data.draw(fuzzing.damaged_tree(json.loads(files[name])))
        ).encode()
    else:
        content = given_data.draw(fuzzing.damaged_bytes(files[name]))
    write_damaged(inside, files, name, content)
    found = checkpoint.load(folder, digest)
    if found is not None:
        assert torch.equal(found[0]["now/a"], saved["now/a"]) and found[1] == meta


def test_the_files_to_damage_are_valid(prepared, run, adapter):
    """Otherwise the tests of this file would always pass."""
    for folder, files, *_ in (prepared, run, adapter):
        write_damaged(folder, files, *next(iter(files.items())))
    assert len(tokens.load(prepared[0])["train"]) == 42
    assert peft_folder.read_adapter(adapter[0], "bert")[1].rank == 2
    collect.collect(GRID, run[2], run[2] / "runs.csv")
    assert [row["accuracy"] for row in read_csv(run[2] / "runs.csv", RUNS_COLUMNS)] == [
        0.8,
        0.9,
        0.85,
    ]
    for name, content in SPLITS.items():
        assert content.count("\n") in (3, 4) and name in OFFICIAL
