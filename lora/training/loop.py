"""A pack in, rows out: the loop that trains the runs of a pack in lock-step over one frozen base.

Every run has its own order of examples, learning-rate schedule, mean loss, gradient clipping and AdamW, so its rows are
those it would give alone; they share the frozen weights and each forward and backward pass. After each epoch a run is
evaluated on its whole evaluation set and one row is added (`evaluation`), and its state is saved (`keeper`); a finished run
is written out from its state, now and in any later job that asks for it. The loop does not know cells, tables or Snakemake.
"""

import logging
import math
from pathlib import Path

import numpy as np
import torch

from lora.adapters import warm_start
from lora.data import fetch
from lora.data.tokens import epoch_order, load, read_facts
from lora.errors import ConfigError, Interrupted
from lora.experiment.cell import BASE_METHODS
from lora.model import compiled, dropout, encoder, layers, packed_model
from lora.training import batching, checkpoint, evaluation, optim, run_state, signals
from lora.training.batching import MicroBatch, TokenBudget
from lora.training.checkpoint_schedule import CheckpointSchedule
from lora.training.device import DTYPES, pick_device, pick_precision
from lora.training.progress import Progress
from lora.training.run_state import Asked, RunState

log = logging.getLogger(__name__)


def train(asked: list[Asked], model_dir: Path, state_dir: Path, device: str = "auto", micro_batch: int = 0,
          precision: str = "auto", checkpoint_every_s: float = math.inf) -> None:  # fmt: skip
    """Train the runs of one pack and write each one's metrics.csv, run.json and adapter/ into its output folder.

    `model_dir` is a local transformers folder, `state_dir` where state is kept between jobs. `micro_batch` examples of a
    run per forward pass, 0 for a whole step; results differ by rounding only. `precision` is that of the frozen base: bf16,
    fp32, or auto, which takes what is faster here, and finished runs of either. State is saved after an epoch as long as
    that costs little, every `checkpoint_every_s` seconds, and when the process is told to stop, which raises
    interrupt.Interrupted. Raises ValueError for inputs that do not fit together or a pack that does not fit memory, before
    any training.
    """
    place = pick_device(device)
    picked = pick_precision(precision, place)
    base_sha256 = fetch.base_sha256(Path(model_dir))
    others = [other for other in DTYPES if other != picked] if precision == "auto" else []
    wanted = [[_run(one, base_sha256, each) for each in (picked, *others)] for one in asked]
    with checkpoint.held(state_dir, (run.digest for each in wanted for run in each)):
        left = [each[0] for each in wanted if not _written(each, state_dir)]
        keeper = CheckpointSchedule(Path(state_dir), checkpoint_every_s)
        with signals.handle_signals():
            for together in _packs(left):
                _train_together(together, model_dir, base_sha256, keeper, place, micro_batch)


def _written(wanted: list[RunState], state_dir: Path) -> bool:
    """Whether one of these, a run in all precisions that will do, is finished; then its outputs are written."""
    if not any(run_state.restore_finished(run, state_dir) for run in wanted):
        return False
    log.info("%s is finished already: written from its state", wanted[0].name)
    return True


def _packs(left: list[RunState]) -> list[list[RunState]]:
    """The runs that share a base model; those of a method that trains the base's own parameters one by one."""
    sharing = [run for run in left if run.method not in BASE_METHODS]
    alone = [[run] for run in left if run.method in BASE_METHODS]
    if len(alone) > 1:
        log.info(
            "%s trains the base model itself, which runs cannot share: one run after another",
            alone[0][0].method,
        )
    return [sharing] * bool(sharing) + alone


def _train_together(left: list[RunState], model_dir: Path, base_sha256: str, keeper: CheckpointSchedule, place: torch.device,
                    micro_batch: int) -> None:  # fmt: skip
    """Load the base model for these runs and train them in lock-step."""
    tokens = {folder: load(folder) for folder in {run.asked.tokens_dir for run in left}}
    base = packed_model.load_base(Path(model_dir), DTYPES[left[0].precision])
    _check_fits(left, base)
    members = []
    for run in left:
        run.tokens = tokens[run.asked.tokens_dir]
        members.append(
            packed_model.AdapterSpec(
                run.seed, run.cell.weights, run.cell.rank, run.asked.task.num_labels, run.hparams, run.method,
                run.cell.first_layer,
            )
        )  # fmt: skip
    parameters = [packed_model.trainable_parameters(base, member) for member in members]
    limits = batching.plan(left, base, parameters, place, micro_batch)
    model = packed_model.PackedModel(base, members, place)
    compiled.prepare(
        place,
        keeper.state_dir / "kernels",
        lambda: dropout.rehearse(base.config.hidden_size, base.dtype, place),
    )
    for index, run in enumerate(left):
        run.place, run.parameters, run.counts = (
            index,
            model.parameters_of(index),
            model.counts(index),
        )
        run.optimizer = optim.Optimizer(run.parameters, model.gradients_of(index))
        warm_start.begin(run, base.config.model_type)
        run_state.resume(run, keeper.state_dir)
    base_facts = dict(
        source=fetch.identity_of(model_dir), base_sha256=base_sha256, family=base.config.model_type
    )
    _loop(model, left, keeper, limits, base_facts)
    for run in left:  # a base model of a run's own goes before the next one comes
        run.parameters, run.best, run.optimizer = {}, {}, None


