"""Command line: one verb per workflow rule. It parses, calls one function and exits.

Errors that a user can mend (ValueError, FetchError, a missing file) are one message and exit status 2, everything else a
stack trace; both go to the log file too. Heavy libraries load inside the verb that needs them.
"""

import argparse
import dataclasses
import json
import logging
import os
import sys
from pathlib import Path

from lora import facts, grid, packs, spec

log = logging.getLogger("lora")
SPIN = "10000"  # turns of a waiting thread
CELL_OPTIONS = (*spec.CELL_AXES, "data_dir", "tokens_dir", "cache_dir")  # of train, one cell


def main(argv: list[str] | None = None) -> int:
    """Run one verb; returns the exit status."""
    arguments = _parser().parse_args(argv)
    _log_to(arguments.log)
    # Threads spin for some microseconds before they sleep, not for milliseconds: measured on 2 cores, as fast as before when
    # they are alone (a tenth slower on a small model), 7 times as fast beside one other busy process. Read with torch.
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", SPIN)
    from lora.fetch import FetchError
    from lora.interrupt import Interrupted

    try:
        arguments.verb(arguments)
    except (ValueError, FetchError, FileNotFoundError, MemoryError) as error:
        log.error("lora %s: %s", arguments.name, error)
        return 2
    except Interrupted as error:
        log.warning("lora %s: %s", arguments.name, error)
        return 128 + error.number
    except Exception:
        log.exception("lora %s stopped", arguments.name)
        return 1
    return 0


def _log_to(path: Path | None) -> None:
    """Everything to the log file where there is one, and then only warnings to standard error."""
    console = logging.StreamHandler()
    console.setLevel(logging.WARNING if path else logging.INFO)
    handlers: list[logging.Handler] = [console]
    if path:
        path.parent.mkdir(parents=True, exist_ok=True)
        handlers.append(logging.FileHandler(path, mode="w", encoding="utf-8"))
    logging.basicConfig(level=logging.INFO, handlers=handlers, format="%(asctime)s %(message)s", force=True)


def _config(written: str) -> dict:
    """A config from a YAML file, laid over config/config.yaml as Snakemake does, or from JSON text as rules pass it."""
    if written.lstrip().startswith("{"):
        return json.loads(written)
    import yaml

    def over(base: dict, top: dict) -> dict:
        both = {key: over(base[key], top[key]) for key in base.keys() & top.keys() if _are_dicts(base[key], top[key])}
        return base | top | both

    base = yaml.safe_load((facts.ROOT / "config/config.yaml").read_text(encoding="utf-8"))
    return over(base, yaml.safe_load(Path(written).read_text(encoding="utf-8")) or {})


def _are_dicts(*values) -> bool:
    return all(isinstance(value, dict) for value in values)


def _fetch(arguments) -> None:
    from lora import fetch

    given = {key: value for key in ("role", "kind", "locator", "revision", "sha256", "licence")
             if (value := getattr(arguments, key)) is not None}  # fmt: skip
    registry = facts.read_sources()
    if arguments.source in registry:
        source = dataclasses.replace(registry[arguments.source], **given)
    else:
        source = facts.read_sources({arguments.source: given})[arguments.source]
    fetch.fetch(source, arguments.output_dir)


def _task(name: str) -> spec.Task:
    tasks = facts.read_tasks()
    if name not in tasks:
        raise ValueError(f"no task {name!r}; allowed: {', '.join(tasks)}")
    return tasks[name]


def _prepare(arguments) -> None:
    from lora import data

    data.prepare(
        _task(arguments.task), arguments.data_dir, arguments.model_dir, arguments.max_tokens, arguments.output_dir
    )  # fmt: skip


def _train(arguments) -> None:
    asked, model_dir = _one_cell(arguments) if arguments.cells is None else _cells(arguments)
    from lora import train

    state_dir = arguments.state_dir or arguments.output_dir / ".state"
    train.train(
        asked, model_dir, state_dir, arguments.device, arguments.micro_batch, arguments.precision,
        arguments.checkpoint_every_s,
    )  # fmt: skip


def _given(arguments, names) -> list[str]:
    """Those of these options that are on the command line."""
    return [f"--{name.replace('_', '-')}" for name in names if getattr(arguments, name) is not None]


