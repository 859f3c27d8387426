"""Tables of the subspace analysis against saved adapters; runs that are refused."""

import json
import math

import numpy as np
import pytest
import scipy.linalg
import torch
import transformers

from lora import files
from lora.adapters import peft_folder, subspace, subspace_tables
from lora.columns import AMPLIFICATION_COLUMNS, PHI_COLUMNS
from lora.data import fetch
from lora.experiment import hparam_rows
from lora.experiment.cell import Cell
from lora.experiment.hparams import run_settings
from lora.model import methods, modules, packed_model, pretrained

random = np.random.default_rng(5)


def test_layers_are_the_papers():
    assert (
        subspace_tables.paper_layers(96) == (1, 32, 64, 96)
        and subspace_tables.middle_layer(96) == 48
    )
    assert (
        subspace_tables.paper_layers(12) == (1, 4, 8, 12)
        and subspace_tables.middle_layer(12) == 6
        and subspace_tables.middle_layer(3) == 1
    )
    assert (
        subspace_tables.paper_layers(2) == (1, 2)
        and subspace_tables.paper_layers(1) == (1,)
        and subspace_tables.middle_layer(1) == 1
    )


def make_run(folder, model_dir, rank, seed, weights="qv", record=None, settings=None, **hparams):
    """Write a run folder whose tensors differ from their initial values; return its model."""
    cell = Cell("tiny", "sst2", "lora", weights, rank, "course")
    resolved = hparam_rows.resolve(hparam_rows.read_hparam_rows(), cell, {"alpha": "3r", **hparams})
    model = packed_model.PackedModel(
        pretrained.load_base(model_dir),
        [methods.AdapterSpec(seed, weights, rank, 2, resolved)],
    )
    family = model.base.config.model_type
    source = torch.Generator().manual_seed(seed)
    tensors = {}
    for name, value in model.parameters_of(0).items():
        moved = torch.randn(value.shape, generator=source) * (
            0.1 if name.endswith((".a", ".b")) else 0
        )
        tensors[name] = value.detach() + moved
    peft_folder.write_adapter(
        folder / "adapter", tensors, family, "tiny", weights, rank, resolved.alpha, 0.0
    )
    facts = dict(
        settings=run_settings(cell, seed, resolved) | (settings or {}),
        status="ok",
        start=None,
        base=dict(family=family, base_sha256=fetch.base_sha256(model_dir)),
    )
    files.write_json(folder / "run.json", facts | (record or {}))
    return model, tensors


def three(folder, model_dir, **changes) -> tuple:
    """Folders of the three runs that `write` takes; `changes` are of the last."""
    make_run(folder / "low", model_dir, 2, 0)
    make_run(folder / "other", model_dir, 6, 0)
    make_run(folder / "high", model_dir, **dict(dict(rank=6, seed=1), **changes))
    return folder / "low", folder / "other", folder / "high"


def test_pairs_are_read_as_they_were_trained(model_dir, family, tmp_path):
    model, tensors = make_run(tmp_path, model_dir, 3, 0, weights="qo")
    pairs = subspace.read_pairs(tmp_path / "adapter", family)
    assert set(pairs) == {"0.q", "0.o", "1.q", "1.o"}
    for name, pair in pairs.items():
        assert (
            np.array_equal(pair.a_RI, tensors[f"{name}.a"].numpy())
            and pair.a_RI.dtype == np.float64
        )
        assert np.array_equal(pair.b_OR, tensors[f"{name}.b"].numpy()) and pair.scale == 3


def test_a_folder_without_an_adapter_is_refused(bert_dir, tmp_path):
    make_run(tmp_path, bert_dir, 2, 0)
    with pytest.raises(ValueError, match="adapter_config.json"):
        subspace.read_pairs(tmp_path, "bert")
    path = tmp_path / "adapter/adapter_config.json"
    path.write_text(json.dumps(dict(method="bitfit", rank=0)))
    with pytest.raises(ValueError, match="bitfit"):
        subspace.read_pairs(tmp_path / "adapter", "bert")


@pytest.mark.parametrize("init_a", ["kaiming", "gaussian"])
def test_a_starts_where_training_starts_it(init_a, bert_dir, tmp_path):
    model, _ = make_run(tmp_path, bert_dir, 3, 7, init_a=init_a, init_a_std=0.3)
    run = subspace_tables.Run(tmp_path)
    for name in run.pairs:
        assert np.array_equal(
            run.start_of(name), model.parameters_of(0)[f"{name}.a"].detach().numpy()
        ), name


