"""What a training keeps in memory, in numbers: how many tokens a pass takes, and what a token and a run need of it.

The engine cuts its passes by these figures once it knows the sentences (`passes`); a plan of a whole grid needs the same
figures before anything is fetched (`forecast`). So they stand here, below both, and import nothing that is slow to load.
They are estimates from shapes: what a library works with inside a product is not in them.
"""

# More tokens at once are not faster: on a CPU they leave the cache, on a GPU every product is large enough.
TOKENS = {"cpu": 4096, "cuda": 65536}
EVALUATED = {"cpu": 512, "cuda": 8192}  # tokens of a run's part of an evaluation
FLOATS_PER_PARAMETER = 5  # value, gradient, two moments of AdamW, and the best epoch's copy


def activation_bytes(width: int, inner: int, layers: int, heads: int, tokens: float, places: float, scores: float,
                     lora_inputs: int, itemsize: int) -> int:  # fmt: skip
    """Estimate of what a training pass keeps for its gradient, and works with.

    `places` are those that attention fills sentences up to, `scores` the sum of their squares a sentence, `lora_inputs` how
    many matrices [T, D] LoRA keeps in a layer. Per layer and token of width D, in elements: 4 D of residuals and masks,
    those of LoRA, and F, the feed-forward's inner width; per place of attention 3 D of queries, keys and values and 3
    weights for each head and key. On top, the widest moment of a backward pass: 4 F a token.
    """
    layer = tokens * ((4 + lora_inputs) * width + inner) + places * 3 * width + 3 * heads * scores
    return int((layer * layers + 4 * tokens * inner) * itemsize)


def lora_inputs(method: str, weights: str, lora_dropout: float) -> int:
    """Matrices as large as a layer's input that a run's LoRA keeps in each layer for its gradient: q, k and v share theirs;
    with a dropout of LoRA's own every letter keeps an input and a mask."""
    if method != "lora":
        return 4 if method == "ft" else 0  # the inputs of every product
    return 2 * len(weights) if lora_dropout else len({letter == "o" for letter in weights})
