# What jobs ask for, of one machine (threads, a GPU) or of a cluster (memory and time), and which goes first.
from lora.planning import forecast
from snakemake.exceptions import WorkflowError
from snakemake.resources import Resource

# One training job per GPU at a time unless the user says otherwise: Snakemake alone would start them all.
if "gpu" not in workflow.global_resources:
    workflow.global_resources["gpu"] = Resource("gpu", 1)

try:
    FORECASTER = forecast.Forecaster(GRID)
    PLANNED_DEVICE = forecast.planning_device(GRID)
except ValueError as problems:
    raise WorkflowError(str(problems)) from None


def work_of(wildcards):
    """A training job's priority: its forecast seconds, so that the longest jobs do not start last."""
    return round(forecast_of(wildcards).seconds)


def forecast_of(wildcards):
    """What a training job is forecast to take, on the device that requests are made for."""
    cells = tuple(cells_of(wildcards))
    return FORECASTER.job(cells, len(seeds_of(wildcards)), PLANNED_DEVICE)


def mem_mb_of(wildcards, attempt):
    """The memory a training job asks a cluster for, MB; it limits nothing locally."""
    return forecast.mem_mb(forecast_of(wildcards), attempt)


def runtime_of(wildcards, attempt):
    """The time a training job asks a cluster for, minutes; it limits nothing locally."""
    return forecast.runtime_min(forecast_of(wildcards), attempt)


def prepare_mem_mb(wildcards, attempt):
    """The memory that tokenising asks a cluster for, MB: the largest task of GLUE as Python text, and its tokens."""
    return 4000 * 2 ** (attempt - 1)


def prepare_runtime(wildcards, attempt):
    """The time that tokenising asks a cluster for, minutes."""
    return 30 * 2 ** (attempt - 1)


def threads_of(wildcards):
    """CPU threads of a training job: as asked, or its share of the cores where that is less, so that each GPU has a job."""
    cores = workflow.resource_settings.cores
    gpus = 0 if config["device"] == "cpu" else workflow.global_resources["gpu"].value
    share = cores // gpus if cores and gpus else config["threads"]
    return max(1, min(config["threads"], share))
