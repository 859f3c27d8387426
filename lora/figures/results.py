"""Draw the CSV files of the tables, in SVG and PNG.

Nothing is computed here: every mark is a number in a CSV file, so a figure can't disagree with a
table. The same CSV files give the same bytes: no dates, and a fixed salt for SVG names. Curves
against the rank are in `ranks`; what figures share is in `style`.
"""

from pathlib import Path

import matplotlib
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from lora.figures import ranks
from lora.figures import style as drawing
from lora.figures.style import BLACK, CELL, GREY, LEFT_OUT, SERIES, STYLE, finished, groups, points
from lora.tables.labels import METHODS, origin

OF_METHOD = ("method", "weights", "rank", "protocol")
FIGURES = ("table2", "rank_curves", "head_ablation", "learning_curves", "parameters")


def draw(figure: str, tables_folder: Path, output_stem: Path) -> None:
    """Write `output_stem`.svg and .png (200 dpi) of one of FIGURES, from the CSVs in
    `tables_folder`.

    Marks of a table that was not requested are not drawn. Raises ValueError for
    another figure.
    """
    if figure not in FIGURES:
        raise ValueError(f"no figure {figure!r}; there are: {', '.join(FIGURES)}; name one of them")
    make = {
        "table2": _table2,
        "rank_curves": ranks.rank_curves,
        "head_ablation": ranks.head_ablation,
        "learning_curves": _learning_curves,
        "parameters": _parameters,
    }
    stem = Path(output_stem)
    stem.parent.mkdir(parents=True, exist_ok=True)
    with matplotlib.rc_context(
        {**matplotlib.rcParamsDefault, **STYLE, "backend": matplotlib.rcParams["backend"]}
    ):
        drawn = make[figure](Path(tables_folder))
        drawn.savefig(stem.with_name(f"{stem.name}.svg"), metadata={"Date": None})
        drawn.savefig(stem.with_name(f"{stem.name}.png"), dpi=200, metadata={"Software": None})


def _table2(folder: Path) -> Figure:
    """Rows of panels for each model, a panel a task: down the methods, across the metric; each
    run's best epoch, their median and std, and what was published of the same cell.
    """
    cells = [row for row in drawing.read(folder, "table2") if row["metric"] not in LEFT_OUT]
    runs, facts = (
        drawing.read(folder, "table2", "_best"),
        drawing.read(folder, "table2", "_published"),
    )
    facts = [fact for fact in facts if fact["relation"] == "same"]
    if not finished(cells):
        return drawing.nothing("Table 2: no finished run to show")
    columns = min(4, len(groups(cells, "task")))
    bands = []  # a row of panels: those of up to four tasks of one model
    for of_model in groups(cells, "model").values():
        tasks = list(groups(of_model, "task").values())
        bands += [tasks[start : start + columns] for start in range(0, len(tasks), columns)]
    heights = [max(1.6, 0.27 * len(band[0]) + 0.75) for band in bands]
    figure, axes = drawing.panels(
        len(bands), columns, sum(heights), width=2.2, height_ratios=heights
    )
    several = drawing.several(cells, "protocol")
    for line, band in zip(axes, bands, strict=True):
        for axis, of_task in zip(line, band, strict=False):
            _method_panel(axis, drawing.method_order(of_task), runs, facts)
            axis.tick_params(axis="y", labelleft=axis is line[0], length=0)
        names = [
            drawing.row_label(cell) + (f"\n{cell['protocol']}" if several else "")
            for cell in drawing.method_order(band[0])
        ]
        line[0].set_yticks(range(len(names)), names, fontsize=6.5 if several else 7.5)
        for axis in line[len(band) :]:
            axis.set_axis_off()
    drawing.finish(figure, axes.flat, axes.size)
    fewer = any(
        cell["n"] < cell["n_expected"] for line in bands for of_task in line for cell in of_task
    )
    said = " n: finished runs." if fewer else ""
    drawing.caption(
        figure, f"Best epoch of each run, chosen on the set it is shown on.{said}", runs
    )
    return figure


