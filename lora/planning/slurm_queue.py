"""List the reasons why jobs wait on a Slurm cluster, and which jobs can never start.

Slurm rejects a job that no node can run. It accepts a job whose time limit, nodes or account the
partition will never allow, and the job waits; Snakemake then waits too, without a message.
`lora queue --cancel` ends such jobs, and Snakemake reports them as failed. Reasons are those of
https://slurm.schedmd.com/job_reason_codes.html. Limits shared by a group of jobs (AssocGrp, QOSGrp)
can pass, so they are not counted as permanent.
"""

import re
import subprocess

# What a reason begins with, in words. Waiting makes none of these pass.
LASTING = {
    "PartitionTimeLimit": "runtime is above the partition's MaxTime (`sinfo -o '%P %l'`)",
    "PartitionNodeLimit": "more nodes than the partition has, or they are down (`sinfo -R`)",
    "BadConstraints": "no node has all that is asked for (`sinfo -o '%P %G %m %c'`)",
    "InvalidAccount": "not your account (`sacctmgr show associations user=$USER format=account`)",
    "InvalidQOS": "not a QOS of your account (`sacctmgr show associations user=$USER format=qos`)",
    "(Assoc|QOS)Max.*(Wall|PerJob)": "more than the account or QOS allows one job",
    "DependencyNeverSatisfied": "the job it depends on failed",
    "JobHeld": "it is held (`scontrol release` lets it go)",
}
ASK = (
    "--set-resources train:runtime=... train:mem_mb=... , or "
    "--default-resources slurm_partition=... slurm_account=..."
)


def waiting() -> list[tuple[str, str, str]]:
    """(job, reason, comment) of this user's jobs that wait; raises ValueError where squeue
    cannot be asked.
    """
    said = _tell(["squeue", "--me", "--noheader", "--states=PENDING", "--format=%i|%r|%k"])
    rows = (line.split("|", 2) for line in said.splitlines())
    return [(job, reason, comment) for job, reason, comment in rows]


def advice(reason: str) -> str | None:
    """A reason that does not pass by itself, in words; None for one that may."""
    return next((words for pattern, words in LASTING.items() if re.match(pattern, reason)), None)


def report(cancel: bool) -> None:
    """Print every waiting job and why it waits; raises ValueError if some can never start, which
    `cancel` ends.
    """
    stuck = []
    for job, reason, comment in waiting():
        words = advice(reason)
        print(f"{job} {comment}: {reason}")
        if words:
            stuck.append(f"\n  - {job} {comment}: {reason}: {words}")
            if cancel:
                _tell(["scancel", job])
    if stuck:
        done = (
            "cancelled, Snakemake will report them" if cancel else "`lora queue --cancel` ends them"
        )
        raise ValueError(
            f"{len(stuck)} jobs can never start ({done}). Ask for something else "
            f"with {ASK}{''.join(stuck)}"
        )


def _tell(command: list[str]) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True)
    except FileNotFoundError:
        raise ValueError(f"there is no {command[0]} here; run this where Slurm is") from None
    if done.returncode:
        raise ValueError(f"{' '.join(command)} failed: {done.stderr.strip()}")
    return done.stdout