def _cells(arguments) -> tuple[list, Path]:
    """What a workflow's job trains: every run asked for, and the model's folder."""
    excluded = _given(arguments, (*CELL_OPTIONS, "seed", *spec.HPARAM_NAMES))
    if excluded:
        raise ValueError(f"--cells says all of it; leave out {', '.join(excluded)}")
    if arguments.seeds is None or arguments.model_dir is None:
        raise ValueError("--cells needs --seeds and --model-dir")
    cells = packs.parse_json(arguments.cells)
    tasks = {one.cell.task: _task(one.cell.task) for one in cells}
    from lora.runs import Asked

    asked = []
    for one in cells:
        for seed in arguments.seeds:
            folder = arguments.output_dir / one.cell.path / f"seed{seed}"
            settings = spec.run_settings(one.cell, seed, one.hparams)
            starts = tuple(map(Path, one.start_dirs))
            asked.append(Asked(settings, tasks[one.cell.task], Path(one.tokens_dir), folder, starts))
    return asked, arguments.model_dir


def _one_cell(arguments) -> tuple[list, Path]:
    """What a person trains: the runs of one cell, with data and model fetched where no folder is given."""
    missing = [f"--{name}" for name in ("task", "weights", "rank") if getattr(arguments, name) is None]
    if missing:
        raise ValueError(f"give {', '.join(missing)}")
    for name, value in arguments.cell_defaults.items():
        if getattr(arguments, name) is None:
            setattr(arguments, name, value)
    task = _task(arguments.task)
    cell = spec.Cell(
        arguments.model, task.name, arguments.method, arguments.weights, arguments.rank, arguments.protocol
    )  # fmt: skip
    given = {name: value for name in spec.HPARAM_NAMES if (value := getattr(arguments, name)) is not None}
    hparams = facts.resolve(facts.read_facts("hparams.csv"), cell, given)
    if hparams.start_task:
        raise ValueError(
            f"this protocol starts {task.name} from the best run of {hparams.start_task}; give --start, with "
            f"{spec.PRETRAINED} or a PEFT folder such as that run's adapter/, or use the workflow"
        )
    model_dir, tokens_dir = arguments.model_dir, arguments.tokens_dir
    if model_dir is None or tokens_dir is None:
        model_dir, tokens_dir = _inputs(cell, task, hparams, arguments)
    from lora.runs import Asked

    asked = []
    for seed in arguments.seeds or [arguments.seed]:
        folder = arguments.output_dir / f"seed{seed}" if arguments.seeds else arguments.output_dir
        asked.append(Asked(spec.run_settings(cell, seed, hparams), task, tokens_dir, folder))
    return asked, model_dir


def _inputs(cell: spec.Cell, task: spec.Task, hparams: spec.Hparams, arguments) -> tuple[Path, Path]:
    """Without a workflow around it, train fetches and prepares what it needs, into --cache-dir."""
    from lora import data, fetch

    sources = facts.read_sources()
    if arguments.model_dir is None and cell.model not in sources:
        raise ValueError(f"no model {cell.model!r} in config/sources.csv; give --model-dir, or add a row")
    model_dir = arguments.model_dir or arguments.cache_dir / "sources" / cell.model
    data_dir = arguments.data_dir or arguments.cache_dir / "sources" / task.dataset
    tokens_dir = arguments.cache_dir / "tokens" / cell.model / task.name / f"t{hparams.max_tokens}"
    if arguments.model_dir is None:
        fetch.fetch(sources[cell.model], model_dir)
    if arguments.data_dir is None:
        fetch.fetch(sources[task.dataset], data_dir)
    data.prepare(task, data_dir, model_dir, hparams.max_tokens, tokens_dir)
    return model_dir, tokens_dir


def _collect(arguments) -> None:
    from lora import tables

    tables.collect(grid.load(_config(arguments.config)), arguments.runs_dir, arguments.output)


def _table(arguments) -> None:
    from lora import tables

    tables.write(grid.load(_config(arguments.config)), arguments.runs, arguments.table, arguments.output_dir)


def _provenance(arguments) -> None:
    from lora import tables

    config = _config(arguments.config)
    tables.write_provenance(grid.load(config), config, arguments.runs_dir, arguments.output_dir)


