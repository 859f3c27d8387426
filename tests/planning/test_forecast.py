"""Forecasts of time, memory and disk against the benchmark's timings and memory and the engine."""

import csv
import dataclasses
import math
import shutil

import numpy as np
import pytest
from helpers.models import ROOT
from helpers.synthetic import load, table

from lora.errors import ConfigError
from lora.experiment import csv_tables, registry
from lora.model import memory
from lora.planning import forecast, workload
from lora.training import checkpoint_schedule


def benchmark() -> dict[tuple, tuple[float, float, int]]:
    """Median seconds of a step, median peak memory in GiB and number of steps of our own runs in
    the benchmark, by (table, model, lengths, pack, rank).
    """
    path = ROOT / "benchmarks/results/cpu-amd-epyc-2-threads.csv"
    rows = csv.DictReader(
        line for line in path.read_text().splitlines() if not line.startswith("#")
    )
    measured = {}
    for row in rows:
        if row["way"].startswith("ours"):
            key = (
                row["table"],
                row["model"].replace("demo", "minilm"),
                row["lengths"],
                int(row["pack"]),
                int(row["rank"]),
            )
            steps = int(row["steps"])
            measured.setdefault(key, []).append(
                (float(row["train_s"]) / (steps - 1), float(row["peak_rss_gib"]), steps)
            )
    return {
        key: tuple(np.median(np.array(values), axis=0).tolist()) for key, values in measured.items()
    }


def test_forecasts_agree_with_the_benchmark():
    """Seconds of a step agree within a quarter for all 19 timings, without start-up, evaluation
    and checkpoints. Forecast memory is 0.85 to 1.5 times the measured peak: a cluster kills a job
    that uses more than it requested.
    """
    cpu, measured = registry.devices()["CPU"], benchmark()
    assert len(measured) == 19
    for (_, model, task, pack, rank), (step_s, peak_gib, steps) in measured.items():
        grid = load(
            tables=dict(table2=table([model], [task], ranks=[rank]), table6=None),
            overrides=dict(epochs=1, examples_per_step=16),
            precision="bf16",
            threads=2,
        )
        forecaster = forecast.Forecaster(grid)
        run, shape = forecaster._run(grid.cells[0]), forecaster.shape(model)
        training = dataclasses.replace(run, eval_tokens=0, eval_flops=0, parameters=0, epochs=0)
        seconds = (
            forecast._seconds([training] * pack, shape.layers, cpu, cpu.flops_per_s("bf16", 2), 300)
            / run.steps
        )
        assert 0.75 < seconds / step_s < 1.25, (model, task, pack, rank)
        host, _, _ = forecast._memory([dataclasses.replace(run, steps=steps)] * pack, shape, cpu, 2)
        assert 0.85 < host / forecast.GIB / peak_gib < 1.5, (
            model,
            task,
            pack,
            rank,
            host / forecast.GIB / peak_gib,
        )


def test_more_runs_and_higher_ranks_need_no_less(tmp_path):
    grid = load(results=str(tmp_path))
    forecaster, cell = forecast.Forecaster(grid), grid.cells[0]
    larger = dataclasses.replace(cell, rank=64)
    for device in registry.devices().values():
        one, five, wide = (
            forecaster.job((c,), n, device) for c, n in ((cell, 1), (cell, 5), (larger, 5))
        )
        for name in (
            "seconds",
            "host_bytes",
            "device_bytes",
            "needed_bytes",
            "disk_bytes",
            "flops",
        ):
            assert getattr(one, name) <= getattr(five, name) <= getattr(wide, name), name
        assert (
            one.seconds < five.seconds < 5 * one.seconds
        )  # a pack shares the overhead of its steps


def test_time_for_checkpoints_is_that_of_the_engine():
    """At ends of epochs they take the share of time that the engine allows, and one more save;
    within an epoch there is one every `every_s` seconds.
    """
    assert forecast.SAVED_SHARE == checkpoint_schedule.SHARE
    tuned = dict(models=["roberta-large"], tasks=["rte"], method="ft")
    grid = load(tables=dict(table2=tuned, table6=None))
    run, cpu = forecast.Forecaster(grid)._run(grid.cells[0]), registry.devices()["CPU"]
    bare = forecast._seconds([dataclasses.replace(run, parameters=0)], 24, cpu, 1e12, 300)
    once = 16 * run.parameters / forecast.STATE_BYTES_PER_S
    assert once > 25  # gigabytes
    with_states = forecast._seconds(
        [dataclasses.replace(run, epochs=1000)], 24, cpu, 1e12, math.inf
    )
    bare_1000 = forecast._seconds(
        [dataclasses.replace(run, epochs=1000, parameters=0)], 24, cpu, 1e12, math.inf
    )
    assert with_states == pytest.approx(1.02 * bare_1000 + once)
    assert forecast._seconds([run], 24, cpu, 1e12, 10) > bare * (1 + once / 10)


