"""Saved adapters: PEFT folders in and out, warm start, merging, and subspace analysis.

base_reference: base model of an adapter, as other programs can load it
card: README.md of an adapter folder: what the adapter is, and the code that loads it
label_names: names of an adapter's classes, and what a warm start does with its output layer
merge: merge a trained run into a plain transformers checkpoint
peft_checks: checks of a PEFT folder: only adapters that runs can use whole are accepted
peft_folder: read and write PEFT LoRA folders
peft_names: names of tensors: those of a run, and the keys of a PEFT folder
subspace: similarity of LoRA's matrices (paper Sec. 7.2 and 7.3)
subspace_tables: tables of the subspace analysis, from three finished runs
warm_start: load another run's adapter before training
"""