def _plot(arguments) -> None:
    from lora import plots

    plots.draw(arguments.figure, arguments.tables_dir, arguments.output)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="lora", description=sys.modules["lora"].__doc__)
    verbs = parser.add_subparsers(title="verbs", required=True, metavar="VERB", dest="name")

    def verb(name: str, function, about: str) -> argparse.ArgumentParser:
        added = verbs.add_parser(name, help=about, description=about)
        added.set_defaults(verb=function)
        added.add_argument("--log", type=Path, help="log file; then standard error shows warnings and progress only")
        return added

    fetch = verb("fetch", _fetch, "bring a source of config/sources.csv into a folder, verified")
    fetch.add_argument("source", help="its name")
    for key in ("role", "kind", "locator", "revision", "sha256", "licence"):
        fetch.add_argument(f"--{key}", help=f"instead of the registry's {key}")
    fetch.add_argument("--output-dir", type=Path, required=True)

    prepare = verb("prepare", _prepare, "tokenise a task's splits for a model")
    prepare.add_argument("--task", required=True)
    prepare.add_argument("--data-dir", type=Path, required=True)
    prepare.add_argument("--model-dir", type=Path, required=True)
    prepare.add_argument("--max-tokens", type=int, required=True)
    prepare.add_argument("--output-dir", type=Path, required=True)

    _add_train(verb("train", _train, "train one run, the runs of one cell, or those of several cells together"))

    def add_config(added):
        added.add_argument("--config", required=True, help="a YAML file laid over config/config.yaml, or JSON text")

    collect = verb("collect", _collect, "gather the per-run CSVs of a grid into one")
    add_config(collect)
    collect.add_argument("--runs-dir", type=Path, required=True)
    collect.add_argument("--output", type=Path, required=True)

    table = verb("table", _table, "make one table, in CSV, Markdown, LaTeX and HTML")
    table.add_argument("table", choices=["table2", "table6"])
    add_config(table)
    table.add_argument("--runs", type=Path, required=True, help="what collect wrote")
    table.add_argument("--output-dir", type=Path, required=True)

    provenance = verb("provenance", _provenance, "list what every run stood on: versions, hashes, device, commit")
    add_config(provenance)
    provenance.add_argument("--runs-dir", type=Path, required=True)
    provenance.add_argument("--output-dir", type=Path, required=True)

    plot = verb("plot", _plot, "draw one figure from the tables, in SVG and PNG")
    plot.add_argument("figure")
    plot.add_argument("--tables-dir", type=Path, required=True)
    plot.add_argument("--output", type=Path, required=True, help="path without its ending")
    return parser


def _add_train(train: argparse.ArgumentParser) -> None:
    defaults = _config(str(facts.ROOT / "config/config.yaml"))
    model, method = defaults["tables"]["table2"]["models"][0], defaults["tables"]["table2"]["method"]
    protocol = defaults["protocol"]
    train.set_defaults(
        cell_defaults=dict(model=model, method=method, protocol=protocol, cache_dir=Path(defaults["results"]))
    )
    train.add_argument("--task", help="a task of config/tasks.csv")
    train.add_argument("--model", help=f"a model of config/sources.csv (default {model})")
    train.add_argument("--method", help=f"default {method}")
    train.add_argument("--weights", help="weight types to adapt, letters of qkvo")
    train.add_argument("--rank", type=int)
    cells = f"several cells of one model instead: a JSON list of objects with the keys {', '.join(packs.CELL_KEYS)}"
    train.add_argument("--cells", metavar="JSON", help=f"{cells}; written to OUTPUT_DIR/<cell>/seed<n>")
    which = train.add_mutually_exclusive_group(required=True)
    which.add_argument("--seed", type=int, help="one run, written to the output folder")
    which.add_argument("--seeds", type=int, nargs="+", help="several in lock-step, written to its subfolders seed<n>")
    train.add_argument("--protocol", help=f"of config/hparams.csv (default {protocol})")
    train.add_argument("--output-dir", type=Path, required=True)
    train.add_argument("--state-dir", type=Path, help="where state is kept between jobs (default OUTPUT_DIR/.state)")
    train.add_argument("--model-dir", type=Path, help="a local model folder; fetched when not given")
    train.add_argument("--data-dir", type=Path, help="a local folder with the task's data; fetched when not given")
    train.add_argument("--tokens-dir", type=Path, help="what prepare wrote; prepared when not given")
    train.add_argument("--cache-dir", type=Path, help=f"for what is fetched and prepared (default {defaults['results']})")
    train.add_argument("--device", choices=["auto", "cpu", "cuda"], default=defaults["device"])
    train.add_argument("--micro-batch", type=int, default=defaults["micro_batch"], help="examples per pass; 0 is the step")
    every = defaults["checkpoint_every_s"]
    train.add_argument(
        "--checkpoint-every-s", type=float, default=every, help=f"seconds between states within an epoch (default {every})"
    )
    train.add_argument("--precision", choices=["auto", "bf16", "fp32"], default=defaults["precision"])
    settings = train.add_argument_group("hyperparameters", "instead of the protocol's (config/hparams.csv)")
    for name in spec.HPARAM_NAMES:
        unit = spec.HPARAM_FIELDS[name].metadata["unit"].replace("%", "%%")
        settings.add_argument(f"--{name.replace('_', '-')}", help=f"{unit}; {spec.allowed_values(name)}".lstrip("; "))


if __name__ == "__main__":
    sys.exit(main())
