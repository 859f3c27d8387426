"""A pack in, rows out: the loop that trains the runs of a pack in lock-step over one frozen base.

Every run has its own order of examples, learning-rate schedule, mean loss, gradient clipping and AdamW, so its rows are
those it would give alone; they share the frozen weights and each forward and backward pass. After each epoch a run is
evaluated on its whole evaluation set, one row is added, and its state is saved; a finished run is written out from that
state, now and in any later job that asks for it. AdamW with decoupled weight decay off biases, linear warm-up and decay
(paper App. D.1). The loop does not know cells, tables or Snakemake.
"""

import json
import logging
import math
import time
from pathlib import Path

import numpy as np
import torch

from lora import data, encoder, fetch, inject, layers, metrics, records, runs
from lora.progress import Progress
from lora.runs import Asked, Run
from lora.spec import Hparams, Problems, Task

log = logging.getLogger(__name__)
EVAL_TOKENS = 4096  # of one run in one evaluation pass; part of the numbers' last bits, so a constant


def learning_rate(step: int, total: int, hparams: Hparams) -> float:
    """Of the optimiser step with this number, from 0: linear from 0 to the peak over the warm-up, then linear to 0."""
    warmup = math.ceil(total * hparams.warmup_frac)
    if step < warmup:
        return hparams.learning_rate * step / max(1, warmup)
    return hparams.learning_rate * max(0.0, (total - step) / max(1, total - warmup))


def pick_device(wanted: str) -> torch.device:
    """auto, cpu or cuda to a device, saying which; raises ValueError for cuda without a GPU."""
    found = torch.cuda.is_available()
    if wanted == "cuda" and not found:
        raise ValueError("device is cuda, but torch sees no GPU; use device auto or cpu, or install a CUDA build of torch")
    device = torch.device("cuda" if found and wanted != "cpu" else "cpu")
    why = "" if wanted == device.type else " (no GPU found)" if device.type == "cpu" else ""
    log.info("training on %s%s, %d CPU threads", runs.device_name(device), why, torch.get_num_threads())
    return device


def train(asked: list[Asked], task: Task, model_dir: Path, tokens_dir: Path, state_dir: Path,
          device: str = "auto", micro_batch: int = 0) -> None:  # fmt: skip
    """Train the runs of one pack and write each one's metrics.csv, run.json and adapter/ into its output folder.

    `model_dir` is a local transformers folder, `tokens_dir` what `data.prepare` wrote, `state_dir` where state is kept
    between jobs. `micro_batch` examples of a run per forward pass, 0 for a whole step; results differ by rounding only.
    Raises ValueError for inputs that do not fit together, before any training.
    """
    prepared = json.loads((Path(tokens_dir) / "tokens.json").read_text(encoding="utf-8"))
    base_sha256 = fetch.base_sha256(Path(model_dir))
    pack = [Run(one, one.hparams, runs.digest_of(one.settings, task, prepared["sha256"], base_sha256)) for one in asked]
    finished = [run for run in pack if runs.restore_finished(run, state_dir)]
    for run in finished:
        log.info("seed %d is finished already: written from its state", run.seed)
    left = [run for run in pack if run not in finished]
    if not left:
        return
    tokens = data.load(Path(tokens_dir))
    place = pick_device(device)
    base = inject.load_base(Path(model_dir))
    _check_fits(left, base, prepared)
    members = [
        inject.Member(run.seed, run.asked.settings["weights"], run.asked.settings["rank"], task.num_labels, run.hparams)
        for run in left
    ]
    model = inject.PackedModel(base, members, place)
    for index, run in enumerate(left):
        run.place, run.parameters, run.counts = index, model.parameters_of(index), model.counts(index)
        run.optimizer = runs.adamw(run)
        runs.resume(run, state_dir)
    sources = dict(
        data=dict(source=prepared["source"], tokens_sha256=prepared["sha256"]),
        base=dict(source=fetch.identity_of(model_dir), base_sha256=base_sha256, family=base.config.model_type),
    )
    _loop(model, left, task, tokens, state_dir, micro_batch, sources)