def test_initial_values_of_a_warm_start_are_unknown(bert_dir, tmp_path):
    make_run(tmp_path, bert_dir, 3, 7, start="some/folder")
    assert subspace_tables.Run(tmp_path).start_of("0.q") is None


@pytest.mark.parametrize("shape", ["encoder alone", "whole model", "bf16"])
def test_pretrained_weights_are_read_from_any_model_folder(model_dir, family, shape, tmp_path):
    base = pretrained.load_base(model_dir)
    folder = model_dir
    if shape == "whole model":
        model = transformers.AutoModelForMaskedLM.from_config(base.config)
        getattr(model, family).load_state_dict(base.state_dict(), strict=False)
        model.save_pretrained(folder := tmp_path)
    elif shape == "bf16":
        base.bfloat16().save_pretrained(folder := tmp_path)
    for letter in "qkvo":
        expected = modules.linear_of(base, 1, letter).weight.double().numpy()
        assert np.array_equal(subspace.base_weight(folder, 1, letter), expected)
    with pytest.raises(
        ValueError, match="encoder.layer.2.attention.self.query.weight; give the folder"
    ):
        subspace.base_weight(folder, 2, "q")


def test_written_values_are_those_of_the_adapters(model_dir, family, tmp_path):
    runs = three(tmp_path, model_dir)
    subspace_tables.write(runs, model_dir, tmp_path / "out")
    rows = files.read_csv(tmp_path / "out/phi.csv", PHI_COLUMNS)
    count = {"figure3": 2 * 12, "figure4": 2 * 36, "figure6": 4 * 12, "figure7": 4 * 36}
    assert {name: sum(row["figure"] == name for row in rows) for name in count} == count
    labels = {"figure3": ("r2 seed0", "r6 seed1"), "figure4": ("r6 seed0", "r6 seed1")}
    pairs = {
        name: subspace.read_pairs(tmp_path / name / "adapter", family)
        for name in ("low", "other", "high")
    }
    start = {name: subspace_tables.Run(tmp_path / name) for name in pairs}
    for row in rows:
        like = {"figure6": "figure3", "figure7": "figure4"}.get(row["figure"], row["figure"])
        first, name = (
            {"figure3": "low", "figure4": "other"}[like],
            f"{row['layer'] - 1}.{row['letter']}",
        )
        assert (
            (row["first"], row["second"]) == labels[like]
            and row["depth"] == 2
            and row["model"] == "tiny"
        )
        assert row["layer"] in ((1,) if like == row["figure"] else (1, 2))
        left, right = (scipy.linalg.svd(pairs[run][name].a_RI)[2] for run in (first, "high"))
        expected = np.linalg.norm(left[: row["i"]] @ right[: row["j"]].T) ** 2 / min(
            row["i"], row["j"]
        )
        assert row["phi"] == pytest.approx(expected, abs=1e-8)
        left, right = (scipy.linalg.svd(start[run].start_of(name))[2] for run in (first, "high"))
        expected = np.linalg.norm(left[: row["i"]] @ right[: row["j"]].T) ** 2 / min(
            row["i"], row["j"]
        )
        assert row["phi_at_start"] == pytest.approx(expected, abs=1e-8)
        assert row["random_expected"] == pytest.approx(max(row["i"], row["j"]) / 32, abs=1e-8)
        drawn = subspace.random_phi(len(pairs[first][name].a_RI), 6, 32, row["layer"])[
            row["i"] - 1, row["j"] - 1
        ]
        assert row["random_drawn"] == pytest.approx(drawn, abs=1e-8)
    rows = files.read_csv(tmp_path / "out/amplification.csv", AMPLIFICATION_COLUMNS)
    assert len(rows) == 2 * 2 * 3
    base = pretrained.load_base(model_dir)
    for row in rows:
        run = {(2, 0): "low", (6, 0): "other", (6, 1): "high"}[row["rank"], row["seed"]]
        pair, name = pairs[run], f"{row['layer'] - 1}.{row['letter']}"
        delta = 3 * torch.from_numpy(pair[name].b_OR) @ torch.from_numpy(pair[name].a_RI)
        assert row["delta_norm"] == pytest.approx(float(delta.norm())) and row["scale"] == 3
        weight = modules.linear_of(base, row["layer"] - 1, row["letter"]).weight
        assert row["w_norm"] == pytest.approx(float(weight.double().norm()))
        moved = np.linalg.norm(pair[name].a_RI - start[run].start_of(name))
        assert row["a_change"] * np.linalg.norm(start[run].start_of(name)) == pytest.approx(moved)


