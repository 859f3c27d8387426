"""Model.

attention: Attention over sentences that are not padded: those of like length go together, whatever run they are of.
compiled: Elementwise work as one kernel each, on a GPU: marked functions are compiled by torch.compile, once for all shapes.
config: config.json of a model folder: what the encoder here relies on, checked before anything is built of it.
dropout: Dropout whose masks are a hash of (seed, step, example, position, site, feature), and what is computed together with it.
encoder: One pass of real tokens through a frozen BERT or RoBERTa encoder, for all runs of a pack.
layers: The maths: LoRA deltas, bottleneck adapters and heads for S runs at once over one frozen weight.
memory: What a training keeps in memory, in numbers: how many tokens a pass takes, and what a token and a run need of it.
packed_model: Put runs into a frozen model: place LoRA pairs by weight letter, add heads, list what trains.
pretrained: The frozen encoder in a model folder, or a refusal that says what in the folder is wrong.
tensor_files: Write tensors as a safetensors file, atomically.
"""
