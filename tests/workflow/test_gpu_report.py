"""What the GPU kit writes: its report, the status of the README, and a row of devices.csv."""

import json

import pytest
from gpu import __main__ as command
from gpu import checks, devices_row, report
from helpers.models import ROOT


def make_results(
    rate: float = 200_000, layer_ms: float = 1.5, run_layer_ms: float = 0.1
) -> dict[str, dict]:
    """Return results of a made-up GPU whose steps take exactly the planner's time."""
    rows = []
    for layers, flops, tokens in ((12, 3.4e8, 700.0), (24, 1.2e9, 900.0)):
        for pack in (1, 5, 15):
            gflop = tokens * pack * flops / 1e9
            step_s = gflop / rate + layers * (layer_ms + run_layer_ms * pack) / 1000
            row = dict(model=f"m{layers}", lengths="sst2", way="ours", pack=pack, steps=11)
            row |= dict(status="ok", precision="bf16", train_s=10 * step_s, layers=layers)
            row |= dict(tokens=10 * tokens * pack, flops_per_token=flops, startup_s=20.0)
            row |= dict(gemm_fp32=5e4, gemm_bf16=8e5, predicted_gib=1.5, peak_cuda_gib=1.25)
            rows.append(row)
    rows.append(rows[0] | dict(way="peft", train_s=10 * rows[0]["train_s"], predicted_gib=None))
    rows.append(rows[0] | dict(way="peft_grouped", status="failed: no accelerate"))
    machine = dict(device="cuda", device_name="NVIDIA H100 80GB HBM3", memory_gib=79.6, gpus=1)
    machine |= dict(driver="580", versions="torch 2.11", date="2026-01-02", commit="abc")
    machine |= dict(gemm_fp32=5e4, gemm_bf16=8e5, precision="bf16")
    results: dict[str, dict] = {"machine": dict(status="ok", values=machine)}
    results["packed"] = dict(
        status="ok",
        values=dict(largest_difference=dict(fp32=1e-5, bf16=0.004), allowed=checks.ROUNDING),
    )
    results["learning"] = dict(status="failed", why="AssertionError: learning differs")
    for layers in (12, 24):
        chosen = [row for row in rows if row["layers"] == layers]
        results[f"speed-{layers}"] = dict(status="ok", values=dict(rows=chosen, layers=layers))
    return results


def test_row_of_the_device_has_the_values_behind_the_steps(tmp_path):
    path = report.write(tmp_path, make_results())
    row = devices_row.row_of(json.loads(path.read_text()))
    assert float(row["bf16_gflops"]) == pytest.approx(200_000, rel=0.01)
    assert float(row["fp32_gflops"]) == pytest.approx(200_000 * 5e4 / 8e5, rel=0.01)
    assert float(row["layer_ms"]) == pytest.approx(1.5, rel=0.01)
    assert float(row["run_layer_ms"]) == pytest.approx(0.1, rel=0.01)
    assert (row["device"], row["kind"], row["memory_gib"]) == ("H100", "cuda", "80")


def test_row_replaces_the_estimate_and_is_a_valid_table(tmp_path, monkeypatch):
    from lora.experiment import csv_tables

    folder = tmp_path / "config"
    folder.mkdir()
    table = folder / "devices.csv"
    table.write_text((ROOT / "config/devices.csv").read_text())
    monkeypatch.setattr(devices_row, "DEVICES", table)
    before = {row["device"]: row for row in csv_tables.read_rows("devices.csv", folder)}
    path = report.write(tmp_path, make_results())
    assert command.main(["--row", str(path), "--write"]) == 0
    after = {row["device"]: row for row in csv_tables.read_rows("devices.csv", folder)}
    assert list(after) == list(before) and after["H100"]["known"] == "measured"
    assert {name: row for name, row in after.items() if name != "H100"} == {
        name: row for name, row in before.items() if name != "H100"
    }
    assert devices_row.name_of("AMD Instinct MI300X") == "AMD Instinct MI300X"


def test_too_few_measurements_give_no_row():
    rows = report.speed_rows(make_results())[:2]
    with pytest.raises(ValueError, match="at least three measurements of two pack sizes"):
        devices_row.fit(rows)


def test_report_has_every_result_and_every_failure(tmp_path):
    results = make_results() | {"speed-x": dict(status="failed", why="no end within 120 s")}
    path = report.write(tmp_path, results)
    assert path.name == "nvidia-h100-80gb-hbm3.json" and json.loads(path.read_text()) == results
    text = path.with_suffix(".md").read_text()
    assert "| Learning: the demo's product-sentiment | failed | AssertionError" in text
    assert "fp32 1e-05 (allowed 0.001), bf16 0.004 (allowed 0.03)" in text
    assert "| m12, sst2, ours | 1 |" in text and "| 10.0x | 1.50 | 1.25 |" in text
    assert "failed: no accelerate" in text and "speed-x: no end within 120 s" in text


def test_status_names_the_devices_that_were_measured(tmp_path):
    assert report.status(tmp_path) == report.NOT_RUN
    report.write(tmp_path, make_results())
    assert report.status(tmp_path) == (
        "Run on GPUs: [NVIDIA H100 80GB HBM3](benchmarks/gpu/nvidia-h100-80gb-hbm3.md) on "
        "2026-01-02, checks passed: 1, failed: 1."
    )
