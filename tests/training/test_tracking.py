"""Trackers hold the rows of metrics.csv, each epoch once, and change nothing else."""

import dataclasses
import importlib.util
import logging
import shutil
from pathlib import Path

import pytest
from helpers.training import adapter_of, make_spec, rows_of, train

from lora import files
from lora.columns import METRICS_COLUMNS
from lora.errors import Interrupted
from lora.experiment.run_spec import RunSpec
from lora.training import pack_step, signals, tracking
from lora.training.tracking import Tracking

LIBRARY = {
    name: not all(importlib.util.find_spec(part) for part in parts)
    for name, parts in tracking.LIBRARIES.items()
}
tensorboard = pytest.mark.skipif(LIBRARY["tensorboard"], reason="tensorboard is not installed")
mlflow = pytest.mark.skipif(LIBRARY["mlflow"], reason="mlflow is not installed")
Scalars = dict[str, list[tuple[int, float]]]  # metric -> epoch and value


def expected(spec: RunSpec) -> Scalars:
    """Return what is in a run's metrics.csv; empty cells are left out."""
    rows = files.read_csv(spec.output_dir / "metrics.csv", METRICS_COLUMNS)
    names = [name for name in METRICS_COLUMNS if name not in ("epoch", "step", "status")]
    columns = {
        name: [(row["epoch"], row[name]) for row in rows if row[name] == row[name]]
        for name in names
    }
    return {name: values for name, values in columns.items() if values}


def event_folder(folder: Path, spec: RunSpec) -> Path:
    return folder / "tensorboard" / spec.cell.path / f"seed{spec.seed}"


def in_tensorboard(folder: Path, spec: RunSpec) -> Scalars:
    """Return what TensorBoard reads of a run. Its values are 32-bit."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    read = EventAccumulator(str(event_folder(folder, spec)))
    read.Reload()
    return {
        name: [(event.step, pytest.approx(event.value, rel=1e-6)) for event in read.Scalars(name)]
        for name in read.Tags()["scalars"]
    }


def in_mlflow(folder: Path, spec: RunSpec) -> Scalars:
    """Return what MLflow reads of a run."""
    run, client = mlflow_run(folder, spec)
    return {
        name: [(one.step, one.value) for one in client.get_metric_history(run.info.run_id, name)]
        for name in run.data.metrics
    }


def mlflow_run(folder: Path, spec: RunSpec):
    """Return the only run of this name, and the client."""
    from mlflow.tracking import MlflowClient

    client = MlflowClient(f"sqlite:///{folder}/mlflow/mlflow.db")
    experiment = client.get_experiment_by_name("lora").experiment_id
    runs = client.search_runs([experiment])
    (run,) = [one for one in runs if one.info.run_name == tracking.run_name(spec.settings)]
    return run, client


@pytest.fixture
def local_mlflow(monkeypatch, tmp_path):
    """MLflow in the folder of the trackers, whatever the environment says."""
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)


def both(folder: Path) -> list[RunSpec]:
    """Return two runs of one pack, of three and of two epochs."""
    return [make_spec(folder, 0), make_spec(folder, 1, "qkvo", 2, epochs=2)]


@pytest.fixture(scope="module")
def plain(bert_dir, tokens_dir, tmp_path_factory):
    """The runs of `both`, trained without a tracker."""
    folder = tmp_path_factory.mktemp("plain")
    train(both(folder), bert_dir, tokens_dir, folder / "state")
    return both(folder)


@tensorboard
def test_event_files_have_the_rows_of_each_run_of_a_pack(bert_dir, tokens_dir, tmp_path, plain):
    """And results are those of a training without trackers, to the byte."""
    folder = tmp_path / "tracking"
    options = dict(tracking=("tensorboard",), tracking_dir=folder)
    specs = both(tmp_path)
    train(specs, bert_dir, tokens_dir, tmp_path / "state", **options)
    for spec, without in zip(specs, plain, strict=True):
        assert in_tensorboard(folder, spec) == expected(spec)
        assert rows_of(spec) + adapter_of(spec) == rows_of(without) + adapter_of(without)


@tensorboard
def test_hyperparameters_are_in_the_event_file(tmp_path, plain):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.plugins.hparams import plugin_data_pb2

    tracking.copy_runs(["tensorboard"], plain[0].output_dir, tmp_path)
    read = EventAccumulator(str(event_folder(tmp_path, plain[0])))
    read.Reload()
    content = read.PluginTagToContent("hparams")["_hparams_/session_start_info"]
    hparams = plugin_data_pb2.HParamsPluginData.FromString(content).session_start_info.hparams
    assert hparams["weights"].string_value == "qv" and hparams["seed"].number_value == 0
    given = hparams["hparams.learning_rate"].number_value
    assert given == plain[0].hparams.learning_rate


@tensorboard
@pytest.mark.parametrize("count", [1, 7, 12])
def test_a_resumed_run_has_each_epoch_once(bert_dir, tokens_dir, tmp_path, monkeypatch, count):
    """Stopped in an epoch or at its end, then resumed; a finished run is written again."""
    folder, specs = tmp_path / "tracking", both(tmp_path)
    options = dict(tracking=("tensorboard",), tracking_dir=folder)
    optimizer_step, calls = pack_step.optimizer_step, []

    def step_and_stop(*arguments):
        calls.append(arguments)
        if len(calls) > count:
            raise Interrupted(signals.SIGNALS[0])
        return optimizer_step(*arguments)

    monkeypatch.setattr(pack_step, "optimizer_step", step_and_stop)
    with pytest.raises(Interrupted):
        train(specs, bert_dir, tokens_dir, tmp_path / "state", **options)
    monkeypatch.setattr(pack_step, "optimizer_step", optimizer_step)
    for _ in range(2):
        train(specs, bert_dir, tokens_dir, tmp_path / "state", **options)
        for spec in specs:
            assert in_tensorboard(folder, spec) == expected(spec)
            assert len(list(event_folder(folder, spec).iterdir())) == 1


@tensorboard
def test_a_job_killed_between_checkpoint_and_tracker_loses_no_epoch(
    bert_dir, tokens_dir, tmp_path, monkeypatch
):
    folder, spec = tmp_path / "tracking", make_spec(tmp_path, 0)
    options = dict(tracking=("tensorboard",), tracking_dir=folder)

    def killed(*given):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Tracking, "add", killed)
        with pytest.raises(KeyboardInterrupt):
            train([spec], bert_dir, tokens_dir, tmp_path / "state", **options)
    assert in_tensorboard(folder, spec) == {}
    train([spec], bert_dir, tokens_dir, tmp_path / "state", **options)
    assert in_tensorboard(folder, spec) == expected(spec)


class Full:
    """A file on a full disk, in place of TensorBoard's writer."""

    def __init__(self, file):
        pass

    def write(self, data):
        raise OSError(28, "No space left on device")


