"""Benchmarks: sentence lengths, operation counts, the ways of training, and the report."""

import baselines
import numpy as np
import pytest
import report
import run
import shapes
import step_profile
import torch
from torch.utils.flop_counter import FlopCounterMode

TINY = shapes.Shape("roberta", 2, 32, 4, 48, 100, 140, 1)


@pytest.mark.parametrize("count", [64, 320, 3200])
@pytest.mark.parametrize("name", shapes.LENGTHS)
def test_drawn_lengths_have_the_measured_statistics(name, count):
    facts = shapes.LENGTHS[name]
    lengths = shapes.draw_lengths(facts, count)
    assert lengths.mean() == pytest.approx(facts.mean, rel=0.03)
    assert (lengths**2).sum() / lengths.sum() == pytest.approx(facts.squares, rel=0.05)
    assert lengths.min() >= 3 and lengths.max() <= min(facts.maximum, shapes.PAD_TO)
    assert facts.p95 is None or np.quantile(lengths, 0.95) == pytest.approx(facts.p95, rel=0.1)
    assert facts.median is None or np.median(lengths) == pytest.approx(facts.median, abs=1)


def test_flops_equal_the_count_of_torch(tmp_path):
    """Forward and backward pass of `course` without padding; it computes all of the last layer."""
    shapes.write_model(tmp_path / "tiny", TINY)
    model = baselines.course_model(dict(model_dir=tmp_path / "tiny", classes=3, rank=5)).train()
    ids = torch.randint(5, TINY.vocabulary, (4, 11))
    with FlopCounterMode(display=False) as counter:
        model(input_ids=ids, labels=torch.tensor([0, 1, 2, 0])).loss.backward()
    expected = shapes.training_flops(TINY, [11] * 4, 5, classes=3, first_token_only=False)
    assert counter.get_total_flops() == expected


def test_flops_of_roberta_base():
    """About 2 x 84.9 M weights in the forward pass and the same in the backward pass.

    The inputs of the first layer and activations that the head does not read are not counted.
    """
    per_token = shapes.training_flops(shapes.MODELS["roberta-base"], [40] * 10, 8) / 400
    assert per_token == pytest.approx(320e6, rel=0.01)


def test_grouped_batches_have_similar_lengths_and_all_examples():
    lengths = shapes.draw_lengths(shapes.LENGTHS["sst2"], 320).tolist()
    torch.manual_seed(0)
    order = baselines.grouped_order(lengths, 20)
    batches = np.array(lengths)[order].reshape(20, shapes.EXAMPLES_PER_STEP)
    assert sorted(order) == list(range(320))
    assert (batches.max(axis=1) * shapes.EXAMPLES_PER_STEP).sum() < 1.2 * sum(lengths)
    assert batches[0].max() < np.quantile(lengths, 0.7)


def test_batches_are_padded_and_masked():
    examples = [
        dict(input_ids=torch.tensor([7, 8, 9]), labels=1),
        dict(input_ids=torch.tensor([6]), labels=0),
    ]
    batch = baselines.collate(examples, pad_id=1)
    assert batch["input_ids"].tolist() == [[7, 8, 9], [6, 1, 1]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1], [1, 0, 0]]
    assert batch["labels"].tolist() == [1, 0]
    assert baselines.collate(examples, 1, 128)["input_ids"].shape == (2, 128)


@pytest.mark.slow
def test_ours_and_peft_are_measured(tmp_path, monkeypatch):
    """Two processes of three small steps, of which two are timed; no column is missing."""
    monkeypatch.setattr(run, "CACHE", tmp_path)
    monkeypatch.setitem(run.MODELS, "tiny", TINY)
    shapes.write_model(tmp_path / "tiny", TINY)
    job = dict(table="ways", model="tiny", lengths="mrpc", rank=8, steps=3)
    group = [job | dict(way="peft", pack=1), job | dict(way="ours_pack5", pack=5)]
    common = dict(threads=1, device="cpu", precision="fp32")
    rows = list(run.measure_group(group, common, 1, tmp_path / "tokens"))
    assert [row["status"] for row in rows] == ["ok", "ok"]
    assert [row["examples"] for row in rows] == [2 * 16, 5 * 2 * 16]
    for row in rows:
        assert set(report.COLUMNS) <= set(row) and row["train_s"] > 0 and row["startup_s"] > 0.1
        assert row["tokens"] / row["examples"] == pytest.approx(54, rel=0.15)
    run.write(tmp_path / "out", rows, ["Device: none"])
    assert len((tmp_path / "out.csv").read_text().splitlines()) == 2 + len(rows)


