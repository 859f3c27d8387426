"""Initial values of trained parameters.

Each value comes from its own generator, seeded by (seed of the run, name of the parameter, shape).
So it depends neither on the pack nor on the order in which parameters are created.
"""

import hashlib
import json
import math

import torch
from torch import Tensor

from lora.experiment.hparams import Hparams


def generator(seed: int, *purpose: object) -> torch.Generator:
    """Return a CPU generator for one purpose of one run.

    Args:
        seed: Seed of the run.
        purpose: Name and shape of a parameter, for example. Different purposes give unrelated
            streams.
    """
    key = json.dumps([seed, *map(str, purpose)]).encode()
    digest = hashlib.sha256(key).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "little") >> 1)


def initial_a(seed: int, name: str, shape: tuple[int, ...], hparams: Hparams) -> Tensor:
    """Return A before training, [r, I], on the CPU in float32.

    Args:
        seed: Seed of the run.
        name: Name of the LoRA pair, "<layer>.<letter>".
        shape: (r, I).
        hparams: `init_a` names the distribution. `kaiming` is loralib's kaiming_uniform(a=sqrt 5),
            which is U(-1/sqrt I, 1/sqrt I); otherwise normal(0, init_a_std).
    """
    source, a_RI = generator(seed, f"{name}.a", tuple(shape)), torch.empty(shape)
    if hparams.init_a == "kaiming":
        bound = 1 / math.sqrt(shape[1])
        return a_RI.uniform_(-bound, bound, generator=source)
    return a_RI.normal_(0, hparams.init_a_std, generator=source)
