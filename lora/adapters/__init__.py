"""Saved adapters: PEFT folders in and out, warm start, merging, and subspace analysis.

merge: merge a trained run into a plain transformers checkpoint
peft_folder: read and write PEFT LoRA folders
subspace: similarity of LoRA's matrices (paper Sec. 7.2 and 7.3)
subspace_tables: tables of the subspace analysis, from three finished runs
warm_start: load another run's adapter before training
"""
