"""Command line: one verb for each rule of the workflow. Heavy libraries are imported inside the verb that needs them."""

import argparse
import dataclasses
import logging
from pathlib import Path

import lora
from lora import cli_train
from lora.data import hub
from lora.errors import shown
from lora.experiment import config, grid, registry

log = logging.getLogger("lora")


def _fetch(arguments) -> None:
    from lora.data import fetch

    given = {key: value for key in ("role", "kind", "locator", "revision", "sha256", "licence")
             if (value := getattr(arguments, key)) is not None}  # fmt: skip
    sources = registry.read_sources()
    if arguments.source not in sources and not {"role", "kind", "locator"} <= set(given):
        raise ValueError(
            f"no source {shown(arguments.source)} in config/sources.csv; allowed: {', '.join(sources)}, or another "
            "one with --role, --kind and --locator"
        )
    if arguments.source in sources:
        source = dataclasses.replace(sources[arguments.source], **given)
    else:
        source = registry.read_sources({arguments.source: given})[arguments.source]
    fetch.fetch(source, arguments.output_dir)


def _prepare(arguments) -> None:
    hub.stay_away()
    from lora.data import tokens

    tokens.prepare(
        registry.task(arguments.task), arguments.data_dir, arguments.model_dir, arguments.max_tokens, arguments.output_dir
    )  # fmt: skip


def _collect(arguments) -> None:
    from lora.tables import collect

    collect.collect(grid.load(config.read(arguments.config)), arguments.runs_dir, arguments.output)


def _table(arguments) -> None:
    from lora.tables import cells

    cells.write(
        grid.load(config.read(arguments.config)),
        arguments.runs,
        arguments.table,
        arguments.output_dir,
    )


def _provenance(arguments) -> None:
    from lora.tables import collect

    merged = config.read(arguments.config)
    collect.write_provenance(grid.load(merged), merged, arguments.runs_dir, arguments.output_dir)


def _plan(arguments) -> None:
    from lora.planning import plan

    asked = grid.load(config.read(*arguments.config))
    made = plan.Plan(asked)
    told = plan.text(made, Path(asked.config["results"]) / "runs")
    print(told, end="")
    if arguments.output_dir:
        from lora.figures import makespan

        plan.write(made, told, arguments.output_dir)
        makespan.draw(arguments.output_dir / "makespan.csv", arguments.output_dir / "makespan")


def _plot(arguments) -> None:
    from lora.figures import results

    results.draw(arguments.figure, arguments.tables_dir, arguments.output)


def _merge(arguments) -> None:
    from lora.adapters import merge

    merge.merge(arguments.adapter_dir, arguments.model_dir, arguments.output_dir)


def _queue(arguments) -> None:
    from lora.planning import slurm_queue

    slurm_queue.report(arguments.cancel)


def _import_course(arguments) -> None:
    from lora.tables import import_course as course

    protocol = arguments.protocol or course.PROTOCOL
    written = course.read_results(
        arguments.folder, arguments.output_dir, arguments.seed, arguments.alpha, protocol
    )
    log.info("%d runs written to %s", len(written), arguments.output_dir)


def _subspace(arguments) -> None:
    from lora.adapters import subspace

    subspace.write(
        arguments.runs,
        arguments.model_dir,
        arguments.output_dir,
        arguments.letters,
        arguments.layers,
    )


