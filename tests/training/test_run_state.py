"""RunState: digest, best epoch, and checkpoints."""

import copy
import dataclasses
import hashlib
import json
import math
from typing import TypeVar

import pytest
import torch
from helpers.training import FACTS, TASK, make_spec

from lora.data.tokens import Tokens
from lora.experiment.cell import Cell
from lora.experiment.hparams import HPARAM_NAMES
from lora.training import checkpoint, run_state
from lora.training.optim import Optimizer
from lora.training.run_state import RunState

T = TypeVar("T")
HASHES = ("tokens", "base", "fp32", "start", "bert")
NAN = math.nan


def changed(original: T, **changes: object) -> T:
    """Return a copy of a frozen object with other values, without validating them."""
    result = copy.copy(original)
    for name, value in changes.items():
        object.__setattr__(result, name, value)
    return result


@pytest.fixture
def spec(tmp_path):
    return make_spec(tmp_path, 0)


@pytest.fixture
def run(spec):
    """A run at step 7, in its second epoch, with one tensor that is trained and one that is not."""
    parameters = {"0.q.a": torch.arange(6.0).view(2, 3), "head.out.bias": torch.ones(2)}
    run = RunState(spec, FACTS, "fp32", "ab" * 32, parameters=parameters)
    run.optimizer = Optimizer(parameters, {"0.q.a": torch.zeros(2, 3)})
    run.optimizer.moments["0.q.a"]["exp_avg"].fill_(0.1)
    run.tokens = dict(train=Tokens(None, None, None, torch.zeros(42).numpy()))
    run.step, run.epoch, run.wall_s = 7, 1, 1.5
    run.rows = [dict(epoch=1, status="ok", accuracy=0.5, pearson=NAN)]
    run.best, run.best_epoch = {"0.q.a": torch.full((2, 3), 1 / 3)}, 1
    run.loss = torch.tensor(0.1, dtype=torch.float64)
    return run


def test_digest_is_the_hash_of_sorted_json(spec):
    """The text is written out here: any other key, order or number format changes all digests."""
    hparams = json.dumps(spec.hparams.as_dict() | dict(start="start"), sort_keys=True)
    text = (
        f'{{"base": "base", "eval_splits": ["validation"], "hparams": {hparams}, '
        '"method": "lora", "metric": "accuracy", "num_labels": 2, "precision": "fp32", '
        f'"rank": 4, "results_version": 3, "seed": 0, "tokens": "tokens", '
        '"weights": "qv"}'
    )
    assert run_state.digest_of(spec, *HASHES) == hashlib.sha256(text.encode()).hexdigest()


def test_digest_depends_on_everything_that_affects_results(spec):
    digests = [
        run_state.digest_of(spec, *HASHES),
        run_state.digest_of(changed(spec, seed=1), *HASHES),
    ]
    for key, value in dict(rank=5, weights="q", method="ft").items():
        other = changed(spec, cell=changed(spec.cell, **{key: value}))
        digests.append(run_state.digest_of(other, *HASHES))
    for name in set(HPARAM_NAMES) - {"start"}:  # hashed by the files in the folder, not its path
        other = changed(spec, hparams=changed(spec.hparams, **{name: -1}))
        digests.append(run_state.digest_of(other, *HASHES))
    for index, other in enumerate(("other", "other", "bf16", "other")):
        hashes = [*HASHES[:index], other, *HASHES[index + 1 :]]
        digests.append(run_state.digest_of(spec, *hashes))
    for key, value in dict(metric="f1", num_labels=3, eval_splits=("dev",)).items():
        other = changed(spec, task=changed(TASK, **{key: value}))
        digests.append(run_state.digest_of(other, *HASHES))
    assert len(set(digests)) == len(digests)