def test_the_same_runs_give_the_same_bytes(bert_dir, tmp_path):
    runs = three(tmp_path, bert_dir)
    for name in ("once", "again"):
        subspace_tables.write(runs, bert_dir, tmp_path / name, "q", (2,))
    for name in ("phi.csv", "amplification.csv"):
        assert (tmp_path / "once" / name).read_bytes() == (tmp_path / "again" / name).read_bytes()
    rows = files.read_csv(tmp_path / "once/phi.csv", PHI_COLUMNS)
    assert {(row["figure"], row["layer"], row["letter"]) for row in rows} == {
        ("figure3", 1, "q"),
        ("figure4", 1, "q"),
        ("figure6", 2, "q"),
        ("figure7", 2, "q"),
    }


def test_alpha_scales_the_norm_of_dw_and_the_factor_alone(bert_dir, tmp_path):
    rows = {}
    for alpha in ("3r", "6r"):
        runs = three(tmp_path / alpha, bert_dir, alpha=alpha)
        subspace_tables.write(runs, bert_dir, tmp_path / alpha / "out")
        rows[alpha] = files.read_csv(
            tmp_path / alpha / "out/amplification.csv", AMPLIFICATION_COLUMNS
        )
        rows[alpha] = [row for row in rows[alpha] if row["seed"] == 1]
    for one, two in zip(rows["3r"], rows["6r"], strict=True):
        ratio = {key: two[key] / one[key] for key in one if isinstance(one[key], float)}
        doubled = {key for key, value in ratio.items() if value == pytest.approx(2)}
        assert doubled == {"scale", "delta_norm", "amplification"}
        assert all(value == 1 for key, value in ratio.items() if key not in doubled)


def test_a_start_from_another_adapter_leaves_its_columns_empty(bert_dir, tmp_path):
    runs = three(
        tmp_path,
        bert_dir,
        start="some/folder",
        record=dict(start=dict(source="a folder", sha256="1")),
    )
    subspace_tables.write(runs, bert_dir, tmp_path / "out")
    rows = files.read_csv(tmp_path / "out/phi.csv", PHI_COLUMNS)
    assert all(math.isnan(row["phi_at_start"]) and row["phi"] > 0 for row in rows)
    rows = files.read_csv(tmp_path / "out/amplification.csv", AMPLIFICATION_COLUMNS)
    assert [math.isnan(row["a_change"]) for row in rows] == [False, False, True] * 4


@pytest.mark.parametrize(
    "changes, message",
    [
        (
            dict(seed=0),
            "r2 seed0 and r6 seed0 have the same seed(.|\n)*"
            "r6 seed0 and r6 seed0 have the same seed",
        ),
        (dict(rank=5), "ranks 2, 6, 5; allowed: a lower one"),
        (dict(weights="q"), "weights q and qv; allowed: one for all"),
        (dict(settings=dict(task="mrpc")), "task mrpc and sst2"),
        (dict(record=dict(status="non_finite")), "status 'non_finite'; allowed: ok"),
        (dict(record=dict(base=dict(family="bert", base_sha256="0"))), "is not the base model"),
    ],
)
def test_runs_that_cannot_be_compared_are_refused(bert_dir, tmp_path, changes, message):
    runs = three(tmp_path, bert_dir, **changes)
    with pytest.raises(ValueError, match=message):
        subspace_tables.write(runs, bert_dir, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_runs_that_start_from_one_adapter_are_refused(bert_dir, tmp_path):
    start = dict(record=dict(start=dict(source="course/tiny/mnli/lora/qv/r6/seed4", sha256="1")))
    runs = three(tmp_path, bert_dir, **start)
    make_run(runs[1], bert_dir, 6, 0, **start)
    with pytest.raises(
        ValueError,
        match="start from the same adapter .course/tiny/mnli/lora/qv/r6/seed4.*pretrained",
    ):
        subspace_tables.write(runs, bert_dir, tmp_path / "out")


def test_two_runs_are_too_few(bert_dir, tmp_path):
    with pytest.raises(ValueError, match="got 2 runs; allowed: three"):
        subspace_tables.write([tmp_path, tmp_path], bert_dir, tmp_path / "out")


def test_missing_layers_and_weights_are_in_one_message(bert_dir, tmp_path):
    runs = three(tmp_path, bert_dir)
    with pytest.raises(
        ValueError, match="letter 'k'; allowed: q, v(.|\n)*layer 0; allowed: 1 to 2(.|\n)*layer 3"
    ):
        subspace_tables.write(runs, bert_dir, tmp_path / "out", "qk", (0, 1, 3))