def _heatmap(arguments) -> None:
    from lora.figures import subspace as heatmaps

    heatmaps.draw(arguments.figure, arguments.phi, arguments.output)


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(prog="lora", description=lora.__doc__)
    verbs = made.add_subparsers(title="verbs", required=True, metavar="VERB", dest="name")

    def verb(name: str, function, about: str) -> argparse.ArgumentParser:
        added = verbs.add_parser(name, help=about, description=about)
        added.set_defaults(verb=function)
        added.add_argument(
            "--log",
            type=Path,
            help="log file; then standard error shows warnings and progress only",
        )
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

    plan = verb(
        "plan",
        _plan,
        "what a grid will cost, from its config alone, and what of it has been right so far",
    )
    laid = "YAML files laid over config/config.yaml in turn (default: that alone), or JSON text"
    plan.add_argument("--config", nargs="+", default=[], metavar="FILE", help=laid)
    plan.add_argument(
        "--output-dir", type=Path, help="folder for plan.txt, jobs.csv, makespan.csv and a picture"
    )

    train = verb(
        "train",
        cli_train.train,
        "train one run, the runs of one cell, or those of several cells together",
    )
    cli_train.add_arguments(train)

    def add_config(added):
        added.add_argument(
            "--config", required=True, help="a YAML file laid over config/config.yaml, or JSON text"
        )

    collect = verb("collect", _collect, "gather the per-run CSVs of a grid into one")
    add_config(collect)
    collect.add_argument("--runs-dir", type=Path, required=True)
    collect.add_argument("--output", type=Path, required=True)

    table = verb("table", _table, "make one table, or `selection`: what choosing epochs adds")
    table.add_argument("table", choices=["table2", "table5", "table6", "selection"])
    add_config(table)
    table.add_argument("--runs", type=Path, required=True, help="what collect wrote")
    table.add_argument("--output-dir", type=Path, required=True)

    provenance = verb(
        "provenance", _provenance, "list what every run stood on: versions, hashes, device, commit"
    )
    add_config(provenance)
    provenance.add_argument("--runs-dir", type=Path, required=True)
    provenance.add_argument("--output-dir", type=Path, required=True)

    merge = verb(
        "merge",
        _merge,
        "write a run's adapter and its base model as one plain transformers checkpoint",
    )
    merge.add_argument(
        "--adapter-dir", type=Path, required=True, help="a run's adapter/, or a PEFT LoRA folder"
    )
    merge.add_argument("--model-dir", type=Path, required=True, help="the base model's folder")
    merge.add_argument("--output-dir", type=Path, required=True, help="a new or empty folder")

    course = verb(
        "import-course",
        _import_course,
        "read the course re-implementation's result folders into runs",
    )
    course.add_argument(
        "folder", type=Path, help="its folder results: <task>/<run>/training_results.csv"
    )
    course.add_argument(
        "--output-dir", type=Path, required=True, help="results folder; runs go to its runs/"
    )
    course.add_argument("--seed", type=int, help="of the runs whose folder names say none (MNLI)")
    course.add_argument(
        "--alpha", help="of the runs whose folder names say none: a number, or <c>r"
    )
    course.add_argument("--protocol", help="of config/hparams.csv (default course-as-run)")

    plot = verb("plot", _plot, "draw one figure from the tables, in SVG and PNG")
    plot.add_argument("figure")
    plot.add_argument("--tables-dir", type=Path, required=True)
    plot.add_argument("--output", type=Path, required=True, help="path without its ending")

    subspace = verb(
        "subspace",
        _subspace,
        "compare the adapters of three runs, and each with its base (Sec. 7.2, 7.3)",
    )
    subspace.add_argument("--runs", type=Path, nargs=3, required=True, metavar="RUN",
                          help="run folders: one of the lower rank, then two seeds of the higher")  # fmt: skip
    subspace.add_argument(
        "--model-dir", type=Path, required=True, help="the base model they were trained on"
    )
    subspace.add_argument(
        "--letters", help="weight types to show (default: all that the runs adapt)"
    )
    subspace.add_argument("--layers", type=int, nargs="+",
                          help="of Figures 6 and 7, from 1 (default: first, a third, two thirds, last)")  # fmt: skip
    subspace.add_argument("--output-dir", type=Path, required=True)

    queue = verb("queue", _queue, "say why jobs wait on a Slurm cluster, and which can never start")
    queue.add_argument("--cancel", action="store_true", help="end those that can never start")

    heatmap = verb(
        "heatmap",
        _heatmap,
        "draw one of the paper's Figures 3, 4, 6, 7 from phi.csv, in SVG and PNG",
    )
    heatmap.add_argument("figure")
    heatmap.add_argument("--phi", type=Path, required=True, help="what subspace wrote")
    heatmap.add_argument("--output", type=Path, required=True, help="path without its ending")
    return made
