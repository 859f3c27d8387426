"""Command line: one verb per workflow rule. It parses, calls one function and exits.

Errors that a user can mend (ValueError, FetchError, a missing file, a full disk) are one message and exit status 2, all else
is a stack trace; both go to the log file too. Heavy libraries load inside the verb that needs them.
"""

import argparse
import dataclasses
import logging
import os
import sys
from pathlib import Path

from lora import config_file, facts, grid, hub, spec, train_command

log = logging.getLogger("lora")
SPIN = "10000"  # turns of a waiting thread


def main(argv: list[str] | None = None) -> int:
    """Run one verb; returns the exit status."""
    arguments = _parser().parse_args(argv)
    try:
        _log_to(arguments.log)
    except OSError as error:
        print(f"lora {arguments.name}: --log cannot be written ({error}); give another path", file=sys.stderr)
        return 2
    # Threads spin for some microseconds before they sleep, not for milliseconds: measured on 2 cores, as fast as before when
    # they are alone (a tenth slower on a small model), 7 times as fast beside one other busy process. Read with torch.
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", SPIN)
    from lora.fetch import FetchError
    from lora.interrupt import Interrupted

    try:
        arguments.verb(arguments)
    except (ValueError, FetchError, OSError, MemoryError) as error:
        log.error("lora %s: %s", arguments.name, _message(error))
        return 2
    except Interrupted as error:
        log.warning("lora %s: %s", arguments.name, error)
        return 128 + error.number
    except Exception:
        log.exception("lora %s stopped", arguments.name)
        return 1
    return 0


def _message(error: Exception) -> str:
    """What to tell of an error: its own words, or, where they are the system's, also what to do."""
    if isinstance(error, OSError) and error.filename is not None and error.strerror:
        return f"{error.filename}: {error.strerror}; what is there is kept: mend this, then the same command goes on"
    return str(error) or "out of memory"


def _log_to(path: Path | None) -> None:
    """Everything to the log file where there is one, and then only warnings to standard error."""
    console = logging.StreamHandler()
    console.setLevel(logging.WARNING if path else logging.INFO)
    handlers: list[logging.Handler] = [console]
    if path:
        path.parent.mkdir(parents=True, exist_ok=True)
        handlers.append(logging.FileHandler(path, mode="w", encoding="utf-8"))
    logging.basicConfig(level=logging.INFO, handlers=handlers, format="%(asctime)s %(message)s", force=True)


def _fetch(arguments) -> None:
    from lora import fetch

    given = {key: value for key in ("role", "kind", "locator", "revision", "sha256", "licence")
             if (value := getattr(arguments, key)) is not None}  # fmt: skip
    registry = facts.read_sources()
    if arguments.source not in registry and not {"role", "kind", "locator"} <= set(given):
        raise ValueError(
            f"no source {spec.shown(arguments.source)} in config/sources.csv; allowed: {', '.join(registry)}, or another "
            "one with --role, --kind and --locator"
        )
    if arguments.source in registry:
        source = dataclasses.replace(registry[arguments.source], **given)
    else:
        source = facts.read_sources({arguments.source: given})[arguments.source]
    fetch.fetch(source, arguments.output_dir)


def _prepare(arguments) -> None:
    hub.stay_away()
    from lora import data

    data.prepare(
        facts.task(arguments.task), arguments.data_dir, arguments.model_dir, arguments.max_tokens, arguments.output_dir
    )  # fmt: skip


def _collect(arguments) -> None:
    from lora import tables

    tables.collect(grid.load(config_file.read(arguments.config)), arguments.runs_dir, arguments.output)


def _table(arguments) -> None:
    from lora import tables

    tables.write(grid.load(config_file.read(arguments.config)), arguments.runs, arguments.table, arguments.output_dir)


def _provenance(arguments) -> None:
    from lora import tables

    config = config_file.read(arguments.config)
    tables.write_provenance(grid.load(config), config, arguments.runs_dir, arguments.output_dir)


def _plan(arguments) -> None:
    from lora import plan

    asked = grid.load(config_file.read(*arguments.config))
    made = plan.Plan(asked)
    told = plan.text(made, Path(asked.config["results"]) / "runs")
    print(told, end="")
    if arguments.output_dir:
        from lora import planplot

        plan.write(made, told, arguments.output_dir)
        planplot.draw(arguments.output_dir / "makespan.csv", arguments.output_dir / "makespan")


def _plot(arguments) -> None:
    from lora import plots

    plots.draw(arguments.figure, arguments.tables_dir, arguments.output)


def _merge(arguments) -> None:
    from lora import merge

    merge.merge(arguments.adapter_dir, arguments.model_dir, arguments.output_dir)


