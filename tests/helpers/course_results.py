"""Result folders in the form that the course's code writes."""

from pathlib import Path

from lora.tables import import_course

HEADER = "Training Loss,Epoch,Step,Validation Loss,Accuracy,F1,Precision,Recall"


def write_results(folder: Path, values, steps=230, header=HEADER):
    """Write training_results.csv as the course's code does: a row per epoch, no training loss."""
    folder.mkdir(parents=True)
    rows = [
        f",{epoch}.0,{epoch * steps},{0.5 - 0.1 * value},"
        f"{value},{value - 0.01},{value - 0.02},{value}"
        for epoch, value in enumerate(values, start=1)
    ]
    (folder / import_course.FILE).write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    return folder / import_course.FILE


def accuracies(index: int) -> list[float]:
    """Return the accuracies of three epochs; the second is the best."""
    return [0.80 + index / 128, 0.86 + index / 128, 0.85 + index / 256]


def read(folder: Path, output: Path, **changes) -> list[Path]:
    """Import result folders with seed 42 and alpha 1r where their names have none."""
    return import_course.read_results(
        folder, output, **(dict(default_seed=42, default_alpha="1r") | changes)
    )