def _run(one: Asked, base_sha256: str, precision: str) -> RunState:
    prepared = read_facts(one.tokens_dir)
    start = warm_start.start_of(one)
    if one.settings["method"] in BASE_METHODS:
        precision = "fp32"  # the base's parameters are those that train
    sha256 = start.sha256 if start else ""
    digest = run_state.digest_of(
        one.settings, one.task, prepared["sha256"], base_sha256, precision, sha256
    )
    return RunState(one, one.hparams, prepared, precision, digest, start)


def _check_fits(pack: list[RunState], base) -> None:
    longest = base.config.max_position_embeddings - (
        2 if base.config.model_type == "roberta" else 0
    )
    problems = []
    for run in pack:
        wanted, prepared = run.hparams.max_tokens, run.prepared["max_tokens"]
        task = run.asked.task
        if (run.prepared["task"], run.prepared["num_labels"]) != (task.name, task.num_labels):
            problems.append(
                f"task is {task.name}, the tokens in {run.asked.tokens_dir} are of {run.prepared['task']}; give those of "
                f"{task.name}"
            )
        lacking = [
            split for split in ("train", *task.eval_splits) if split not in run.prepared["splits"]
        ]
        if lacking:
            problems.append(
                f"the tokens in {run.asked.tokens_dir} have no split {', '.join(lacking)}; prepare them again"
            )
        if wanted != prepared:
            problems.append(f"max_tokens is {wanted}, the prepared tokens have {prepared}")
        if wanted > longest:
            problems.append(f"max_tokens is {wanted}; this model takes at most {longest}")
        if run.cell.rank > base.config.hidden_size:
            problems.append(
                f"rank is {run.cell.rank}; at most the model's width, {base.config.hidden_size}"
            )
        if run.cell.first_layer >= base.config.num_hidden_layers:
            problems.append(
                f"weights is {run.cell.weights}; this model's last layer is {base.config.num_hidden_layers - 1}"
            )
    if problems:
        raise ConfigError("The run does not fit its model and data:", sorted(set(problems)))


def _loop(
    model, pack: list[RunState], keeper: CheckpointSchedule, limits: TokenBudget, base_facts: dict
) -> None:
    """Step all unfinished runs together until none is left. A state that is saved always lies between two steps; told to
    stop, it saves and raises Interrupted."""
    left = [run for run in pack if not run.done]
    work = sum((run.hparams.epochs - run.epoch) * len(run.tokens["train"]) for run in left)
    progress = Progress(_label(left), work)
    log.info("%d runs in lock-step", len(left))
    keeper.left = left
    while left:
        try:
            signals.raise_if_received()
            ended = [run for run in left if run.step == (run.epoch + 1) * run.steps_per_epoch]
            if ended:
                progress.clear()
                evaluation.end_epoch(model, ended, limits, progress.rate())
        except Interrupted:
            progress.clear()
            keeper.save()
            raise
        if ended:
            keeper.end_epoch(
                ended, lambda run: run_state.record_of(run, base_facts, model, len(pack))
            )
            keeper.left = left = [run for run in left if not run.done]
            continue
        for run in left:
            if run.order is None:
                run.order = epoch_order(run.seed, run.epoch, len(run.tokens["train"]))
            if run.loss is None:
                run.loss = torch.zeros((), dtype=torch.float64, device=model.device)
        examples = _step(model, left, limits)
        first = left[0]
        where = f"epoch {first.epoch + 1}/{first.hparams.epochs}  step {first.step}/"
        progress.show(examples, f"{where}{first.steps_per_epoch * first.hparams.epochs}")
        keeper.save_if_due()


def _label(pack: list[RunState]) -> str:
    """What the runs of a pack have in common, for the progress line; how many values where they differ."""
    words = []
    for axis, written, several in (("model", "{}", ""), ("task", "{}", "{} tasks"), ("weights", "{}", "{} weight types"),
                                   ("rank", "r{}", "{} ranks")):  # fmt: skip
        values = {run.asked.settings[axis] for run in pack}
        words.append(written.format(*values) if len(values) == 1 else several.format(len(values)))
    return " ".join(words)


def _step(model, pack: list[RunState], limits: TokenBudget) -> int:
    """One optimiser step of every run; returns how many examples they saw together."""
    chosen = []
    for run in pack:
        size = run.hparams.examples_per_step
        first = run.step % run.steps_per_epoch * size
        chosen.append((run, run.order[first : first + size]))
    losses = [run.loss.clone() for run in pack]

    def attempt():
        for pieces in batching.cut(chosen, limits):
            yield sum(piece.tokens for piece in pieces), len(pieces) == len(pieces[0].indices) == 1
            _add_gradients(model, pieces)

    def undo():
        for run, loss in zip(pack, losses, strict=True):
            run.loss = loss.clone()
        optim.clear(pack)

    batching.run_within_memory(limits, attempt, undo)
    optim.step(pack)
    return sum(len(indices) for _, indices in chosen)


def _add_gradients(model, pieces: list[MicroBatch]) -> None:
    """One pass forward and backward: each run's mean loss over its step, as far as the step is in this pass."""
    parts, labels = [], []
    for piece in pieces:
        run = piece.run
        ids, types, lengths, wanted = run.tokens["train"].gather(piece.indices)
        parts.append(encoder.Part(run.place, ids, types, lengths, run.seed, run.step, piece.first))
        labels.append(wanted)
    labels = encoder.on_device(np.concatenate(labels), model.device).split(
        [len(wanted) for wanted in labels]
    )
    losses = []
    for piece, logits, wanted in zip(pieces, model(model.batch(parts)), labels, strict=True):
        loss = layers.loss_sum(logits, wanted)
        piece.run.loss += loss.detach()
        losses.append(loss / piece.step_size)
    torch.stack(losses).sum().backward()
