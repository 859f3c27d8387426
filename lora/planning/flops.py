"""Floating point operations and parameters of a run, from shapes alone.

A product of [m, k] and [k, n] counts 2 m k n; whatever is not a product counts nothing, and
neither does padding. Counted is what the engine computes: forward, and backward only as far down
as something trains. Frozen weights get no gradient, nor do the inputs below the lowest trained
tensor; in the last layer queries, output and feed-forward are of first tokens alone. Counts are
means per token, so they need no data set.

The parameter formula is independent of model/methods on purpose: planning imports no torch, and
a test compares both.
"""

from dataclasses import dataclass

from lora.experiment.cell import Cell
from lora.planning.workload import Shape, Split

BOTTLENECKS = {
    "adapter_houlsby": ("attention", "ffn"),
    "adapter_pfeiffer": ("ffn",),
    "adapter_drop": ("ffn",),
}


@dataclass(frozen=True)
class Flops:
    """Per token: of a forward pass, and of the backward pass that a training step adds."""

    forward: float
    backward: float

    @property
    def training(self) -> float:
        return self.forward + self.backward


def per_token(
    shape: Shape, cell: Cell, split: Split, num_labels: int, head_trains: bool = True
) -> Flops:
    """What a token of these sentences costs a run of this cell."""
    forward = backward = 0.0
    for layer in range(shape.layers):
        up, down = _layer(shape, cell, layer, split)
        forward, backward = forward + up, backward + down
    head = 2 * (shape.width**2 + shape.width * num_labels) / split.mean
    return Flops(forward + head, backward + head * (2 if head_trains else 1))


def _layer(shape: Shape, cell: Cell, layer: int, split: Split) -> tuple[float, float]:
    """Forward and backward of one layer, per token."""
    width, last = shape.width, layer == shape.layers - 1
    rows = 1 / split.mean if last else 1.0  # that queries, output and feed-forward are computed for
    square = 2 * width**2
    ffn = 4 * width * shape.inner * rows
    product = 2 * width * (1.0 if last else split.attended)  # one of attention's two
    base = square * (2 + 2 * rows) + ffn + 2 * product
    inserted = _inserted(shape, cell, layer, rows)
    added = sum(inserted.values())
    forward = base + 2 * added
    if cell.method == "ft":
        return (
            forward,
            2 * base,
        )  # of a weight its input and itself, of a product in attention both its sides
    if cell.method == "bitfit":
        return forward, base + 2 * product
    if cell.method == "lora":
        return forward, _lora_backward(layer, square, rows, ffn, product, inserted)
    above = layer > cell.first_layer  # something below trains too
    lowest = ffn if cell.method == "adapter_houlsby" and layer == cell.first_layer else 0.0
    unread = (
        0.0 if above else min(inserted.values(), default=0.0)
    )  # the lowest adapter's input needs no gradient
    return forward, (base + 2 * product if above else lowest) + 4 * added - unread


def _lora_backward(
    layer: int, square: float, rows: float, ffn: float, product: float, pairs: dict[str, float]
) -> float:
    """Activations' gradients down to the lowest adapted input; of a pair three products, and a
    fourth where its input needs a gradient. Nothing trains below the first layer, so there only
    what was adapted passes gradients on.
    """
    reached = "qkv" if layer else [letter for letter in "qkv" if letter in pairs]
    total = ffn + 3 * sum(pairs.values())
    if reached:
        total += (
            square * rows
            + pairs.get("o", 0.0)
            + (len(reached) + any(letter in reached for letter in "qk")) * product
        )
    if layer:
        total += square * (2 + rows) + sum(pairs[letter] for letter in "qkv" if letter in pairs)
    return total


def _inserted(shape: Shape, cell: Cell, layer: int, rows: float) -> dict[str, float]:
    """One product of each pair or bottleneck that a method inserts into a layer, of two in a
    forward pass, by its place.
    """
    product = 2 * shape.width * cell.rank
    if cell.method == "lora":
        return {letter: product * (1.0 if letter in "kv" else rows) for letter in cell.weights}
    places = BOTTLENECKS.get(cell.method, ()) if layer >= cell.first_layer else ()
    return dict.fromkeys(places, product * rows)


def trainable(shape: Shape, cell: Cell) -> int:
    """Parameters that a run trains beside its head."""
    width, size = shape.width, 2 * shape.width * cell.rank
    if cell.method == "lora":
        return shape.layers * len(cell.weights) * size
    if cell.method == "ft":
        return shape.parameters
    if cell.method == "bitfit":
        return width + shape.layers * (7 * width + shape.inner)
    places = (shape.layers - cell.first_layer) * len(BOTTLENECKS[cell.method])
    return places * (size + cell.rank + width)


def head(shape: Shape, num_labels: int) -> int:
    """Parameters of a classification head: a dense layer and the output layer."""
    return (shape.width + 1) * (shape.width + num_labels)
