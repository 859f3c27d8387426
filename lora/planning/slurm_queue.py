"""List the reasons why jobs wait on a Slurm cluster, and which jobs can never start.

Slurm rejects a job that no node can run. It accepts a job whose time limit, nodes or account the
partition will never allow, and the job waits; Snakemake then waits too, without a message.
`lora queue --cancel` ends such jobs, and Snakemake reports them as failed. Reasons are those of
https://slurm.schedmd.com/job_reason_codes.html. Limits shared by a group of jobs (AssocGrp, QOSGrp)
can pass, so they are not counted as permanent.
"""

import re
import subprocess

# Explanation of each permanent reason; the key is a pattern for the start of the reason.
PERMANENT = {
    "PartitionTimeLimit": "runtime is above the partition's MaxTime (`sinfo -o '%P %l'`)",
    "PartitionNodeLimit": "more nodes than the partition has, or they are down (`sinfo -R`)",
    "BadConstraints": "no node has all requested resources (`sinfo -o '%P %G %m %c'`)",
    "InvalidAccount": "not your account (`sacctmgr show associations user=$USER format=account`)",
    "InvalidQOS": "not a QOS of your account (`sacctmgr show associations user=$USER format=qos`)",
    "(Assoc|QOS)Max.*(Wall|PerJob)": "more than the account or QOS allows one job",
    "DependencyNeverSatisfied": "the job it depends on failed",
    "JobHeld": "the job is held (`scontrol release` releases it)",
}
OPTIONS = (
    "--set-resources train:runtime=... train:mem_mb=... , or "
    "--default-resources slurm_partition=... slurm_account=..."
)


def waiting() -> list[tuple[str, str, str]]:
    """Return (job, reason, comment) of each job of this user that waits.

    Raises:
        ValueError: If squeue is not installed or fails.
    """
    output = _run(["squeue", "--me", "--noheader", "--states=PENDING", "--format=%i|%r|%k"])
    rows = (line.split("|", 2) for line in output.splitlines())
    return [(job, reason, comment) for job, reason, comment in rows]


def advice(reason: str) -> str | None:
    """Return the explanation of a permanent reason; None if the reason can pass."""
    return next((words for pattern, words in PERMANENT.items() if re.match(pattern, reason)), None)


def report(cancel: bool) -> None:
    """Print each waiting job and its reason.

    Args:
        cancel: Cancel the jobs that can never start.

    Raises:
        ValueError: If some jobs can never start, or if Slurm's commands fail.
    """
    stuck = []
    for job, reason, comment in waiting():
        explanation = advice(reason)
        print(f"{job} {comment}: {reason}")
        if explanation:
            stuck.append(f"\n  - {job} {comment}: {reason}: {explanation}")
            if cancel:
                _run(["scancel", job])
    if stuck:
        state = (
            "cancelled, Snakemake will report them" if cancel else "`lora queue --cancel` ends them"
        )
        raise ValueError(
            f"{len(stuck)} jobs can never start ({state}). "
            f"Request other resources with {OPTIONS}{''.join(stuck)}"
        )


def _run(command: list[str]) -> str:
    """Standard output of a command."""
    try:
        done = subprocess.run(command, capture_output=True, text=True)
    except FileNotFoundError:
        raise ValueError(
            f"there is no {command[0]} here; run this on a machine with Slurm"
        ) from None
    if done.returncode:
        raise ValueError(f"{' '.join(command)} failed: {done.stderr.strip()}")
    return done.stdout
