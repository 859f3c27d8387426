"""Training: run the packs of a job to their end, and write the outputs of each run.

batching: Split an optimizer step into micro-batches that fit the token budget.
checkpoint: Checkpoint of one run, written atomically and keyed by the run's digest.
checkpoint_schedule: When checkpoints are saved, and how long each run has trained.
device: The device, the precision it trains in, and its memory.
device_trial: Trial of a GPU before training: one step of a tiny model, compared with the CPU.
evaluation: Evaluation at the end of an epoch, and its row of metrics.csv.
fit: Check that the runs of a pack fit their model and their tokens, before any training.
gpu_lock: Lock a free GPU for this process before torch is imported.
loop: The training loop: the runs of a pack in lock-step over one frozen base model.
metrics: Metrics of one evaluation, computed from logits and labels.
optim: AdamW for all runs of a pack, each with its own learning rate and clipping.
pack_step: One optimizer step of all runs of a pack, in as many forward passes as memory needs.
predictions: Labels and probabilities of texts, by a finished run.
progress: Progress line on a terminal and in the log.
run_outputs: Outputs of a finished run: adapter/, run.json and metrics.csv.
run_state: State of one run during training, its digest, and its checkpoint.
signals: Handle SIGTERM, SIGUSR1 and SIGINT: save checkpoints after the current step, then exit.
tracking: Copy the rows of metrics.csv to TensorBoard or MLflow.
trained_run: Load a finished run, and predict with it.
"""