def test_digest_does_not_depend_on_names_and_paths(spec, tmp_path):
    cell = Cell("renamed", "renamed", "lora", "qv", 4, "other")
    other = dataclasses.replace(
        spec,
        cell=cell,
        hparams=dataclasses.replace(spec.hparams, start="some/folder"),
        tokens_dir=tmp_path / "other-tokens",
        output_dir=tmp_path / "other-output",
        start_dirs=(tmp_path,),
    )
    assert run_state.digest_of(other, *HASHES) == run_state.digest_of(spec, *HASHES)


@pytest.mark.parametrize(
    "values, best",
    [
        ([0.5, 0.7, 0.7], 2),
        ([0.7, 0.5, 0.6], 1),
        ([NAN, 0.5, NAN], 2),
        ([0.5, NAN, 0.4], 1),
        ([NAN, NAN, NAN], 3),  # no number to compare: the last epoch
    ],
)
def test_tensors_of_the_best_epoch_are_kept(run, values, best):
    """The best epoch has the highest metric, and is the earliest of equals; NaN is never better."""
    run.rows, run.best, run.best_epoch, run.epoch = [], {}, 0, 0
    for epoch, value in enumerate(values, start=1):
        run.parameters["0.q.a"].fill_(epoch)
        run.end_epoch(dict(epoch=epoch, status="ok", accuracy=value))
    assert run.best_epoch == best and run.best["0.q.a"].unique().tolist() == [best]
    assert run.epoch == 3 and run.done and run.order is run.loss is None


def test_failed_epoch_ends_the_run_and_is_never_the_best(run):
    run.end_epoch(dict(epoch=2, status="non_finite", accuracy=NAN))
    assert run.done and run.best_epoch == 1 and run.epoch == 2 < run.spec.hparams.epochs


def test_resumed_state_equals_the_saved_state_to_the_bit(run, spec, tmp_path):
    run_state.save(run, tmp_path, None)
    resumed = RunState(spec, FACTS, "fp32", run.digest)
    resumed.parameters = {name: torch.zeros_like(value) for name, value in run.parameters.items()}
    resumed.optimizer = Optimizer(resumed.parameters, {"0.q.a": torch.zeros(2, 3)})
    run_state.resume(resumed, tmp_path)
    for name in ("step", "epoch", "wall_s", "best_epoch"):
        assert getattr(resumed, name) == getattr(run, name), name
    (row,), (saved_row,) = resumed.rows, run.rows
    # as text, because NaN is not equal to itself
    assert {key: str(value) for key, value in row.items()} == {
        key: str(value) for key, value in saved_row.items()
    }
    assert torch.equal(resumed.loss, run.loss)
    for name, value in run.parameters.items():
        assert torch.equal(resumed.parameters[name], value), name
    assert torch.equal(resumed.best["0.q.a"], run.best["0.q.a"])
    for name, moment in run.optimizer.moments["0.q.a"].items():
        assert torch.equal(resumed.optimizer.moments["0.q.a"][name], moment), name


@pytest.mark.parametrize("loss", [NAN, math.inf])
def test_loss_that_is_not_finite_is_saved(run, tmp_path, loss):
    """JSON has no number for it."""
    run.loss.fill_(loss)
    run_state.save(run, tmp_path, None)
    run.loss = None
    run_state.resume(run, tmp_path)
    assert str(float(run.loss)) == str(loss)


def test_checkpoint_of_a_finished_run_has_only_the_best_tensors(run, tmp_path):
    assert run_state.load_finished(run, tmp_path) is None
    run_state.save(run, tmp_path, None)
    assert run_state.load_finished(run, tmp_path) is None
    run.epoch = run.spec.hparams.epochs
    run_state.save(run, tmp_path, None)
    tensors, meta = checkpoint.load(tmp_path, run.digest)
    assert set(tensors) == {"best/0.q.a"} and meta["done"]


def test_begin_epoch_does_not_restart_a_begun_epoch(run):
    run.begin_epoch(torch.device("cpu"))
    order = run.order
    run.begin_epoch(torch.device("cpu"))
    assert run.order is order and sorted(order) == list(range(42)) and float(run.loss) == 0.1
