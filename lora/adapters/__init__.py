"""Saved adapters: PEFT folders in and out, warm start, merging, and subspace analysis.

adapter_folder: find the adapter in a given folder, or say what the folder is
base_identity: whether an adapter was trained on the base model that it gets
base_reference: base model of an adapter, as other programs can load it
belonging: check that an adapter belongs to a run or a base model
card: README.md of an adapter folder: what the adapter is, and the code that loads it
label_names: names of an adapter's classes, and what a warm start does with its output layer
merge: merge a trained run into a plain transformers checkpoint
peft_biases: biases of the base model in a PEFT folder, and checks against its config
peft_checks: description of a PEFT folder, and the checks that it fits together
peft_config: checks of adapter_config.json
peft_folder: read and write PEFT LoRA folders
peft_header: read adapter_config.json and the header of adapter_model.safetensors, without torch
peft_names: names of tensors: those of a run, and the keys of a PEFT folder
peft_rules: peft's rules: which modules a config adapts, with which rank and scale
peft_tensors: checks of the tensors in a PEFT folder against its config
start_values: copy an adapter into a run's parameters, with the run's rank and scale
subspace: similarity of LoRA's matrices (paper Sec. 7.2 and 7.3)
subspace_tables: tables of the subspace analysis, from three finished runs
warm_start: load another run's adapter before training
"""
