"""Planning.

flops: Floating point operations and parameters of a run, from shapes alone.
forecast: What a training job will take, from the config alone: seconds, memory, disk. Nothing is fetched, nothing trained.
makespan: How long a set of jobs takes on n equal devices: list scheduling, as Snakemake does it.
outcome: What became of a forecast: seconds and memory of the runs that are there, beside what was predicted of them.
plan: A grid's costs before anything is launched: runs, device-hours, memory, disk, and how long n devices take.
slurm_queue: Why jobs wait on a Slurm cluster, and which of them could wait for ever.
workload: How large a training is before anything is fetched: shapes of models, tokens of tasks, rates of devices.
"""
