"""The training loop: train the runs of a pack in lock-step over one frozen base model.

Every run has its own example order, learning rate, mean loss, gradient clipping and AdamW, so its
rows are those it would give alone. The runs share the frozen weights and each forward and backward
pass. After each epoch a run is evaluated and saved. A finished run is restored from its checkpoint
or its outputs, never trained again.
"""

import contextlib
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from lora.adapters import belonging, label_names, warm_start
from lora.adapters.warm_start import Start
from lora.data import fetch, tokens
from lora.errors import ConfigError, Interrupted
from lora.experiment import earlier_outputs, kept_outputs
from lora.experiment.cell import BASE_METHODS
from lora.experiment.run_spec import JobOptions, RunSpec
from lora.model import compiled, dropout, methods, pretrained
from lora.model import config as model_config
from lora.model.methods import AdapterSpec
from lora.model.packed_model import PackedModel
from lora.run_record import Base
from lora.training import (
    batching,
    checkpoint,
    evaluation,
    fit,
    optim,
    pack_step,
    progress,
    run_outputs,
    run_state,
    signals,
)
from lora.training.batching import TokenBudget
from lora.training.checkpoint_schedule import CheckpointSchedule
from lora.training.device import DTYPES, pick_device, pick_precision
from lora.training.progress import Progress
from lora.training.run_state import RunState
from lora.training.tracking import Tracking

if TYPE_CHECKING:
    pass

log = logging.getLogger(__name__)


def train(specs: Sequence[RunSpec], options: JobOptions) -> None:
    """Train the runs of one job and write metrics.csv, run.json and adapter/ of each.

    The order of the runs, what else is in the job, and the micro-batch don't change a run's
    numbers, except that a micro-batch changes rounding.

    Args:
        specs: The runs, all of one method.
        options: Model, state folder, device, precision.

    Raises:
        ValueError: If the inputs don't fit together, or the pack does not fit memory; before any
            training.
        ConfigError: If another run would be overwritten, unless `options.overwrite`. Before any
            training, or after it if another job wrote to the same folder in the meantime.
        Interrupted: If a signal arrived or the time limit is near; after all runs were saved.
    """
    device = pick_device(options.device)
    precision = pick_precision(options.precision, device)
    base_sha256 = fetch.base_sha256(options.model_dir)
    accepted = [precision]
    if options.precision == "auto":
        accepted += [other for other in DTYPES if other != precision]
    candidates = _new_states(specs, options.model_dir, base_sha256, accepted)
    digests = [run.digest for states in candidates for run in states]
    if not options.overwrite:
        _check_outputs(candidates, base_sha256, options)
    trackers = Tracking(options.tracking, options.tracking_dir)
    with checkpoint.held(options.state_dir, digests):
        unfinished = [states[0] for states in candidates if not _restore(states, options, trackers)]
        schedule = CheckpointSchedule(
            options.state_dir, options.checkpoint_every_s, options.overwrite
        )
        with signals.handle_signals(options.limit_s):
            for pack in _packs(unfinished):
                _train_pack(pack, base_sha256, schedule, device, options, trackers)
    if schedule.refused:
        raise ConfigError(
            "Another job wrote another run to the output folder in the meantime. This run is "
            "saved. To write its outputs without training, give another --output-dir, and "
            f"--state-dir {options.state_dir}:",
            schedule.refused,
        )


def adapter_spec(spec: RunSpec, start: Start | None) -> AdapterSpec:
    """Return what the model needs to know of a run, and of the adapter that it starts from."""
    cell = spec.cell
    return AdapterSpec(
        seed=spec.seed,
        weights=cell.weights,
        rank=cell.rank,
        num_labels=spec.task.num_labels,
        hparams=spec.hparams,
        method=cell.method,
        first_layer=cell.first_layer,
        bias=start.bias if start else "none",
    )


def _new_states(
    specs: Sequence[RunSpec], model_dir: Path, base_sha256: str, accepted: Sequence[str]
) -> list[list[RunState]]:
    """Return the state of each run in every accepted precision, the preferred one first."""
    facts = {spec.tokens_dir: tokens.read_facts(spec.tokens_dir) for spec in specs}
    family = str(model_config.read(model_dir).get("model_type"))
    candidates = []
    for spec in specs:
        start = warm_start.find_start(spec)
        names = start.label_names if start else ()
        if start is not None:
            belonging.check_start(spec, start.folder, model_dir, base_sha256)
        states = []
        for precision in accepted:
            if spec.cell.method in BASE_METHODS:
                precision = "fp32"  # the parameters of the base model train
            digest = run_state.digest_of(
                spec,
                facts[spec.tokens_dir].sha256,
                base_sha256,
                precision,
                start.sha256 if start else "",
                family,
                label_names.output_rows(names, spec.task.label_names),
            )
            run = RunState(spec, facts[spec.tokens_dir], precision, digest, start, model_dir)
            states.append(run)
        candidates.append(states)
    return candidates


