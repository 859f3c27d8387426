"""Settings that are allowed and hardly meant: a sentence for each, with what is usual and why.

`spec` refuses what cannot be trained. A learning rate of 5 can be, and nobody means it. Such a value is told when a config
is loaded, before a night of training is spent on it, and it is trained all the same: a limit that refused would one day
stand in the way of an honest experiment. The limits are wide, each with where it comes from, so that no protocol of the
paper or of those who repeat it is told off. It judges single cells; it knows neither a model's width nor a data set's size.
"""

import math

from lora.experiment.cell import Cell
from lora.experiment.hparams import Hparams

USUAL = {  # hyperparameter -> least, most, and why less or more is odd
    "epochs": (1, 200, "the paper's longest are 80 (Table 9)"),
    "learning_rate": (
        1e-7,
        0.02,
        "AdamW moves a weight by about that in a step, and BERT's weights spread by 0.02",
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
    "lora_dropout": (0, 0.5, "more drops most of what A sees"),
    "init_a_std": (1e-4, 1, "loralib's A has 0.021 in a model of width 768"),
    "weight_decay": (0, 1, "the paper's scripts have 0.1"),
    "warmup_frac": (
        0,
        0.5,
        "the rate rises for most of the training beyond that; the paper's is 0.06 (App. D.1)",
    ),
    "adam_epsilon": (0, 1e-3, "a gradient smaller than epsilon is no longer scaled to one size"),
}
SCALES = (1 / 64, 64)  # of alpha/r; 1 and 2 in Table 9
RANK = 512  # half the width of RoBERTa-large: from there on A and B together have as many numbers as the matrix adapted


def warnings_of(hparams: Hparams, cell: Cell | None = None) -> list[str]:
    """Sentences about settings that are hardly meant, none for most.

    Of a method other than LoRA, what LoRA alone has is left out. Without `cell` it is LoRA, of a rank that is not known.
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
            f"adam_beta1 is {hparams.adam_beta1} and adam_beta2 {hparams.adam_beta2}; usual is 0.9 and 0.999: for Adam to "
            "converge, beta1^2 must be below the square root of beta2 (Kingma and Ba 2015, Theorem 4.1)"
        )
    return found + (_about_rank(hparams.alpha, cell.rank) if cell is not None and is_lora else [])


def warnings_of_cells(hparams_of: dict[Cell, Hparams]) -> list[str]:
    """The sentences about the cells of a grid, each once, with the cells that it is about."""
    about: dict[str, list[str]] = {}
    for cell, hparams in hparams_of.items():
        for sentence in warnings_of(hparams, cell):
            about.setdefault(sentence, []).append(cell.path)
    return [
        f"{sentence} (of {paths[0]}{f' and {len(paths) - 1} more' if len(paths) > 1 else ''})"
        for sentence, paths in about.items()
    ]


def _about_rank(alpha: float, rank: int) -> list[str]:
    found = []
    if not SCALES[0] <= alpha / rank <= SCALES[1]:
        found.append(
            f"alpha/r is {alpha / rank:g}; usual is {SCALES[0]:g} to {SCALES[1]:g}: it multiplies all that LoRA learns, as "
            "the learning rate does, roughly (Sec. 4.1)"
        )
    if rank > RANK:
        found.append(
            f"rank is {rank}; usual is 1 to {RANK}: beyond that a pair has more numbers than the matrix it adapts, in any "
            "model up to the width of RoBERTa-large, 1024"
        )
    return found
