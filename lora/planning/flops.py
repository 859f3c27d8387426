"""Floating point operations and parameters of a run, from shapes alone.

A product of [m, k] and [k, n] counts 2 m k n. Nothing else is counted, nor is padding. The count
is of what the engine computes: the forward pass, and the backward pass down to the lowest trained
tensor. Frozen weights get no gradient, nor do the inputs below the lowest trained tensor. In the
last layer queries, output and feed-forward are computed for first tokens only. Counts are means per
token, so they need no data set.

The parameter formula is independent of model/methods on purpose: planning imports no torch, and
a test compares both.
"""

from dataclasses import dataclass

from lora.experiment.cell import Cell
from lora.planning.workload import Shape, Split

# Blocks after which each adapter method inserts a bottleneck.
BOTTLENECKS = {
    "adapter_houlsby": ("attention", "ffn"),
    "adapter_pfeiffer": ("ffn",),
    "adapter_drop": ("ffn",),
}


@dataclass(frozen=True)
class Flops:
    """Operations per token of a forward pass, and of the backward pass of a training step."""

    forward: float
    backward: float

    @property
    def training(self) -> float:
        """Operations per token of a training step."""
        return self.forward + self.backward


def per_token(
    shape: Shape, cell: Cell, split: Split, num_labels: int, head_trains: bool = True
) -> Flops:
    """Return the mean operations per token of a run.

    Args:
        shape: Sizes of the model.
        cell: Method, weight types and rank of the run.
        split: Lengths of the sentences.
        num_labels: Outputs of the classification head.
        head_trains: Whether the head is trained.
    """
    forward = backward = 0.0
    for layer in range(shape.layers):
        layer_forward, layer_backward = _layer(shape, cell, layer, split)
        forward, backward = forward + layer_forward, backward + layer_backward
    projection = 2 * shape.embedding * shape.width  # from the embeddings' width to the model's
    forward += projection + 2 * shape.kernel * shape.width**2  # and a convolution
    backward += projection * {"ft": 2, "bitfit": 1}.get(cell.method, 0)
    head = 2 * (shape.width**2 + shape.width * num_labels) / split.mean
    return Flops(forward + head, backward + head * (2 if head_trains else 1))


def _layer(shape: Shape, cell: Cell, layer: int, split: Split) -> tuple[float, float]:
    """Operations per token of the forward and of the backward pass of one layer."""
    width, is_last = shape.width, layer == shape.layers - 1
    # Share of tokens that queries, output and feed-forward are computed for.
    rows = 1 / split.mean if is_last else 1.0
    square = 2 * width**2
    ffn = 4 * width * shape.inner * rows
    product = 2 * width * (1.0 if is_last else split.attended)  # one of the two in attention
    positions = 2 * shape.relative_terms * product  # each term has a product over 2 L distances
    base = square * (2 + 2 * rows) + ffn + 2 * product + positions
    inserted = _inserted(shape, cell, layer, rows)
    added = sum(inserted.values())
    forward = base + 2 * added
    if cell.method == "ft":
        # Gradients of both factors of each product: weight and input, or two activations.
        return forward, 2 * base
    if cell.method == "bitfit":
        return forward, base + 2 * product + positions
    if cell.method == "lora":
        backward = _lora_backward(layer, square, rows, ffn, product, inserted)
        return forward, backward + 2 * positions  # gradients of the contents and of the positions
    if layer > cell.first_layer:  # layers below train too, so the input needs a gradient
        return forward, base + 2 * product + 4 * added
    # The input of the lowest adapter needs no gradient. After attention, ffn is above it.
    lowest = ffn if cell.method == "adapter_houlsby" and layer == cell.first_layer else 0.0
    return forward, lowest + 4 * added - min(inserted.values(), default=0.0)


def _lora_backward(
    layer: int, square: float, rows: float, ffn: float, product: float, pairs: dict[str, float]
) -> float:
    """Operations per token of the backward pass of one layer with LoRA.

    Gradients of activations go down to the lowest adapted input. A LoRA pair takes three products,
    and a fourth if its input needs a gradient. Nothing trains below the first layer, so in it only
    the adapted weight types pass gradients on.
    """
    reached = "qkv" if layer else [letter for letter in "qkv" if letter in pairs]
    total = ffn + 3 * sum(pairs.values())
    if reached:
        products = len(reached) + any(letter in reached for letter in "qk")
        total += square * rows + pairs.get("o", 0.0) + products * product
    if layer:
        total += square * (2 + rows) + sum(pairs[letter] for letter in "qkv" if letter in pairs)
    return total


def _inserted(shape: Shape, cell: Cell, layer: int, rows: float) -> dict[str, float]:
    """Operations per token of one product of each inserted pair or bottleneck, by its position.

    A position is a weight type or a block of BOTTLENECKS. A forward pass has two such products.
    """
    product = 2 * shape.width * cell.rank
    if cell.method == "lora":
        return {letter: product * (1.0 if letter in "kv" else rows) for letter in cell.weights}
    blocks = BOTTLENECKS.get(cell.method, ()) if layer >= cell.first_layer else ()
    return dict.fromkeys(blocks, product * rows)


def trainable(shape: Shape, cell: Cell) -> int:
    """Return the number of trained parameters without the head."""
    width, size = shape.width, 2 * shape.width * cell.rank
    if cell.method == "lora":
        return shape.layers * len(cell.weights) * size
    if cell.method == "ft":
        return shape.parameters
    if cell.method == "bitfit":
        projection = width if shape.embedding else 0
        embeddings = (shape.embedding or width) + projection  # biases of LayerNorm and projection
        return embeddings + shape.layers * (7 * width + shape.inner) + shape.other_biases
    bottlenecks = (shape.layers - cell.first_layer) * len(BOTTLENECKS[cell.method])
    return bottlenecks * (size + cell.rank + width)


def head(shape: Shape, num_labels: int) -> int:
    """Return the number of parameters of a classification head: a dense and an output layer."""
    return (shape.width + 1) * (shape.width + num_labels)
