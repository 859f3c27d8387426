"""Copy the rows of metrics.csv to TensorBoard or MLflow.

metrics.csv is the record: trackers are written from its rows, and never read. So a tracker changes
no result. An error of a tracker is a warning, and the training continues without it. A run is
written from its first row whenever its training starts or resumes, in place of what was there, so
no epoch is there twice. The libraries are optional and imported when they are used.
"""

import importlib.util
import logging
import math
import os
import socket
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from lora import files, paths, run_record
from lora.columns import CELL_COLUMNS, METRICS_COLUMNS
from lora.errors import shown
from lora.experiment.cell import Cell
from lora.experiment.verify import flat_settings

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

log = logging.getLogger(__name__)
Row = Mapping[str, float | str]  # of metrics.csv
NO_METRICS = ("epoch", "step", "status")
LIBRARIES = {  # tracker -> the modules that it imports
    "tensorboard": ("tensorboard",),
    "mlflow": ("mlflow", "sqlalchemy", "alembic"),
}
EXPERIMENT = "lora"  # in MLflow, unless MLFLOW_EXPERIMENT_NAME is set
MLFLOW_SETTINGS = {  # unless the user set them
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",  # a server that is down must not stop a training
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
}


class TrackedRun(Protocol):
    """One run in one tracker."""

    def add(self, row: Row) -> None:
        """Write the metrics of an epoch."""

    def close(self, failed: bool) -> None:
        """End the run; `failed` if its loss was NaN or infinite."""


def missing_libraries(names: Iterable[str]) -> list[str]:
    """Return which of these trackers cannot be used, and what to install, one line each."""
    return [
        f"tracking with {name} needs {', '.join(missing)}, not installed; run "
        f"`pip install -e '.[{name}]'` in the checkout, or use no tracker"
        for name in names
        if (missing := [one for one in LIBRARIES[name] if importlib.util.find_spec(one) is None])
    ]


def parse_names(text: str) -> tuple[str, ...]:
    """Return the trackers of a text such as `tensorboard,mlflow`; none for `none`.

    Raises:
        ValueError: If there is no such tracker.
    """
    names = tuple(dict.fromkeys(text.split(","))) if text != "none" else ()
    if unknown := [name for name in names if name not in LIBRARIES]:
        raise ValueError(
            f"--tracking is {shown(unknown[0])}; allowed: none, or {', '.join(LIBRARIES)}, several "
            "with a comma between them"
        )
    return names


def run_name(settings: Mapping[str, Any]) -> str:
    """Return the name of a run in a tracker: the path of its cell and its seed.

    Args:
        settings: The settings of a run.json.
    """
    cell = Cell(**{axis: settings[axis] for axis in CELL_COLUMNS})
    return f"{cell.path}/seed{settings['seed']}"


class Tracking:
    """The trackers of a job.

    Args:
        names: Trackers: keys of LIBRARIES.
        folder: The folder of all trackers, see `paths.tracking_dir`.

    Attributes:
        failed: The trackers that failed, which are not used any more.
    """

    def __init__(self, names: Sequence[str], folder: Path | None) -> None:
        self._open: dict[str, dict[str, TrackedRun]] = {name: {} for name in names}
        self._folder = Path() if folder is None else folder
        self.failed: list[str] = []

    def begin(self, settings: Mapping[str, Any], rows: Iterable[Row]) -> None:
        """Start a run in every tracker, in place of an earlier one of this name.

        Args:
            settings: The settings of its run.json.
            rows: The rows of its finished epochs.
        """
        run, rows = run_name(settings), list(rows)

        def start(name: str) -> None:
            tracked = TRACKERS[name](self._folder / name, run, flat_settings(settings))
            self._open[name][run] = tracked
            for row in rows:
                tracked.add(row)

        self._in_each(start)

    def add(self, settings: Mapping[str, Any], row: Row) -> None:
        """Add the row of an epoch to a run that was started."""
        run = run_name(settings)
        self._in_each(lambda name: self._open[name][run].add(row))

    def end(self, settings: Mapping[str, Any], status: str) -> None:
        """End a run that was started; `status` is that of its last epoch."""
        run = run_name(settings)
        self._in_each(lambda name: self._open[name].pop(run).close(failed=status != "ok"))

    def copy(self, folder: Path) -> None:
        """Write a finished run from its metrics.csv and run.json.

        Args:
            folder: Folder of the run.
        """
        if not self._open:
            return
        advice = "delete the run, so that it trains again"
        record = run_record.read(folder / paths.RUN_JSON, advice, run_record.IDENTITY)
        rows = files.read_csv(folder / paths.METRICS, METRICS_COLUMNS)
        settings = record.settings.model_dump()
        self.begin(settings, rows)
        self.end(settings, record.status)

    def _in_each(self, act: Callable[[str], None]) -> None:
        """Call `act` with the name of each tracker; one that fails is not used again."""
        for name in list(self._open):
            try:
                act(name)
            except Exception as error:  # a full disk, a server that is down, a library's bug
                del self._open[name]
                self.failed.append(name)
                log.warning(
                    "Tracking with %s failed and stops; metrics.csv is complete, and `lora track` "
                    "writes the tracker again from it: %s: %s",
                    name,
                    type(error).__name__,
                    error,
                )


