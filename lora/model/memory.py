"""Memory estimates and token budgets of training, as plain numbers.

Training splits its batches by them (`training.batching`) and `lora plan` predicts memory with them
before anything is downloaded, so this module imports no torch. The estimates are from shapes and
leave out what libraries allocate inside one operation.
"""

# Tokens of a forward pass in training and in evaluation. More are not faster: on a CPU they no
# longer fit the cache, on a GPU every product is large enough.
# GPUs and other accelerators have the values of `gpu`.
TRAIN_TOKENS = {"cpu": 4096, "gpu": 65536}
EVAL_TOKENS = {"cpu": 512, "gpu": 8192}  # per run
# Value, gradient, two moments of AdamW, and the best epoch's copy.
FLOATS_PER_PARAMETER = 5


def table_key(device_type: str) -> str:
    """Return the key of TRAIN_TOKENS and EVAL_TOKENS: `cpu`, or `gpu` for any other device."""
    return "cpu" if device_type == "cpu" else "gpu"


def activation_bytes(
    width: int,
    inner: int,
    layers: int,
    heads: int,
    tokens: float,
    attention_rows: float,
    scores: float,
    lora_inputs: int,
    itemsize: int,
    table_rows: int = 0,
) -> int:
    """Estimate the memory that a training pass keeps for its gradient, plus working memory.

    Per layer and token of width D, in elements: 4 D for residuals and masks, the LoRA inputs, and
    the feed-forward's inner width. Per row of attention: 3 D for queries, keys and values, and 3
    weights for each head and key. At most 4 inner widths per token are in use at once on top.

    Args:
        width: Model width D.
        inner: Inner width of the feed-forward block.
        layers: Number of layers.
        heads: Number of attention heads.
        tokens: Tokens of the pass.
        attention_rows: Sum over sequences of their padded width in attention.
        scores: Sum over sequences of the square of that width.
        lora_inputs: Matrices [tokens, D] that LoRA keeps per layer, from `lora_inputs`.
        itemsize: Bytes per element.
        table_rows: Rows of the tables of relative positions of all runs in the pass. A layer keeps
            a matrix [rows, D] and another one of queries; scores need 6 more of their size at once.

    Returns:
        Memory in bytes.
    """
    layer = tokens * ((4 + lora_inputs) * width + inner)
    layer = layer + attention_rows * 3 * width + 3 * heads * scores
    working = 4 * tokens * inner
    if table_rows:
        layer = layer + (table_rows + attention_rows) * width
        working = working + 6 * heads * scores
    return int((layer * layers + working) * itemsize)


def lora_inputs(method: str, weights: str, lora_dropout: float) -> int:
    """Return how many matrices as large as a layer's input a run keeps per layer for its gradient.

    q, k and v share one input. With LoRA dropout every weight type keeps an input and a mask. Full
    fine-tuning keeps the inputs of its four products.
    """
    if method != "lora":
        return 4 if method == "ft" else 0
    return 2 * len(weights) if lora_dropout else len({letter == "o" for letter in weights})
