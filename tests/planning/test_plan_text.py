"""Text of a plan: its sections, and the formats of durations, numbers and columns."""

import re

import pytest
from helpers.synthetic import load, table

from lora.experiment import registry
from lora.planning import plan, plan_text

GPUS = [device for device in registry.devices().values() if device.kind == "cuda"]


def text_of(**changes) -> str:
    """The text of the plan of a config with changes."""
    return plan_text.text(plan.Plan(load(**changes)))


def test_chain_of_jobs_is_shown():
    tables = dict(table2=table(["roberta-base"], ["mnli", "rte"]), table6=None)
    text = text_of(protocol="paper", tables=tables)
    assert "1 edges between them" in text
    assert (
        "longest chain: mnli lora qv r8 on roberta-base, paper, then "
        "rte lora qv r8 on roberta-base, paper" in text
    )


@pytest.mark.parametrize(
    "name", ["config.yaml", "paper.yaml", "demo.yaml", "baselines.yaml", "ablation-head.yaml"]
)
def test_lines_of_a_device_that_was_not_measured_say_so(name):
    lines = text_of(config=name).splitlines()
    for device in GPUS:
        found = [line for line in lines if re.search(rf"(^|on|for) *{device.name}\b", line)]
        assert len(found) >= 2 and all("estimate, not measured" in line for line in found), found
    assert all(len(line) < 150 for line in lines)


def test_jobs_too_large_for_a_device_are_counted(monkeypatch):
    small = {
        name: device
        if device.kind == "cpu"
        else registry.Device(**vars(device) | dict(memory_gib=1.0))
        for name, device in registry.devices().items()
    }
    monkeypatch.setattr(registry, "devices", lambda: small)
    assert "estimate, not measured; 18 of 18 jobs do not fit its memory" in text_of()


def test_requests_of_cluster_jobs_are_those_of_the_shortest_and_longest_job(tmp_path):
    """1500 MB and 10 minutes are the least. The H100 needs 3.5 GiB of host memory alone."""
    text = text_of(config="demo.yaml", plan_device="H100", results=str(tmp_path))
    requests = text.partition("WHAT A CLUSTER JOB REQUESTS, doubled at each further attempt\n")[2]
    low, high = re.match(r"  mem_mb ([\d,]+) to ([\d,]+); runtime 10 minutes", requests).groups()
    low, high = (int(value.replace(",", "")) for value in (low, high))
    assert 3.5 * 1024 * 1.4 + 500 < low < high
    assert "for H100 (plan_device, estimate, not measured)" in requests


def test_assumptions_are_listed_and_further_sections_follow(tmp_path):
    """Each estimated task is named once, in one line."""
    source = dict(role="model", kind="file", locator="/somewhere")
    planned = plan.Plan(
        load(
            results=str(tmp_path),
            sources=dict(own=source),
            tables=dict(table2=table(["own"], ["mnli", "sst2"]), table6=None),
        )
    )
    text = plan_text.text(planned, ["MORE", "  lines"], [])
    assumptions = text.partition("ASSUMPTIONS\n")[2]
    assert assumptions.startswith("  model own is not fetched: assumed to be like roberta-base\n")
    assert text.endswith("\n\nMORE\n  lines\n")


@pytest.mark.parametrize(
    "seconds, text",
    [
        (45, "45 s"),
        (119, "119 s"),
        (150, "2.5 min"),
        (7100, "118 min"),
        (7200, "2.0 h"),
        (350_000, "97.2 h"),
        (864_000, "10.0 d"),
        (100 * 86400, "100 d"),
    ],
)
def test_duration_has_the_usual_unit(seconds, text):
    assert plan_text.duration(seconds) == text


@pytest.mark.parametrize(
    "value, text",
    [
        (999_999, "999,999"),
        (1.03e6, "1.03 million"),
        (53_687.5e9, "53,687.50 billion"),
        (2e15, "2.00 x 10^15"),
        (1.67e18, "1.67 x 10^18"),
    ],
)
def test_large_number_has_its_magnitude(value, text):
    assert plan_text.number(value) == text


def test_columns_are_aligned():
    rows = [["device", "h", "note"], ["T4", "12.5", "an estimate"]]
    assert plan_text.aligned(rows, (0, 2)) == [
        "  device     h  note",
        "  T4      12.5  an estimate",
    ]
