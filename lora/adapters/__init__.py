"""Adapters.

merge: A trained run as a plain transformers checkpoint: nothing of lora or peft is needed to use it.
peft_folder: A run's tensors as a PEFT adapter folder, and such a folder read back, whether it was written here or by peft.
subspace: What LoRA's matrices have in common, from saved adapters alone: the similarity of Sec. 7.2 and the table of Sec. 7.3.
warm_start: What a run starts from when it does not start from the pre-trained model alone: another run's adapter, or a PEFT folder.
"""
