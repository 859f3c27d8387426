# What is on the screen: a short summary, or Snakemake's own log.
import os

from lora.planning.screen import Screen
from snakemake.logging import logger
from snakemake.settings.enums import Quietness

# A workflow that imports this one keeps its log, unless it chooses the summary.
_default = "summary" if workflow.modifier.is_main_snakefile() else "snakemake"
SCREEN = None
if (
    workflow.is_main_process
    and (os.environ.get("LORA_SCREEN") or _default) != "snakemake"
    and not workflow.output_settings.verbose
    and not workflow.output_settings.printshellcmds
    and not workflow.output_settings.dryrun
):
    for handler in list(logger.handlers):
        if handler.name == "DefaultStreamHandler":  # not there with a logger plugin
            logger.removeHandler(handler)
            SCREEN = Screen(
                quiet=Quietness.PROGRESS in (workflow.output_settings.quiet or ())
            )
            logger.addHandler(SCREEN)
            # Jobs that run at the same time would draw their bars over each other.
            os.environ.setdefault("TQDM_DISABLE", "1")


def training_jobs():
    """Return the number of training jobs that will run."""
    return sum(job.rule.name == "train" for job in workflow.dag.needrun_jobs())


def start(log):
    """Stop if the jobs can't run here; else show what they will do."""
    check_gpu()
    check_tracking()
    check_slurm()
    if SCREEN:
        SCREEN.start(GRID, training_jobs(), log, local=workflow.local_exec)


def end(success, log):
    """Show the results, or that jobs failed."""
    if SCREEN:
        SCREEN.end(success=success)


onstart:
    start(log)


onsuccess:
    end(True, log)


onerror:
    end(False, log)
