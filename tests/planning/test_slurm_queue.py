"""Reasons why a Slurm job waits, and which of them are permanent."""

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
        ("InvalidQOS", True),
        ("BadConstraints", True),
        ("JobHeldAdmin", True),
        ("Priority", False),
        ("Resources", False),
        ("BeginTime", False),
        ("AssocGrpGRES", False),
        ("AssocGrpCpuLimit", False),
        ("AssocMaxJobsLimit", False),
        ("QOSGrpGRES", False),
        ("QOSMaxGRESPerUser", False),
    ],
)
def test_only_permanent_reasons_have_advice(reason, permanent):
    assert (slurm_queue.advice(reason) is not None) == permanent


def test_jobs_that_can_never_start_are_reported_and_cancelled(monkeypatch, capsys):
    commands = []

    def run(command, **_):
        commands.append(command)
        output = "7|BadConstraints|rule_train\n8|Priority|rule_train\n"
        return subprocess.CompletedProcess(command, 0, stdout=output, stderr="")

    monkeypatch.setattr(subprocess, "run", run)
    with pytest.raises(ValueError, match="no node has all requested resources") as caught:
        slurm_queue.report(cancel=True)
    message = str(caught.value)
    assert "1 jobs can never start (cancelled" in message
    assert "Request other resources with --set-resources train:runtime=" in message
    assert commands[1:] == [["scancel", "7"]]
    assert "8 rule_train: Priority" in capsys.readouterr().out
