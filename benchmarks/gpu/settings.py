"""Sizes and folders of the kit. The tiny sizes test its logic on a CPU."""

from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
BENCHMARKS, ROOT = HERE.parent, HERE.parents[1]


@dataclass(frozen=True)
class Settings:
    """What the steps need.

    Attributes:
        folder: Folder of the steps' JSON files and of the models and tokens that they write.
        device: Kind of device, such as `cuda`.
        tiny: Use small models and few steps.
        model_dir: Folder of the demo's model, for the learning check.
        tokens_dir: Folder of its prepared task.
    """

    folder: Path
    device: str
    tiny: bool
    model_dir: Path
    tokens_dir: Path

    @property
    def packs(self) -> tuple[int, ...]:
        """Numbers of runs in a pack whose speed is measured."""
        return (1, 2) if self.tiny else (1, 5, 15)

    @property
    def seeds(self) -> int:
        """Number of seeds of the learning check."""
        return 2 if self.tiny else 5

    def steps_of(self, model: str) -> int:
        """Return the number of optimizer steps that are measured; the first is not timed."""
        return 3 if self.tiny else 12 if model == "roberta-large" else 25
