"""Warnings for valid but unusual hyperparameters, each with the usual range and its source.

`hparams` refuses what can't be trained. A learning rate of 5 can be trained, but is probably a
mistake, so it gives a warning when the config is loaded. The ranges are wide: no protocol of the
paper or of its reproductions gives a warning.
"""

import math

from lora.experiment.cell import Cell
from lora.experiment.hparams import Hparams

# Hyperparameter -> lowest and highest usual value, and the reason.
USUAL: dict[str, tuple[float, float, str]] = {
    "epochs": (1, 200, "the paper's longest are 80 (Table 9)"),
    "learning_rate": (
        1e-7,
        0.02,
        "AdamW changes a weight by about that much per step, and BERT's weights have a standard "
        "deviation of 0.02",
    ),
    "examples_per_step": (
        1,
        1024,
        "the training set of RTE, the smallest of GLUE, has 2490 examples",
    ),
    "max_tokens": (
        16,
        512,
        "more than half of SST-2's sentences are longer than 16, and BERT has 512 positions",
    ),
    "lora_dropout": (0, 0.5, "above, most of the input of A is dropped"),
    "init_a_std": (1e-4, 1, "loralib's A has 0.021 in a model of width 768"),
    "weight_decay": (0, 1, "the paper's scripts have 0.1"),
    "warmup_frac": (
        0,
        0.5,
        "above, the learning rate rises during most of the training; the paper has 0.06 (App. D.1)",
    ),
    "adam_epsilon": (0, 1e-3, "gradients smaller than epsilon are not normalized"),
}
SCALES = (1 / 64, 64)  # of alpha/r; 1 and 2 in Table 9
# Half the width of RoBERTa-large: from here on, A and B have as many parameters as the matrix
# that they adapt.
RANK = 512


def warnings_of(hparams: Hparams, cell: Cell | None = None) -> list[str]:
    """Return the warnings for one cell.

    Args:
        hparams: The cell's hyperparameters.
        cell: The cell; hyperparameters that its method ignores give no warning. None is LoRA of
            an unknown rank.
    """
    is_lora = cell is None or cell.method == "lora"
    unused = set() if is_lora else {"lora_dropout", "init_a_std"}
    unused |= {"init_a_std"} if hparams.init_a != "gaussian" else set()
    found = []
    for name, (least, most, why) in USUAL.items():
        value = getattr(hparams, name)
        if name not in unused and not least <= value <= most:
            found.append(f"{name} is {value}; usual is {least:g} to {most:g}: {why}")
    if hparams.adam_beta1**2 >= math.sqrt(hparams.adam_beta2):
        found.append(
            f"adam_beta1 is {hparams.adam_beta1} and adam_beta2 {hparams.adam_beta2}; usual is 0.9 "
            "and 0.999: Adam converges only if beta1^2 is below the square root of beta2 (Kingma "
            "and Ba 2015, Theorem 4.1)"
        )
    return found + (
        _rank_warnings(hparams.alpha, cell.rank) if cell is not None and is_lora else []
    )


def warnings_of_cells(hparams_of: dict[Cell, Hparams]) -> list[str]:
    """Return the warnings for the cells of a grid, each once, with the cells it is about."""
    paths_of: dict[str, list[str]] = {}
    for cell, hparams in hparams_of.items():
        for warning in warnings_of(hparams, cell):
            paths_of.setdefault(warning, []).append(cell.path)
    return [
        f"{warning} (of {paths[0]}{f' and {len(paths) - 1} more' if len(paths) > 1 else ''})"
        for warning, paths in paths_of.items()
    ]


def _rank_warnings(alpha: float, rank: int) -> list[str]:
    found = []
    if not SCALES[0] <= alpha / rank <= SCALES[1]:
        found.append(
            f"alpha/r is {alpha / rank:g}; usual is {SCALES[0]:g} to {SCALES[1]:g}: it scales the "
            "update that LoRA learns, roughly as the learning rate does (Sec. 4.1)"
        )
    if rank > RANK:
        found.append(
            f"rank is {rank}; usual is 1 to {RANK}: above, A and B have more parameters than the "
            "matrix they adapt, in models up to the width of RoBERTa-large (1024)"
        )
    return found