def _method_panel(axis, of_task: list[dict], runs: list[dict], facts: list[dict]) -> None:
    """One task of one model, a line a method."""
    for place, cell in enumerate(of_task):
        dots = [
            run["best_value"] for run in runs if run["status"] == "ok" and drawing.same(run, cell)
        ]
        bars = dict(linestyle="", capsize=2.5)
        points(
            axis,
            dots,
            [place] * len(dots),
            (GREY, ".", ""),
            alpha=0.8,
            label="one run",
            linestyle="",
        )
        points(
            axis,
            [cell["best_median"]],
            [place + 0.17],
            SERIES[0],
            sideways=[cell["best_std"]],
            label="ours, median ± std",
            **bars,
        )
        beside = [fact for fact in facts if _is_beside(fact, cell)]
        for shift, fact in enumerate(beside):
            whose = origin(fact)
            points(
                axis,
                [float(fact["value"])],
                [place + 0.34 + 0.17 * shift],
                SERIES[1 if whose == "paper" else 2],
                sideways=[fact["spread"]],
                mfc="white",
                label=f"{whose} ± its spread",
                **bars,
            )
        if cell["n"] < cell["n_expected"]:
            place_of = dict(
                transform=axis.get_yaxis_transform(),
                ha="right",
                va="bottom",
                fontsize=5.5,
                color=GREY,
            )
            axis.text(1, place - 0.06, f"n={cell['n']} of {cell['n_expected']}", **place_of)
    axis.set_ylim(len(of_task) - 0.3, -0.45)
    axis.set_yticks(range(len(of_task)))
    axis.set_title(f"{of_task[0]['task_title']}\n{drawing.model(of_task[0]['model'])}", fontsize=8)
    axis.set_xlabel(drawing.metric(of_task[0]["metric"]), fontsize=7)
    axis.xaxis.set_major_locator(drawing.ticks())
    axis.margins(x=0.12)


def _is_beside(fact: dict, cell: dict) -> bool:
    keys = [key for key in (*CELL, "metric") if key != "protocol"]
    return all(fact[key] == cell[key] for key in keys) and fact["ours_protocol"] == cell["protocol"]