def _queue(arguments) -> None:
    from lora import queue

    queue.report(arguments.cancel)


def _import_course(arguments) -> None:
    from lora import course

    protocol = arguments.protocol or course.PROTOCOL
    written = course.read_results(arguments.folder, arguments.output_dir, arguments.seed, arguments.alpha, protocol)
    log.info("%d runs written to %s", len(written), arguments.output_dir)


def _subspace(arguments) -> None:
    from lora import subspace

    subspace.write(arguments.runs, arguments.model_dir, arguments.output_dir, arguments.letters, arguments.layers)


def _heatmap(arguments) -> None:
    from lora import heatmaps

    heatmaps.draw(arguments.figure, arguments.phi, arguments.output)


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

    plan = verb("plan", _plan, "what a grid will cost, from its config alone, and what of it has been right so far")
    laid = "YAML files laid over config/config.yaml in turn (default: that alone), or JSON text"
    plan.add_argument("--config", nargs="+", default=[], metavar="FILE", help=laid)
    plan.add_argument("--output-dir", type=Path, help="folder for plan.txt, jobs.csv, makespan.csv and a picture")

    train = verb("train", train_command.train, "train one run, the runs of one cell, or those of several cells together")
    train_command.add_arguments(train)

    def add_config(added):
        added.add_argument("--config", required=True, help="a YAML file laid over config/config.yaml, or JSON text")

    collect = verb("collect", _collect, "gather the per-run CSVs of a grid into one")
    add_config(collect)
    collect.add_argument("--runs-dir", type=Path, required=True)
    collect.add_argument("--output", type=Path, required=True)

    table = verb("table", _table, "make one table, or `selection`: what choosing epochs adds")
    table.add_argument("table", choices=["table2", "table5", "table6", "selection"])
    add_config(table)
    table.add_argument("--runs", type=Path, required=True, help="what collect wrote")
    table.add_argument("--output-dir", type=Path, required=True)

    provenance = verb("provenance", _provenance, "list what every run stood on: versions, hashes, device, commit")
    add_config(provenance)
    provenance.add_argument("--runs-dir", type=Path, required=True)
    provenance.add_argument("--output-dir", type=Path, required=True)

    merge = verb("merge", _merge, "write a run's adapter and its base model as one plain transformers checkpoint")
    merge.add_argument("--adapter-dir", type=Path, required=True, help="a run's adapter/, or a PEFT LoRA folder")
    merge.add_argument("--model-dir", type=Path, required=True, help="the base model's folder")
    merge.add_argument("--output-dir", type=Path, required=True, help="a new or empty folder")

    course = verb("import-course", _import_course, "read the course re-implementation's result folders into runs")
    course.add_argument("folder", type=Path, help="its folder results: <task>/<run>/training_results.csv")
    course.add_argument("--output-dir", type=Path, required=True, help="results folder; runs go to its runs/")
    course.add_argument("--seed", type=int, help="of the runs whose folder names say none (MNLI)")
    course.add_argument("--alpha", help="of the runs whose folder names say none: a number, or <c>r")
    course.add_argument("--protocol", help="of config/hparams.csv (default course-as-run)")

    plot = verb("plot", _plot, "draw one figure from the tables, in SVG and PNG")
    plot.add_argument("figure")
    plot.add_argument("--tables-dir", type=Path, required=True)
    plot.add_argument("--output", type=Path, required=True, help="path without its ending")

    subspace = verb("subspace", _subspace, "compare the adapters of three runs, and each with its base (Sec. 7.2, 7.3)")
    subspace.add_argument("--runs", type=Path, nargs=3, required=True, metavar="RUN",
                          help="run folders: one of the lower rank, then two seeds of the higher")  # fmt: skip
    subspace.add_argument("--model-dir", type=Path, required=True, help="the base model they were trained on")
    subspace.add_argument("--letters", help="weight types to show (default: all that the runs adapt)")
    subspace.add_argument("--layers", type=int, nargs="+",
                          help="of Figures 6 and 7, from 1 (default: first, a third, two thirds, last)")  # fmt: skip
    subspace.add_argument("--output-dir", type=Path, required=True)

    queue = verb("queue", _queue, "say why jobs wait on a Slurm cluster, and which can never start")
    queue.add_argument("--cancel", action="store_true", help="end those that can never start")

    heatmap = verb("heatmap", _heatmap, "draw one of the paper's Figures 3, 4, 6, 7 from phi.csv, in SVG and PNG")
    heatmap.add_argument("figure")
    heatmap.add_argument("--phi", type=Path, required=True, help="what subspace wrote")
    heatmap.add_argument("--output", type=Path, required=True, help="path without its ending")
    return parser


if __name__ == "__main__":
    sys.exit(main())