def test_the_kinds_of_operations_add_up_to_a_step(tmp_path, monkeypatch):
    """Two packs of a tiny model; the table has a line for each kind, and their sum is a step."""
    monkeypatch.setattr(step_profile, "CACHE", tmp_path)
    monkeypatch.setitem(step_profile.MODELS, "tiny", TINY)
    monkeypatch.setattr(step_profile, "SIZE", 64)
    rows = []
    for pack in (1, 2):
        request = dict(model="tiny", lengths="sst2", pack=pack, precision="fp32")
        rows.append(request | step_profile.measure(request | dict(steps=1, threads=1)))
    for row in rows:
        assert set(step_profile.KINDS) < set(row["kinds"]) and row["share"] > 0
        of_operations = [row["kinds"][kind] for kind in step_profile.KINDS]
        assert min(of_operations) > 0  # each name is one of torch's
        assert sum(of_operations) < sum(row["kinds"].values())
    assert rows[1]["kinds"]["attention: products"] > 0
    lines = step_profile.table(rows).splitlines()
    assert len({line.count("|") for line in lines}) == 1
    shares = [
        [float(cell) for cell in line.split("|")[2:-1]] for line in lines if "% of a step" in line
    ]
    assert len(shares) == len(step_profile.KINDS) + 1
    assert all(abs(sum(column) - 100) < 1 for column in zip(*shares, strict=True))


def test_failed_measurement_has_a_status(tmp_path, monkeypatch):
    """The status has the last line of the output, the exit status or the time limit."""
    (tmp_path / "ways.py").write_text("import sys\nprint('begin')\nsys.exit('no such | model')")
    monkeypatch.setattr(run, "HERE", tmp_path)
    assert run.call(dict(way="ours", threads=1)) == dict(status="failed: no such | model")
    (tmp_path / "ways.py").write_text("import os\nos.kill(os.getpid(), 9)")
    assert run.call(dict(way="ours", threads=1)) == dict(status="failed: exit status -9")
    (tmp_path / "ways.py").write_text("import time\ntime.sleep(60)")
    monkeypatch.setattr(run, "LIMIT_S", 0.2)
    assert run.call(dict(way="ours", threads=1)) == dict(status="failed: no answer in 0.2 s")


def make_row(way: str, repeat: int, train_s: float, **changes: object) -> dict:
    """Return a measurement of 160 examples in 10 timed steps."""
    row = dict(
        table="ways",
        model="demo",
        lengths="sst2",
        way=way,
        pack=1,
        rank=8,
        steps=11,
        repeat=repeat,
        status="ok",
    )
    row |= dict(
        precision="fp32",
        startup_s=2.0,
        train_s=train_s,
        examples=160,
        tokens=2000,
        flops_per_token=4e7,
    )
    return (
        row | dict(peak_rss_gib=1.5, peak_cuda_gib=0.0, gemm_fp32=100.0, gemm_bf16=None) | changes
    )


def test_report_shows_the_median_of_ratios_within_a_repeat():
    """Times 10, 20, 40 s and 1, 4, 5 s have the ratios 10, 5, 8, with median 8.

    The ratio of the medians would be 20 / 4 = 5.
    """
    rows = [make_row("course", repeat, seconds) for repeat, seconds in enumerate([10, 20, 40])]
    rows += [make_row("ours", repeat, seconds) for repeat, seconds in enumerate([1, 4, 5])]
    rows += [make_row("peft", 0, 0, status="failed: out of | memory"), make_row("peft", 1, 8)]
    rows += [make_row("ours_pack5", 0, 0, status="failed: it broke")]
    text = report.markdown(rows, ["Device: none"])
    lines = {
        line.split(":")[0].lstrip("| "): line for line in text.splitlines() if line.startswith("|")
    }
    assert "| 8.00 (4.00-16.0) | 100 | 8.00x | - | fp32 | 4.00 % | 2.00 | 1.50 |" in lines["course"]
    assert "(1 of 2 failed: out of / memory) | 20.0 |" in lines["peft"]
    assert "| 2.00x |" in lines["peft"]
    assert "| failed: it broke | - |" in lines["ours_pack5"] and "peft_grouped" not in lines
    assert len({line.count("|") for line in text.splitlines() if line.startswith("| ours")}) == 1


def test_scaling_table_is_relative_to_one_run():
    rows = [
        make_row("ours", 0, 1.0, table="scaling"),
        make_row("ours", 0, 2.0, table="scaling", pack=5, examples=800),
    ]
    text = report.markdown(rows, [])
    assert "| 1, r=8 | 100 | 1.00 | 160 | 1.00x |" in text
    assert "| 5, r=8 | 200 | 2.00 | 400 | 2.50x |" in text
