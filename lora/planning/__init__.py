"""Planning: what a grid will cost in time, memory and disk, before anything is trained.

flops: floating point operations and parameters of a run, from shapes alone
forecast: seconds, memory and disk of a training job, from the config alone
makespan: time that a set of jobs takes on n equal devices
outcome: seconds and memory of finished runs, compared with their forecasts
plan: jobs of a whole grid and their costs on every device, as CSVs
plan_text: text of a plan for a terminal
screen: log handler of the workflow: what a person sees while a grid is trained
slurm_queue: why jobs wait on a Slurm cluster, and which can never start
status: which runs are done, failed, running or missing, and the time that is left
workload: shapes of models, tokens of tasks and rates of devices
"""
