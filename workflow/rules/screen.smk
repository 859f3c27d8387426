# What is on the screen: a short summary, or Snakemake's own log.
import os

from lora.planning.screen import Screen
from snakemake.logging import logger
from snakemake.settings.enums import Quietness

SCREEN = None  # a workflow that imports this one keeps its log
if (
    workflow.is_main_process
    and workflow.modifier.is_main_snakefile()
    and os.environ.get("LORA_SCREEN") != "snakemake"
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


onstart:
    check_gpu()
    check_tracking()
    check_slurm()
    if SCREEN:
        SCREEN.start(GRID, training_jobs(), log, local=workflow.local_exec)


onsuccess:
    if SCREEN:
        SCREEN.end(success=True)


onerror:
    if SCREEN:
        SCREEN.end(success=False)
