"""Base models and what LoRA and other methods add to them, in plain torch; reads weights only.

architecture: sizes and rates of an encoder, by the same names for every family
attention: attention over unpadded sequences, grouped by length
autograd: context type of autograd functions, and row indexing with a cheap gradient
collate: sequences of several runs as one batch without padding
compiled: torch.compile for elementwise functions on a GPU
config: check of a model folder's config.json
dropout: dropout with hashed masks, alone and together with softmax or LayerNorm
encoder: forward pass of a frozen encoder for all runs of a pack
frozen: products with frozen weights, whose rows have the same bits next to any other rows
initial_values: initial values of trained parameters
layers: bottleneck adapters, heads and the loss
lora_layer: LoRA layers for several runs
memory: memory estimates and token budgets
methods: what each method adds and trains, and how many parameters
model_files: check that a model folder has the weights of exactly one model
modules: modules of a transformers encoder, by the same names for every family
packed_model: several runs over one frozen base model
pretrained: load the frozen base model
relative_positions: attention scores from relative positions
run_biases: frozen biases that runs have in place of the base model's
tensor_files: write safetensors files atomically
"""