def test_runs_of_full_fine_tuning_train_one_by_one_in_float32():
    grid = load(
        tables=dict(
            table2=table(["roberta-base"], ["sst2"], baselines=[dict(method="ft")]), table6=None
        )
    )
    forecaster, h100 = forecast.Forecaster(grid), registry.devices()["H100"]
    lora, tuned = grid.cells
    one, five = (forecaster.job((tuned,), count, h100) for count in (1, 5))
    assert five.train_s == pytest.approx(5 * one.train_s) and five.device_bytes == one.device_bytes
    assert (
        one.needed_bytes > 20 * 124e6
    )  # value, gradient, two moments, the best: 20 bytes a parameter
    assert forecaster.job((lora,), 5, h100).needed_bytes < one.needed_bytes


def test_job_requests_its_forecast_with_headroom_and_at_least_the_minimum():
    small = forecast.Forecast(1.0, 1.0, 1e6, 0, 0, 0, 0, 0, True)
    assert [forecast.mem_mb(small, attempt) for attempt in (1, 2, 3)] == [1500, 3000, 6000]
    assert [forecast.runtime_min(small, attempt) for attempt in (1, 2)] == [10, 20]
    large = dataclasses.replace(small, train_s=36000, startup_s=0, host_bytes=10 * 2**30)
    assert forecast.mem_mb(large, 1) == 10 * 1024 * 1.4 + 500
    assert [forecast.runtime_min(large, attempt) for attempt in (1, 2)] == [1800, 3600]
    assert [forecast.runtime_min(large, attempt, 600) for attempt in (1, 2, 9)] == [600] * 3
    assert forecast.mem_mb(small, 9) == forecast.mem_mb(small, 3)  # a retry after max_runtime
    assert forecast.retries([small, large], 600) == 2 + 3
    assert forecast.retries([small], 600) == 2


def test_planning_device():
    assert forecast.planning_device(load()).name == "T4"  # the slowest
    assert forecast.planning_device(load(device="cpu")).name == "CPU"
    assert forecast.planning_device(load(device="cpu", plan_device="H100")).name == "H100"
    with pytest.raises(
        ConfigError, match="plan_device: got 'H10'; allowed: A100, CPU, H100.*did you mean 'H100'"
    ):
        load(plan_device="H10")
    with pytest.raises(ConfigError, match="plan_device: got 3; allowed: text"):
        load(plan_device=3)


def test_gpu_without_bf16_and_gpu_with_too_little_memory():
    v100 = registry.devices()["V100"]
    assert (
        v100.precision("auto") == "fp32" and registry.devices()["H100"].precision("auto") == "bf16"
    )
    grid = load(config="paper.yaml")
    cell = next(
        cell for cell in grid.cells if cell.method == "ft" and cell.model == "roberta-large"
    )
    tiny = dataclasses.replace(v100, memory_gib=4.0)
    assert forecast.Forecaster(grid).job((cell,), 1, v100).fits
    assert not forecast.Forecaster(grid).job((cell,), 1, tiny).fits


def test_tasks_and_models_have_rows_and_gpus_are_marked_as_estimates():
    for task in registry.read_tasks().values():
        assert not [
            line for line in workload.splits_of("/nowhere", "m", task, 128)[1] if "no row" in line
        ]
    for source in registry.read_sources().values():
        assert source.role != "model" or not workload.shape_of("/nowhere", source.name)[1]
    for device in registry.devices().values():
        assert device.measured == (device.kind == "cpu") and device.note in (
            "measured",
            "estimate, not measured",
        )
        assert memory.table_key(device.kind) in memory.TRAIN_TOKENS
    for name in ("models.csv", "lengths.csv", "devices.csv"):
        assert all(len(row["source"]) > 10 for row in csv_tables.read_rows(name))


@pytest.mark.parametrize(
    "name, old, new, message",
    [
        (
            "models.csv",
            "roberta-base,12,",
            "roberta-base,0,",
            "line 2: layers is '0'; allowed: a whole number of at least 1",
        ),
        (
            "models.csv",
            "roberta-large,",
            "roberta-base,",
            "'roberta-base' is there 2 times; keep one row",
        ),
        (
            "lengths.csv",
            "mnli,train,392702,40.5",
            "mnli,train,392702,-4",
            "line 2: mean_tokens is '-4'; allowed: a number above 0",
        ),
        (
            "lengths.csv",
            ",validation_mismatched,",
            ",validation_matched,",
            "'mnli validation_matched' is there 2 times",
        ),
        ("lengths.csv", ",measured,", ",known,", "known is 'known'; allowed: measured, estimate"),
        ("devices.csv", "CPU,cpu,", "CPU,gpu,", "line 2: kind is 'gpu'; allowed: cpu, cuda"),
        (
            "devices.csv",
            "V100,cuda,,",
            "V100,cuda,fast,",
            "bf16_gflops is 'fast'; allowed: a number above 0, or nothing",
        ),
    ],
)
def test_error_names_the_file_and_line_of_a_wrong_row(tmp_path, name, old, new, message):
    shutil.copy(ROOT / "config" / name, tmp_path)
    text = (tmp_path / name).read_text()
    assert old in text
    (tmp_path / name).write_text(text.replace(old, new, 1))
    with pytest.raises(ConfigError, match=name) as caught:
        csv_tables.read_rows(name, tmp_path)
    assert message in str(caught.value)