def copy_runs(names: Sequence[str], runs_dir: Path, folder: Path) -> int:
    """Write every finished run below a folder to trackers, and return their number.

    Args:
        names: Trackers: keys of LIBRARIES.
        runs_dir: A folder of runs.
        folder: The folder of all trackers.

    Raises:
        ValueError: If there is no run below `runs_dir`, a run cannot be read, or a tracker failed.
    """
    found = [path.parent for path in sorted(runs_dir.rglob(paths.METRICS))]
    if not found:
        raise ValueError(f"there is no run with a {paths.METRICS} below {runs_dir}")
    tracking = Tracking(names, folder)
    for run in found:
        tracking.copy(run)
    if tracking.failed:
        raise ValueError(f"tracking with {', '.join(tracking.failed)} failed, see above")
    return len(found)


def _metrics(row: Row) -> dict[str, float]:
    """Return the metrics of an epoch; empty cells of metrics.csv are left out."""
    values = {name: float(value) for name, value in row.items() if name not in NO_METRICS}
    return {name: value for name, value in values.items() if not math.isnan(value)}


class TensorBoardRun:
    """One run as an event file: a scalar per metric and epoch, and the hyperparameters.

    Args:
        folder: Folder of all runs in TensorBoard.
        name: Name of the run: its folder below `folder`.
        settings: Its settings by name.
    """

    def __init__(self, folder: Path, name: str, settings: Mapping[str, Any]) -> None:
        from tensorboard.compat.proto import event_pb2
        from tensorboard.summary.writer.record_writer import RecordWriter
        from torch.utils.tensorboard.summary import hparams

        self._event, self._record_writer = event_pb2.Event, RecordWriter
        run = folder / name
        run.mkdir(parents=True, exist_ok=True)
        earlier = list(run.glob("events.out.tfevents.*"))
        host = socket.gethostname()
        self._path = run / f"events.out.tfevents.{time.time_ns()}.{host}.{os.getpid()}"
        self._write(file_version="brain.Event:2")
        # A TensorBoard that is open drops what it read of the earlier file.
        self._write(session_log=event_pb2.SessionLog(status=event_pb2.SessionLog.START))
        *start, self._end = hparams(dict(settings), {})
        for summary in start:
            self._write(summary=summary)
        for path in earlier:
            path.unlink()

    def _write(self, step: int = 0, **content: Any) -> None:
        event = self._event(wall_time=time.time(), step=step, **content)
        with open(self._path, "ab") as file:
            self._record_writer(file).write(event.SerializeToString())

    def add(self, row: Row) -> None:
        """Write the metrics of an epoch."""
        from tensorboard.compat.proto.summary_pb2 import Summary

        values = [
            Summary.Value(tag=name, simple_value=value) for name, value in _metrics(row).items()
        ]
        self._write(int(row["epoch"]), summary=Summary(value=values))

    def close(self, failed: bool) -> None:
        """End the run; one that failed is not marked as finished."""
        if not failed:
            self._write(summary=self._end)


class MlflowRun:
    """One run in MLflow: on the server of MLFLOW_TRACKING_URI, otherwise in an SQLite file.

    Args:
        folder: Folder of the SQLite file, and of the ids of the runs.
        name: Name of the run.
        settings: Its settings by name.
    """

    def __init__(self, folder: Path, name: str, settings: Mapping[str, Any]) -> None:
        from mlflow.exceptions import MlflowException

        self._client, experiment = _mlflow_experiment(folder)
        id_file = folder / "runs" / f"{name}.txt"
        if id_file.is_file():
            try:
                self._client.delete_run(files.read_text(id_file).strip())
            except MlflowException:
                log.info("%s is not in this MLflow, so it is not replaced", name)
        run = self._client.create_run(experiment, run_name=name)
        self._id = run.info.run_id
        files.write_text(id_file, self._id)
        for key, value in settings.items():
            self._client.log_param(self._id, key, value)

    def add(self, row: Row) -> None:
        """Write the metrics of an epoch."""
        from mlflow.entities import Metric

        now, epoch = time.time_ns() // 10**6, int(row["epoch"])
        metrics = [Metric(name, value, now, epoch) for name, value in _metrics(row).items()]
        self._client.log_batch(self._id, metrics=metrics)

    def close(self, failed: bool) -> None:
        """End the run."""
        self._client.set_terminated(self._id, "FAILED" if failed else "FINISHED")


def _mlflow_experiment(folder: Path) -> tuple["MlflowClient", str]:
    """Return MLflow's client and the id of the experiment, made if it is not there."""
    from filelock import FileLock

    for name, value in MLFLOW_SETTINGS.items():
        os.environ.setdefault(name, value)
    logging.getLogger("mlflow").setLevel(logging.WARNING)
    logging.getLogger("alembic").setLevel(logging.WARNING)
    from mlflow.tracking import MlflowClient

    folder.mkdir(parents=True, exist_ok=True)
    here = f"sqlite:///{(folder / 'mlflow.db').absolute()}"
    title = os.environ.get("MLFLOW_EXPERIMENT_NAME") or EXPERIMENT
    with FileLock(folder / "mlflow.lock", timeout=300):  # two jobs would both make the tables
        client = MlflowClient(os.environ.get("MLFLOW_TRACKING_URI") or here)
        found = client.get_experiment_by_name(title)
        return client, found.experiment_id if found else client.create_experiment(title)


Start = Callable[[Path, str, Mapping[str, Any]], TrackedRun]
TRACKERS: dict[str, Start] = {"tensorboard": TensorBoardRun, "mlflow": MlflowRun}