def _check_fits(pack: list[Run], base, prepared: dict) -> None:
    longest = base.config.max_position_embeddings - (2 if base.config.model_type == "roberta" else 0)
    problems = []
    for run in pack:
        if run.hparams.max_tokens != prepared["max_tokens"]:
            problems.append(f"max_tokens is {run.hparams.max_tokens}, the prepared tokens have {prepared['max_tokens']}")
        if run.hparams.max_tokens > longest:
            problems.append(f"max_tokens is {run.hparams.max_tokens}; this model takes at most {longest}")
        if run.asked.settings["rank"] > base.config.hidden_size:
            problems.append(f"rank is {run.asked.settings['rank']}; at most the model's width, {base.config.hidden_size}")
    if problems:
        raise Problems("The run does not fit its model and data:", sorted(set(problems)))


def _loop(model, pack: list[Run], task: Task, tokens: dict, state_dir: Path, micro_batch: int, sources: dict) -> None:
    """Step all unfinished runs together until none is left."""
    train_set, total = tokens["train"], len(tokens["train"])
    left = [run for run in pack if not run.done]
    work = sum((run.hparams.epochs - run.epoch) * total for run in left)
    settings = pack[0].asked.settings
    progress = Progress(f"{settings['model']} {settings['task']} {settings['weights']} r{settings['rank']}", work)
    evaluated = len(tokens[task.eval_splits[0]])
    log.info("%d runs in lock-step, %d training and %d evaluation examples", len(left), total, evaluated)
    started = time.monotonic()
    while left:
        for run in left:
            if run.order is None:
                run.order = data.epoch_order(run.seed, run.epoch, total)
                run.loss = torch.zeros((), dtype=torch.float64, device=model.device)
        examples = _step(model, left, train_set, micro_batch)
        first = left[0]
        per_epoch = data.steps_per_epoch(total, first.hparams.examples_per_step)
        where = f"epoch {first.epoch + 1}/{first.hparams.epochs}  step {first.step}/{per_epoch * first.hparams.epochs}"
        progress.show(examples, where)
        ended = [run for run in left if run.step % data.steps_per_epoch(total, run.hparams.examples_per_step) == 0]
        if ended:
            progress.clear()
            _end_epoch(model, ended, task, tokens, progress.rate())
            elapsed, started = time.monotonic() - started, time.monotonic()
            for run in left:
                run.wall_s += elapsed
            for run in ended:
                record = runs.record_of(run, sources, tokens, task, model, len(pack))
                runs.save(run, state_dir, record)
                if run.done:
                    runs.write_outputs(run.asked, run.rows, record, run.best)
            left = [run for run in left if not run.done]


def _step(model, pack: list[Run], train_set, micro_batch: int) -> int:
    """One optimiser step of every run; returns how many examples they saw together."""
    chosen = []
    for run in pack:
        size = run.hparams.examples_per_step
        first = run.step % data.steps_per_epoch(len(train_set), size) * size
        chosen.append(run.order[first : first + size])
    chunk = micro_batch or max(map(len, chosen))
    for first in range(0, max(map(len, chosen)), chunk):
        parts, labels, owners = [], [], []
        for run, indices in zip(pack, chosen, strict=True):
            if first < len(indices):
                ids, types, lengths, wanted = train_set.gather(indices[first : first + chunk])
                parts.append(encoder.Part(run.place, ids, types, lengths, run.seed, run.step, first))
                labels.append(torch.from_numpy(wanted).to(model.device))
                owners.append((run, len(indices)))
        losses = []
        for (run, size), logits, wanted in zip(owners, model(encoder.batch(parts, model.device)), labels, strict=True):
            loss = layers.loss_sum(logits, wanted)
            run.loss += loss.detach()
            losses.append(loss / size)
        torch.stack(losses).sum().backward()
    for run in pack:
        total = data.steps_per_epoch(len(train_set), run.hparams.examples_per_step) * run.hparams.epochs
        for group in run.optimizer.param_groups:
            group["lr"] = learning_rate(run.step, total, run.hparams)
        if run.hparams.max_grad_norm:
            trained = [value for value in run.parameters.values() if value.requires_grad]
            torch.nn.utils.clip_grad_norm_(trained, run.hparams.max_grad_norm)
        run.optimizer.step()
        run.optimizer.zero_grad(set_to_none=True)
        run.step += 1
    return sum(map(len, chosen))