@tensorboard
def test_a_full_disk_is_a_warning_and_the_training_ends(
    bert_dir, tokens_dir, tmp_path, monkeypatch, caplog, plain
):
    monkeypatch.setattr("tensorboard.summary.writer.record_writer.RecordWriter", Full)
    specs = both(tmp_path)
    options = dict(tracking=("tensorboard",), tracking_dir=tmp_path / "tracking")
    with caplog.at_level(logging.WARNING):
        train(specs, bert_dir, tokens_dir, tmp_path / "state", **options)
    assert [rows_of(spec) for spec in specs] == [rows_of(spec) for spec in plain]
    (warning,) = [one.message for one in caplog.records if "Tracking with" in one.message]
    assert "No space left on device" in warning and "metrics.csv is complete" in warning


@tensorboard
@pytest.mark.parametrize("damage", ["a file", "no permission"])
def test_a_tracking_folder_that_cannot_be_written_is_a_warning(tmp_path, plain, caplog, damage):
    """The second one as root is made by a file in place of the run's folder."""
    folder = tmp_path / "tracking"
    blocked = folder if damage == "a file" else event_folder(folder, plain[0])
    blocked.parent.mkdir(parents=True, exist_ok=True)
    blocked.write_text("mine")
    with pytest.raises(ValueError, match="tracking with tensorboard failed"):
        tracking.copy_runs(["tensorboard"], plain[0].output_dir, folder)
    assert "Tracking with tensorboard failed" in caplog.text and blocked.read_text() == "mine"


@tensorboard
def test_existing_runs_are_written_also_one_that_failed(tmp_path, plain, bert_dir, tokens_dir):
    """Its rows have empty cells for what was not finite."""
    bad = make_spec(tmp_path / "runs", 2, learning_rate=1e30)
    train([bad], bert_dir, tokens_dir, tmp_path / "state")
    assert "non_finite" in rows_of(bad).decode()
    shutil.copytree(plain[0].output_dir, tmp_path / "runs/good")
    good = dataclasses.replace(plain[0], output_dir=tmp_path / "runs/good")
    for _ in range(2):
        assert tracking.copy_runs(["tensorboard"], tmp_path / "runs", tmp_path / "t") == 2
    for spec in (good, bad):
        assert in_tensorboard(tmp_path / "t", spec) == expected(spec)
    with pytest.raises(ValueError, match="no run with a metrics.csv below"):
        tracking.copy_runs(["tensorboard"], tmp_path / "t", tmp_path / "t")


@mlflow
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of mlflow's own libraries
@pytest.mark.usefixtures("local_mlflow")
def test_mlflow_has_the_rows_and_hyperparameters_once(bert_dir, tokens_dir, tmp_path, monkeypatch):
    """Of a run that is stopped and resumed; nothing is written in the working directory."""
    folder, specs = tmp_path / "tracking", both(tmp_path)
    options = dict(tracking=("mlflow",), tracking_dir=folder)
    train(specs[:1], bert_dir, tokens_dir, tmp_path / "state", **options)
    train(specs, bert_dir, tokens_dir, tmp_path / "state", **options)
    for spec in specs:
        assert in_mlflow(folder, spec) == expected(spec)
        run, _ = mlflow_run(folder, spec)
        assert run.info.status == "FINISHED" and run.data.params["weights"] == spec.cell.weights
        rate = run.data.params["hparams.learning_rate"]
        assert float(rate) == spec.hparams.learning_rate
    assert not (tmp_path / "mlruns").exists()


@mlflow
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.usefixtures("local_mlflow")
def test_a_server_that_is_down_is_a_warning(tmp_path, monkeypatch, plain, caplog):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    with pytest.raises(ValueError, match="tracking with mlflow failed"):
        tracking.copy_runs(["mlflow"], plain[0].output_dir, tmp_path / "t")
    assert "Tracking with mlflow failed" in caplog.text


def test_a_library_that_is_missing_is_named_with_what_to_install(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    (problem,) = tracking.missing_libraries(["mlflow"])
    assert "mlflow, sqlalchemy, alembic" in problem and "pip install -e '.[mlflow]'" in problem


@pytest.mark.parametrize("text", ["tensorbord", "tensorboard,wandb", ""])
def test_an_unknown_tracker_is_refused(text):
    with pytest.raises(ValueError, match="allowed: none, or tensorboard, mlflow"):
        tracking.parse_names(text)
    assert tracking.parse_names("none") == ()
    assert tracking.parse_names("mlflow,tensorboard") == ("mlflow", "tensorboard")