def _check_outputs(
    candidates: Sequence[Sequence[RunState]], base_sha256: str, options: JobOptions
) -> None:
    """Raise ConfigError if an output folder has a run with another digest."""
    problems = []
    for states in candidates:
        run, digests = states[0], [state.digest for state in states]
        inputs = {
            "data.tokens_sha256": run.facts.sha256,
            "base.base_sha256": base_sha256,
            "start.sha256": run.start.sha256 if run.start else "",
        }
        saved = any(checkpoint.load(options.state_dir, digest) is not None for digest in digests)
        problems += earlier_outputs.digest_problems(run.spec, digests, inputs, saved)
    if problems:
        raise ConfigError(earlier_outputs.TITLE, problems)


def _restore(states: Sequence[RunState], options: JobOptions, trackers: Tracking) -> bool:
    """Restore a run that is finished in one of these states; return whether it is."""
    name = states[0].spec.name
    if any(run_outputs.restore(run, options.state_dir) for run in states):
        log.info("%s is finished: outputs written from its checkpoint", name)
    elif any(kept_outputs.restore(run.spec, run.digest, options.state_dir) for run in states):
        run_outputs.describe(states[0])
        log.info("%s is finished: its outputs are whole", name)
    else:
        return False
    trackers.copy(states[0].spec.output_dir)
    return True


def _packs(unfinished: Sequence[RunState]) -> list[list[RunState]]:
    """Return the runs by pack: a run that trains the base model itself is alone."""
    sharing = [run for run in unfinished if run.spec.cell.method not in BASE_METHODS]
    alone = [[run] for run in unfinished if run.spec.cell.method in BASE_METHODS]
    if len(alone) > 1:
        log.info(
            "%s trains the base model, which runs can't share: one run after another",
            alone[0][0].spec.cell.method,
        )
    return ([sharing] if sharing else []) + alone


def _train_pack(
    pack: Sequence[RunState],
    base_sha256: str,
    schedule: CheckpointSchedule,
    device: torch.device,
    options: JobOptions,
    trackers: Tracking,
) -> None:
    """Load the base model, put the runs into it, and train them to their end."""
    facts = {run.spec.tokens_dir: run.facts for run in pack}
    splits = {folder: tokens.load(folder, facts[folder]) for folder in facts}
    base = pretrained.load_base(options.model_dir, DTYPES[pack[0].precision])
    for run in pack:
        run.tokens = splits[run.spec.tokens_dir]
    fit.check(pack, base)
    adapters = [adapter_spec(run.spec, run.start) for run in pack]
    trainable = [methods.trainable_parameters(base, adapter) for adapter in adapters]
    budget = batching.plan_budget(pack, base, trainable, device, options.micro_batch)
    model = PackedModel(base, adapters, device)
    compiled.enable_on_gpu(
        device,
        schedule.state_dir / "kernels",
        lambda: dropout.sample_outputs(base.config.hidden_size, base.dtype, device),
    )
    for index, run in enumerate(pack):
        run.index = index
        run.parameters, run.counts = model.parameters_of(index), model.counts(index)
        run.optimizer = optim.Optimizer(run.parameters, model.gradients_of(index))
        if run.start is not None:
            warm_start.load_start(run.start, run.spec, run.parameters, base.config.model_type)
        run_state.resume(run, schedule.state_dir)
        trackers.begin(run.spec.settings, run.rows)
    record = Base(
        source=fetch.identity_of(options.model_dir),
        base_sha256=base_sha256,
        family=base.config.model_type,
    )
    with contextlib.closing(progress.of_pack(pack, options.progress_file)) as bar:
        _train_epochs(model, pack, schedule, budget, record, bar, trackers)
    for run in pack:  # so that the memory of this base model is free before the next one is loaded
        run.release()


def _train_epochs(
    model: PackedModel,
    pack: Sequence[RunState],
    schedule: CheckpointSchedule,
    budget: TokenBudget,
    base: Base,
    bar: Progress,
    trackers: Tracking,
) -> None:
    """Step all unfinished runs together until every run is done.

    A checkpoint is always between two optimizer steps. After a signal all runs are saved before
    Interrupted is raised.
    """
    left = [run for run in pack if not run.done]
    log.info("training %d runs in lock-step", len(left))
    schedule.unfinished = left
    while left:
        try:
            signals.raise_if_received()
            ended = [run for run in left if run.step == (run.epoch + 1) * run.steps_per_epoch]
            if ended:
                bar.clear()
                evaluation.end_epoch(model, ended, budget, bar.rate())
        except Interrupted:
            bar.clear()
            schedule.save_all()
            raise
        if ended:
            schedule.end_epoch(
                ended, lambda run: run_outputs.build_record(run, base, model.device, len(pack))
            )
            for run in ended:
                trackers.add(run.spec.settings, run.rows[-1])
                if run.done:
                    trackers.end(run.spec.settings, str(run.rows[-1]["status"]))
            schedule.unfinished = left = [run for run in left if not run.done]
            continue
        for run in left:
            run.begin_epoch(model.device)
        examples = pack_step.optimizer_step(model, left, budget)
        bar.show(examples, progress.position(left))
        schedule.save_if_due()