@torch.no_grad()
def predict(model, places: list[int], examples) -> list[np.ndarray]:
    """Logits [n, C] of each run in `places` for every example, in the examples' order, dropout off."""
    order = np.argsort(examples.lengths, kind="stable")
    ends = np.flatnonzero(np.diff(np.cumsum(examples.lengths[order]) // EVAL_TOKENS)) + 1
    found = [[] for _ in places]
    for indices in np.split(order, ends):
        ids, types, lengths, _ = examples.gather(indices)
        step = encoder.batch([encoder.Part(place, ids, types, lengths) for place in places], model.device)
        for logits, kept in zip(model(step), found, strict=True):
            kept.append(logits.cpu().numpy())
    back = np.argsort(order, kind="stable")
    return [np.concatenate(kept)[back] for kept in found]


def _end_epoch(model, ended: list[Run], task: Task, tokens: dict, rate: float) -> None:
    """Evaluate the runs, add a row to each, and keep the best epoch's tensors."""
    places = [run.place for run in ended]
    main = tokens[task.eval_splits[0]]
    scores = [_score(task, logits, main.labels) for logits in predict(model, places, main)]
    second = [math.nan] * len(ended)
    if len(task.eval_splits) == 2:
        other = tokens[task.eval_splits[1]]
        second = [_score(task, logits, other.labels)["accuracy"] for logits in predict(model, places, other)]
    for run, score, mismatched in zip(ended, scores, second, strict=True):
        train_loss = float(run.loss) / len(tokens["train"])
        finite = math.isfinite(train_loss) and math.isfinite(score["eval_loss"])
        run.epoch, run.order = run.epoch + 1, None
        row = dict.fromkeys(records.METRICS_COLUMNS, math.nan) | dict(
            epoch=run.epoch,
            step=run.step,
            status="ok" if finite else "non_finite",
            learning_rate=run.optimizer.param_groups[0]["lr"],
        )
        if finite:
            row |= score | dict(train_loss=train_loss, accuracy_mismatched=mismatched)
        run.rows.append(row)
        best = run.rows[run.best_epoch - 1][task.metric] if run.best_epoch else -math.inf
        if finite and (not run.best_epoch or row[task.metric] > best or math.isnan(best)):
            run.best_epoch = run.epoch
            run.best = {name: value.detach().cpu().clone() for name, value in run.parameters.items()}
        log.info(
            "seed %d epoch %d/%d: train loss %.4f, eval loss %.4f, %s %.4f, %.0f examples/s in the pack", run.seed,
            run.epoch, run.hparams.epochs, train_loss, row["eval_loss"], task.metric, row[task.metric], rate,
        )  # fmt: skip


def _score(task: Task, logits: np.ndarray, labels: np.ndarray) -> dict:
    """eval_loss and the metrics of one run; all NaN when its logits are not finite."""
    if not np.isfinite(logits).all():
        return dict(eval_loss=math.nan, accuracy=math.nan)
    loss = layers.loss_sum(torch.from_numpy(logits), torch.from_numpy(np.array(labels)))
    return dict(eval_loss=float(loss) / len(labels)) | metrics.evaluate_predictions(task.num_labels, logits, labels)
