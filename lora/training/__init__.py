"""Training.

batching: How a step of a pack is cut into passes: as many tokens at once as memory allows, and no more than is fast.
checkpoint: State of one run, kept where a job can find it again: whole, checked, and never somebody else's.
checkpoint_schedule: When the runs under way are saved, and how long they have been under way.
device: What the machine offers a training: its device, the precision it gains by, and the memory it has.
evaluation: The end of an epoch: every run's figures on its whole evaluation set, one more row, and the best epoch's tensors.
gpu_lock: Which GPU a training takes: one that no other training holds, chosen before torch is loaded.
loop: A pack in, rows out: the loop that trains the runs of a pack in lock-step over one frozen base.
metrics: The figures of one evaluation, computed from logits and labels; no torch, no network, no files kept.
optim: The optimiser steps of all runs of a pack: AdamW with decoupled weight decay, each run at its own rate, clipped by itself.
progress: Where a long job is: one line that rewrites itself on a terminal, and the same in the log now and then.
run_state: One run: what identifies it, what it carries through training, how it is kept and how it is written out.
signals: Being told to stop: SIGTERM (a queue's time limit, a node that goes down), SIGUSR1 (a queue's warning), Ctrl-C.
"""
