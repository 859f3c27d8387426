# Resources of the jobs: threads and GPUs on one machine, memory and time on a cluster, and priority.
from lora.planning import forecast
from snakemake.exceptions import WorkflowError
from snakemake.resources import Resource

# One training job at a time on a GPU unless the user sets `--resources gpu=N`. Without a limit,
# Snakemake would start all of them. The limit is on a resource of these rules alone: one on gpu
# would also change the jobs of a workflow that imports this one.
GPUS = (
    workflow.global_resources["gpu"].value if "gpu" in workflow.global_resources else 1
)
workflow.global_resources["training_gpu"] = Resource("training_gpu", GPUS)

try:
    FORECASTER = forecast.Forecaster(GRID)
    PLANNED_DEVICE = forecast.planning_device(GRID)
except ValueError as problems:
    raise WorkflowError(str(problems)) from None


# A job that stops at max_runtime continues in its next attempt. Attempts are counted in the main
# process; inside a cluster job nothing is tried again.
TRAIN_RETRIES = None  # those of the profile
if config["max_runtime"] and workflow.is_main_process:
    TRAIN_RETRIES = forecast.retries(
        (
            FORECASTER.job(cells, len(seeds), PLANNED_DEVICE)
            for cells, seeds in PACKING.jobs()
        ),
        config["max_runtime"],
    )


def work_of(wildcards):
    """Return a training job's priority: its forecast seconds, so that the longest jobs start first."""
    return round(forecast_of(wildcards).seconds)


def forecast_of(wildcards):
    """Return the forecast of a training job on the planned device."""
    cells = tuple(cells_of(wildcards))
    return FORECASTER.job(cells, len(seeds_of(wildcards)), PLANNED_DEVICE)


def mem_mb_of(wildcards, attempt):
    """Return the memory that a training job requests from a cluster, in MB. No limit locally."""
    return forecast.mem_mb(forecast_of(wildcards), attempt)


def runtime_of(wildcards, attempt):
    """Return the time that a training job requests from a cluster, in minutes. No limit locally."""
    limit = config["max_runtime"]
    return forecast.runtime_min(forecast_of(wildcards), attempt, limit)


def prepare_mem_mb(wildcards, attempt):
    """Return the memory for tokenizing, in MB: the largest GLUE task as text, and its tokens."""
    return 4000 * 2 ** (attempt - 1)


def prepare_runtime(wildcards, attempt):
    """Return the time for tokenizing, in minutes."""
    return 30 * 2 ** (attempt - 1)


def threads_of(wildcards):
    """Return a training job's CPU threads: the config's, or its share of the cores if that is less."""
    cores = workflow.resource_settings.cores
    gpus = 0 if config["device"] == "cpu" else GPUS
    share = cores // gpus if cores and gpus else config["threads"]
    return max(1, min(config["threads"], share))