def _learning_curves(folder: Path) -> Figure:
    """Two panels for each model and task, metric above losses, a line a cell: mean over runs, band
    from lowest to highest.

    Of table 2, or where there is none of table 5 or 6; of table 6 two panels a weight type and
    protocol, a line a rank.
    """
    table = next(
        (name for name in ("table2", "table5", "table6") if drawing.read(folder, name)), "table2"
    )
    rows, runs = drawing.read(folder, table, "_curves"), drawing.read(folder, table, "_best")
    if not rows:
        return drawing.nothing("Learning curves: no finished run to show")
    apart = (
        ("method", "weights", "protocol") if table == "table6" else ()
    )  # told by panels, all else by lines
    shown = groups(rows, "model", "task_title", "metric", *apart)
    alone = all(len(groups(panel, *CELL)) == 1 for panel in shown.values())
    columns = min(4, len(groups(rows, "weights")) if apart and not alone else len(shown))
    blocks = -(-len(shown) // columns)
    figure, axes = drawing.panels(2 * blocks, columns, 3.7 * blocks, width=1.9)
    pairs = [
        (axes[2 * block, column], axes[2 * block + 1, column])
        for block in range(blocks)
        for column in range(columns)
    ]
    colours = drawing.series_of([row | dict.fromkeys(apart, "lora") for row in rows])
    for (above, below), panel in zip(pairs, shown.values(), strict=False):
        for line in groups(drawing.method_order(panel), *CELL).values():
            of_line = line[0] | dict.fromkeys(apart, "lora")
            series = colours[tuple(of_line[key] for key in OF_METHOD)]
            label = f"r={of_line['rank']}" if apart else _line_name(of_line, rows)
            _curves(above, below, line, *((SERIES[0], None) if alone else (series, label)))
        first, name = panel[0], ""
        if alone:
            name = f"{_line_name(first, rows)}, "
        elif apart:
            is_lora = first["method"] == "lora"
            adapted = drawing.adapted(first) if is_lora else drawing.symbol(first["method"])
            name = f"{adapted}, "
        under = (
            f", {first['protocol']}"
            if apart and not alone and drawing.several(rows, "protocol")
            else ""
        )
        model_name = drawing.model(first["model"])
        about = f"{first['task_title']}\n{model_name}{under}\n{name}{drawing.count(panel)}"
        above.set_title(about, fontsize=7)
        above.set_ylabel(drawing.metric(first["metric"]), fontsize=7)
        below.set_xlabel("epoch")
        below.set_ylabel("loss")
        for axis in (above, below):
            axis.xaxis.set_major_locator(drawing.ticks(integer=True, min_n_ticks=1))
            axis.yaxis.set_major_locator(drawing.ticks())
    losses = [] if alone else [("training loss", ":", ""), ("evaluation loss", "-", ".")]
    losses = {
        name: Line2D([], [], color=BLACK, linestyle=dash, marker=mark)
        for name, dash, mark in losses
    }
    drawing.finish(
        figure, [axis for pair in pairs for axis in pair], 2 * len(shown), proxies=losses
    )
    text = "Mean over runs; band: lowest to highest run. "
    text += "Training loss is the epoch's mean, with dropout."
    drawing.caption(figure, text, runs)
    return figure


def _curves(above, below, line: list[dict], series, label: str | None) -> None:
    """One cell: its metric above, its losses below; without a label it is alone there, and colours
    tell what is what.
    """
    _band(above, line, "metric", series, label or "metric")
    if label:
        _band(below, line, "train_loss", (series[0], "", ":"), None)
        _band(below, line, "eval_loss", series, None)
    else:
        _band(below, line, "train_loss", SERIES[1], "training loss")
        _band(below, line, "eval_loss", SERIES[2], "evaluation loss")


def _line_name(row: dict, rows: list[dict]) -> str:
    return drawing.row_label(row) + (
        f", {row['protocol']}" if drawing.several(rows, "protocol") else ""
    )


def _band(axis, line: list[dict], what: str, series, label: str | None) -> None:
    colour, marker, dash = series
    epochs = [row["epoch"] for row in line]
    mean, low, high = (
        [row[f"{what}_{statistic}"] for row in line] for statistic in ("mean", "min", "max")
    )
    axis.fill_between(epochs, low, high, color=colour, alpha=0.13, linewidth=0)
    marks = dict(marker=marker, markersize=3) if len(epochs) <= 20 else {}
    axis.plot(epochs, mean, color=colour, linestyle=dash, label=label, **marks)


def _parameters(folder: Path) -> Figure:
    """A panel a model and task: median of the best epoch against trained parameters, beside the
    published methods.
    """
    shown, runs = {}, {}  # a cell that two tables have is drawn once
    for name in ("table2", "table5", "table6"):
        rows = [row for row in drawing.read(folder, name) if row["metric"] not in LEFT_OUT]
        shown |= {tuple(row[key] for key in CELL): row for row in finished(rows)}
        runs |= {
            tuple(run[key] for key in (*CELL, "seed")): run
            for run in drawing.read(folder, name, "_best")
        }
    if not shown:
        return drawing.nothing("Trained parameters: no finished run to show")
    facts = [
        fact
        for fact in drawing.read(folder, "table2", "_published")
        if fact["relation"] != "reference"
    ]
    facts = [fact for fact in facts if fact["trainable"] and origin(fact) == "paper"]
    known = {(fact["model"], fact["task"]) for fact in facts}
    panels = groups(
        drawing.method_order(list(shown.values())), "model", "task", "task_title", "metric"
    )
    panels = {key: rows for key, rows in panels.items() if len(rows) > 1 or key[:2] in known}
    if not panels:
        return drawing.nothing(
            "Trained parameters: one cell a task, and nothing published beside it"
        )
    columns = min(4, len(panels))
    figure, axes = drawing.panels(
        -(-len(panels) // columns), columns, 2.4 * -(-len(panels) // columns), width=1.9
    )
    alike = [
        row | dict(rank=0, weights=row["weights"] if row["method"] == "lora" else "")
        for row in shown.values()
    ]
    colours, methods = drawing.series_of(alike), list(METHODS)
    for axis, ((model, task, title, metric), _) in zip(axes.flat, panels.items(), strict=False):
        of_task = [
            row
            for row in drawing.method_order(alike)
            if (row["model"], row["task"]) == (model, task)
        ]
        for key, line in groups(of_task, *OF_METHOD).items():
            line = sorted(line, key=lambda row: row["trainable"])
            x, y, spread = (
                [row[key] for row in line] for key in ("trainable", "best_median", "best_std")
            )
            points(axis, x, y, colours[key], vertical=spread, label=_series_name(line[0], alike))
        for fact in facts:
            if (fact["model"], fact["task"], fact["metric"]) == (model, task, metric):
                mark = "x1*+23"[methods.index(fact["method"])]
                count = float(fact["trainable"].removesuffix("M")) * 1e6
                name = f"paper, {drawing.symbol(fact['method'])}"
                style = dict(linestyle="", color=BLACK, zorder=3, marker=mark, label=name)
                axis.plot([count], [float(fact["value"])], **style)
        axis.set_xscale("log")
        axis.set_title(f"{title}\n{drawing.model(model)}", fontsize=8)
        axis.set_ylabel(drawing.metric(metric), fontsize=7)
        axis.set_xlabel("trained parameters")
        axis.yaxis.set_major_locator(drawing.ticks())
        axis.margins(x=0.12, y=0.12)
    drawing.finish(figure, axes.flat, len(panels))
    text = (
        "Median ± std over runs of each run's best epoch. Parameters: logarithmic, without the "
        "classification head."
    )
    drawing.caption(figure, text, list(runs.values()))
    return figure


def _series_name(row: dict, rows: list[dict]) -> str:
    """What the sizes of one method have in common, with the protocol where it has several."""
    what = drawing.weights(row["weights"]) if row["method"] == "lora" else ""
    alike = [
        other
        for other in rows
        if (other["method"], other["weights"]) == (row["method"], row["weights"])
    ]
    under = row["protocol"] if drawing.several(alike, "protocol") else ""
    return ", ".join(
        word for word in (f"{drawing.symbol(row['method'])} {what}".strip(), under) if word
    )
