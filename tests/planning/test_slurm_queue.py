"""Reasons why a Slurm job waits, and which of them never pass."""

import subprocess

import pytest

from lora.planning import slurm_queue


def test_waiting_jobs_are_read_from_squeue(monkeypatch):
    answer = "7|PartitionTimeLimit|rule_train\n8|Priority|rule_train|with a bar\n"
    monkeypatch.setattr(
        subprocess,
        "run",
        lambda command, **_: subprocess.CompletedProcess(command, 0, stdout=answer, stderr=""),
    )
    assert slurm_queue.waiting() == [
        ("7", "PartitionTimeLimit", "rule_train"),
        ("8", "Priority", "rule_train|with a bar"),
    ]


@pytest.mark.parametrize(
    "reason, permanent",
    [
        ("PartitionTimeLimit", True),
        ("QOSMaxWallDurationPerJobLimit", True),
        ("DependencyNeverSatisfied", True),
        ("Priority", False),
        ("Resources", False),
        ("AssocGrpGRES", False),
    ],
)
def test_only_lasting_reasons_get_advice(reason, permanent):
    assert (slurm_queue.advice(reason) is not None) == permanent
