"""What one run trains, and how a job trains its runs.

`RunSpec` and `JobOptions` are frozen. The command line builds both, and everything below takes them
as they are. What training changes is in `training.run_state.RunState`.
"""

import math
from dataclasses import dataclass
from pathlib import Path

from lora.experiment.cell import Cell
from lora.experiment.hparams import Hparams, run_settings
from lora.experiment.task import Task


@dataclass(frozen=True)
class RunSpec:
    """One run: what decides its numbers, and where its inputs and outputs are.

    Attributes:
        cell: Model, task, method, weights, rank and protocol.
        seed: At least 0, below 2^32.
        hparams: The resolved hyperparameters.
        task: The data set, its columns, labels and metric.
        tokens_dir: Folder of the prepared tokens.
        output_dir: Folder for metrics.csv, run.json and adapter/.
        start_dirs: Folders of the runs whose best one this run starts from. Empty if it starts
            from the pre-trained model or from a PEFT folder.

    Raises:
        ValueError: If the seed is out of range.
    """

    cell: Cell
    seed: int
    hparams: Hparams
    task: Task
    tokens_dir: Path
    output_dir: Path
    start_dirs: tuple[Path, ...] = ()

    def __post_init__(self) -> None:
        run_settings(self.cell, self.seed, self.hparams)

    @property
    def settings(self) -> dict[str, object]:
        """The run's settings as run.json holds them: plain JSON values."""
        return run_settings(self.cell, self.seed, self.hparams)

    @property
    def name(self) -> str:
        """Short name for log lines, for example `mrpc qv r8 seed 0`."""
        cell = self.cell
        what = f"{cell.weights} r{cell.rank}" if cell.method == "lora" else cell.method
        return f"{cell.task} {what} seed {self.seed}"


@dataclass(frozen=True)
class JobOptions:
    """How a job trains its runs. Nothing here but the precision is part of a run's digest.

    Attributes:
        model_dir: Folder of the base model, as transformers writes it.
        state_dir: Folder for the checkpoints of all runs.
        device: `auto`, `cpu`, `cuda`, `mps` or `xpu`.
        micro_batch: Examples of a run per forward pass; 0 is the whole optimizer step.
        precision: `auto`, `bf16` or `fp32`: of the frozen base. `auto` picks what is faster, and
            also accepts finished runs of the other precision.
        checkpoint_every_s: Seconds between checkpoints within an epoch.
        limit_s: Time limit of the job in seconds: it saves and stops before.
        overwrite: Whether the outputs of another run in a run's folder are replaced. A job of the
            workflow does: Snakemake decides which outputs are made again.
        tracking: Trackers that get a copy of the rows: `tensorboard`, `mlflow`.
        tracking_dir: Folder of their files; None if there are none.
        progress_file: File for the progress of the job while it runs; None for no file.
    """

    model_dir: Path
    state_dir: Path
    device: str = "auto"
    micro_batch: int = 0
    precision: str = "auto"
    checkpoint_every_s: float = math.inf
    limit_s: float = math.inf
    overwrite: bool = True
    tracking: tuple[str, ...] = ()
    tracking_dir: Path | None = None
    progress_file: Path | None = None
