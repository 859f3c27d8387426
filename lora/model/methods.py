"""What each method adds to the base model and which parameters it trains.

- `lora`: LoRA pairs on the weight types of attention (paper Sec. 4.2).
- `ft`, `bitfit`: the base model's own parameters, or its biases only.
- `adapter_houlsby`, `adapter_pfeiffer`, `adapter_drop`: bottleneck adapters.
"""

from dataclasses import dataclass

from lora.experiment.cell import BASE_METHODS
from lora.experiment.hparams import Hparams
from lora.model.modules import architecture_of, linear_of
from lora.model.pretrained import BaseModel

# Method -> the sublayers that get a bottleneck adapter.
BOTTLENECK_SUBLAYERS = {
    "adapter_houlsby": ("attention", "ffn"),
    "adapter_pfeiffer": ("ffn",),
    "adapter_drop": ("ffn",),
}


@dataclass(frozen=True)
class AdapterSpec:
    """One run of a pack, as far as the model depends on it.

    Attributes:
        seed: Seed of the run, for initial values.
        weights: Adapted weight types, such as `qv`; for other methods the name of what trains.
        rank: Rank of LoRA, or size of a bottleneck adapter; 0 for `ft` and `bitfit`.
        num_labels: Number of classes; 1 for regression.
        hparams: Hyperparameters.
        method: Name of the method.
        first_layer: Lowest layer with a bottleneck adapter, from 0.
        bias: Biases of the base model that a run of LoRA has itself, frozen: `none`, `lora_only`
            (those of the adapted layers) or `all`.
    """

    seed: int
    weights: str
    rank: int
    num_labels: int
    hparams: Hparams
    method: str = "lora"
    first_layer: int = 0
    bias: str = "none"


def trains(method: str, name: str) -> bool:
    """Return whether a method trains the base model's parameter `name`.

    The pooler never trains: the run's head replaces it.
    """
    if name.startswith("pooler."):
        return False
    return method == "ft" or (method == "bitfit" and name.endswith(".bias"))


def own_biases(base: BaseModel, spec: AdapterSpec) -> list[str]:
    """Return the names of the base model's biases in place of which a run has its own."""
    if spec.bias == "all":
        return [name for name, _ in base.named_parameters() if trains("bitfit", name)]
    if spec.bias == "none":
        return []
    adapted = {
        linear_of(base, layer, letter)
        for layer in range(architecture_of(base).layers)
        for letter in spec.weights
    }
    return [f"{name}.bias" for name, module in base.named_modules() if module in adapted]


def bottleneck_names(spec: AdapterSpec, depth: int) -> list[str]:
    """Return the names "<layer>.<sublayer>" of a run's bottleneck adapters in `depth` layers."""
    sublayers = BOTTLENECK_SUBLAYERS.get(spec.method, ())
    return [
        f"{layer}.{sublayer}" for layer in range(spec.first_layer, depth) for sublayer in sublayers
    ]


def trainable_parameters(base: BaseModel, spec: AdapterSpec, head: bool = True) -> int:
    """Return the number of parameters that a run trains, computed from shapes alone.

    Args:
        base: The base model; it may be on the meta device.
        spec: The run.
        head: Whether to include the classification head. The paper does not count it
            (microsoft/LoRA issue #16).
    """
    architecture = architecture_of(base)
    width, depth = architecture.width, architecture.layers
    if spec.method == "lora":
        count = depth * len(spec.weights) * spec.rank * 2 * width
    elif spec.method in BASE_METHODS:
        count = sum(
            value.numel() for name, value in base.named_parameters() if trains(spec.method, name)
        )
    else:
        adapter = 2 * width * spec.rank + spec.rank + width
        count = len(bottleneck_names(spec, depth)) * adapter
    return count + (width * (width + 1) + spec.num_labels * (width + 1) if head else 0)
