"""The tables' CSVs as pictures, in SVG and PNG. Nothing is computed here: every mark is a number some CSV holds.

So a figure can be drawn anywhere from results alone, and cannot disagree with a table. Series differ by colour (Okabe and
Ito's palette, safe for colour-blind readers), by marker and by dash. A run that failed or is missing is absent from the
picture and said in its caption; a figure without anything to show says that. The cost of reading CSVs only is that what
no table holds cannot be drawn. The same CSVs give the same bytes: no dates, and a fixed salt for SVG names.
"""

import textwrap
from pathlib import Path

import matplotlib
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullLocator

from lora import records
from lora.page import METHODS, METRICS, MODELS, origin

FIGURES = ("table2", "rank_curves", "learning_curves", "parameters")
BLACK, BLUE, ORANGE, GREEN, PURPLE, GREY = "#000000", "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#666666"
SERIES = (  # colour, marker, dash
    (BLUE, "o", "-"),
    (ORANGE, "s", (0, (5, 2))),
    (GREEN, "^", (0, (1, 1.5))),
    (PURPLE, "D", (0, (5, 1.5, 1, 1.5))),
    ("#56B4E9", "v", (0, (8, 2))),
    ("#E69F00", "P", (0, (3, 1, 1, 1, 1, 1))),
)
STYLE = {
    "font.family": "DejaVu Sans",
    "font.size": 8,
    "axes.titlesize": 8.5,
    "axes.titleweight": "bold",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e3e5e8",
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "legend.fontsize": 7.5,
    "lines.linewidth": 1.4,
    "lines.markersize": 4.5,
    "svg.hashsalt": "lora",
    "svg.fonttype": "path",
}
CELL = ("model", "task", "method", "weights", "rank")
KINDS = {"": "TABLE", "_published": "PUBLISHED", "_best": "BEST", "_curves": "CURVES"}


def draw(figure: str, tables_folder: Path, output_stem: Path) -> None:
    """Write `output_stem`.svg and .png (200 dpi) of one of FIGURES, from the CSVs in `tables_folder`.

    A table that was not asked for is not there, and its marks are not drawn. Raises ValueError for another figure.
    """
    if figure not in FIGURES:
        raise ValueError(f"no figure {figure!r}; there are: {', '.join(FIGURES)}; name one of them")
    make = {"table2": _table2, "rank_curves": _rank_curves, "learning_curves": _learning_curves, "parameters": _parameters}
    stem = Path(output_stem)
    stem.parent.mkdir(parents=True, exist_ok=True)
    with matplotlib.rc_context({**matplotlib.rcParamsDefault, **STYLE, "backend": matplotlib.rcParams["backend"]}):
        drawn = make[figure](Path(tables_folder))
        drawn.savefig(stem.with_name(f"{stem.name}.svg"), metadata={"Date": None})
        drawn.savefig(stem.with_name(f"{stem.name}.png"), dpi=200, metadata={"Software": None})


def _read(folder: Path, table: str, kind: str = "") -> list[dict]:
    """Rows of one of a table's CSVs; none where the table was not asked for."""
    path = folder / f"{table}{kind}.csv"
    return records.read_csv(path, getattr(records, f"{KINDS[kind]}_COLUMNS")) if path.is_file() else []


def _panels(rows: int, columns: int, height: float, width: float = 2.4, **shared):
    figure = Figure(figsize=(max(4.6, width * columns + 0.5), height + 0.55), layout="constrained")
    return figure, figure.subplots(rows, columns, squeeze=False, **shared)


def _ticks(**options) -> MaxNLocator:
    return MaxNLocator(5, steps=[1, 2, 2.5, 5, 10], **options)


def _order(rows: list[dict]) -> list[str]:
    """Weight types in the order that gives them the same colour in every figure."""
    return sorted({row["weights"] for row in rows}, key=lambda weights: (len(weights), weights))


def _count(rows: list[dict]) -> str:
    counts = sorted({row["n"] for row in rows})
    return f"n = {counts[0]}" if len(counts) == 1 else f"n = {counts[0]} to {counts[-1]}"


def _nothing(why: str) -> Figure:
    figure = Figure(figsize=(4.5, 1.6))
    figure.text(0.5, 0.5, why, ha="center", va="center", wrap=True, color=GREY)
    return figure


def _name(model: str) -> str:
    return MODELS.get(model, model)


def _weights(letters: str) -> str:
    return ", ".join(rf"$W_{letter}$" for letter in letters)


def _metric(metric: str) -> str:
    return METRICS.get(metric, metric).removesuffix(" × 100") + (" (%)" if metric in ("accuracy", "f1") else " × 100")


def _caption(figure: Figure, text: str, best: list[dict]) -> None:
    """Text under the figure, with what is absent from it."""
    absent = [f"{sum(run['status'] == status for run in best)} {word}" for status, word in (
        ("missing", "missing"), ("non_finite", "failed"), ("undefined", "with an undefined metric"))
        if any(run["status"] == status for run in best)]  # fmt: skip
    text += f"\nNot shown, of {len(best)} runs: {', '.join(absent)}." if absent else ""
    text = "\n".join(textwrap.fill(line, int(17 * figure.get_figwidth())) for line in text.splitlines())
    figure.supxlabel(text, fontsize=7, color=GREY, ha="center")


def _finish(figure: Figure, axes, used: int, columns: int = 4) -> None:
    """Blank the panels that are left over; one legend above all panels, each name once."""
    axes = list(axes)
    for axis in axes[used:]:
        axis.set_axis_off()
    found = {}
    for axis in axes[:used]:
        for handle, name in zip(*axis.get_legend_handles_labels(), strict=True):
            found.setdefault(name, handle)
    fits = int(figure.get_figwidth() / 1.5)  # inches that a name takes
    figure.legend(found.values(), found, loc="outside upper center", ncols=min(columns, fits, len(found)))


def _groups(rows: list[dict], *keys: str) -> dict[tuple, list[dict]]:
    groups = {}
    for row in rows:
        groups.setdefault(tuple(row[key] for key in keys), []).append(row)
    return groups


def _finished(rows: list[dict]) -> list[dict]:
    return [row for row in rows if row["n"] > 0]


def _points(axis, x: list, y: list, spread: list, series, **options) -> None:
    """Marks with bars; a NaN in `spread` is a mark without one."""
    colour, marker, dash = series
    style = dict(color=colour, marker=marker, linestyle=dash, capsize=2, elinewidth=0.9) | options
    axis.errorbar(x, y, yerr=spread, **style)


def _table2(folder: Path) -> Figure:
    """A panel a task: each run's best epoch, their median and std, and what was published of the same cell."""
    cells = [row for row in _read(folder, "table2") if row["metric"] not in ("average", "accuracy_mismatched")]
    runs, facts = _read(folder, "table2", "_best"), _read(folder, "table2", "_published")
    groups = _groups(cells, "model", "task", "task_title", "metric")
    if not _finished(cells):
        return _nothing("Table 2: no finished run to show")
    columns = min(4, len(groups))
    figure, axes = _panels(-(-len(groups) // columns), columns, 2.3 * -(-len(groups) // columns), width=1.75)
    for axis, ((model, _, title, metric), of_task) in zip(axes.flat, groups.items(), strict=False):
        for place, cell in enumerate(of_task):
            points = [run["best_value"] for run in runs if run["status"] == "ok" and _same(run, cell)]
            axis.plot([place] * len(points), points, linestyle="", marker=".", color=GREY, alpha=0.8, label="one run")
            bars = dict(linestyle="", capsize=2.5)
            centre = ([cell["best_median"]], [cell["best_std"]])
            _points(axis, [place + 0.18], *centre, SERIES[0], label="ours, median ± std", **bars)
            theirs = [fact for fact in facts if fact["relation"] == "same" and _same(fact, cell, "metric")]
            for shift, fact in enumerate(theirs):
                whose = origin(fact)
                centre = ([float(fact["value"])], [fact["spread"]])
                bars |= dict(mfc="white", label=f"{whose} ± its spread")
                _points(axis, [place + 0.42 + 0.24 * shift], *centre, SERIES[1 if whose == "paper" else 2], **bars)
        names = [f"{_weights(cell['weights'])}\nr={cell['rank']}, n={cell['n']}" for cell in of_task]
        axis.set_xticks([place + 0.25 for place in range(len(names))], names)
        axis.set_xlim(-0.35, len(names) - 0.05)
        axis.grid(axis="x", visible=False)
        axis.set_title(f"{title}\n{_name(model)}", fontsize=8)
        axis.set_ylabel(_metric(metric))
        axis.yaxis.set_major_locator(_ticks())
        axis.margins(y=0.15)
    _finish(figure, axes.flat, len(groups))
    _caption(figure, "Best epoch of each run, chosen on the set it is shown on. n: finished runs.", runs)
    return figure


def _same(row: dict, cell: dict, *more: str) -> bool:
    return all(row[key] == cell[key] for key in (*CELL, *more))


def _rank_curves(folder: Path) -> Figure:
    """A panel a model and task: median ± std against rank, one line a weight type; published shapes in panels of theirs."""
    cells, runs, facts = (_read(folder, "table6", kind) for kind in ("", "_best", "_published"))
    if not _finished(cells):
        return _nothing("Rank curves: no finished run of table 6 to show")
    groups, theirs = _groups(cells, "model", "task", "task_title", "metric"), _groups(facts, "model", "task")
    figure, axes = _panels(1, len(groups) + len(theirs), 2.6, width=2.35)
    ranks, order = sorted({row["rank"] for row in cells}), _order(cells)
    for axis, ((model, task, title, metric), of_task) in zip(axes.flat, groups.items(), strict=False):
        for (weights,), line in _groups(of_task, "weights").items():
            series = SERIES[order.index(weights) % len(SERIES)]
            shift = 1 + 0.05 * (order.index(weights) - (len(order) - 1) / 2)  # so that bars do not hide each other
            line = sorted(_finished(line), key=lambda row: row["rank"])
            x = [row["rank"] * shift for row in line]
            y, spread = ([row[key] for row in line] for key in ("best_median", "best_std"))
            _points(axis, x, y, spread, series, label=_weights(weights))
            points = [run for run in runs if (run["model"], run["task"], run["weights"]) == (model, task, weights)]
            x, y = [run["rank"] * shift for run in points], [run["best_value"] for run in points]  # NaN: not finished
            axis.plot(x, y, linestyle="", marker=".", markersize=3, color=series[0], alpha=0.45)
        axis.set_title(f"{_name(model)}, {title}\nours, {_count(of_task)}", fontsize=8)
        axis.set_ylabel(_metric(metric))
        _rank_axis(axis, ranks)
    for axis, ((model, task), of_task) in zip(axes.flat[len(groups) :], theirs.items(), strict=True):
        for (weights,), line in _groups(of_task, "weights").items():
            series = SERIES[order.index(weights) % len(SERIES)]
            line = sorted(line, key=lambda row: row["rank"])
            x, y, spread = zip(*((row["rank"], float(row["value"]), row["spread"]) for row in line), strict=True)
            _points(axis, x, y, spread, series, mfc="white", linewidth=1, elinewidth=0.7)
        whose = "course, one seed" if origin(of_task[0]) == "course" else "paper, shape only"
        axis.set_title(f"{_name(model)}, {task.upper()}\n{whose}", fontsize=8, color=GREY)
        axis.set_facecolor("#f6f6f6")
        _rank_axis(axis, ranks)
    _finish(figure, axes.flat, len(axes.flat), columns=6)
    _caption(figure, "Median ± std over runs of each run's best epoch; dots: runs. Vertical scales differ.", runs)
    return figure


def _rank_axis(axis, ranks: list[int]) -> None:
    axis.set_xscale("log", base=2)
    axis.set_xticks(ranks, [str(rank) for rank in ranks])
    axis.xaxis.set_minor_locator(NullLocator())
    axis.set_xlim(ranks[0] / 1.5, ranks[-1] * 1.5)
    axis.yaxis.set_major_locator(_ticks())
    axis.set_xlabel("rank r (log scale)")


def _learning_curves(folder: Path) -> Figure:
    """A column a cell of table 2 (or else of table 6): metric above losses, mean over runs, band from lowest to highest."""
    table = "table2" if _read(folder, "table2") else "table6"
    rows, runs = _read(folder, table, "_curves"), _read(folder, table, "_best")
    if not rows:
        return _nothing("Learning curves: no finished run to show")
    groups = _groups(rows, "model", "task_title", "weights", "rank", "metric")
    columns = min(4, len(groups))
    blocks = -(-len(groups) // columns)
    figure, axes = _panels(2 * blocks, columns, 3.7 * blocks, width=1.75)
    pairs = [(axes[2 * block, column], axes[2 * block + 1, column]) for block in range(blocks) for column in range(columns)]
    for (above, below), ((model, title, weights, rank, metric), line) in zip(pairs, groups.items(), strict=False):
        _band(above, line, "metric", SERIES[0], "metric")
        _band(below, line, "train_loss", SERIES[1], "training loss")
        _band(below, line, "eval_loss", SERIES[2], "evaluation loss")
        above.set_title(f"{title}\n{_name(model)}\n{_weights(weights)}, r={rank}, {_count(line)}", fontsize=7.5)
        above.set_ylabel(_metric(metric))
        below.set_xlabel("epoch")
        below.set_ylabel("loss")
        for axis in (above, below):
            axis.xaxis.set_major_locator(_ticks(integer=True, min_n_ticks=1))
            axis.yaxis.set_major_locator(_ticks())
    _finish(figure, [axis for pair in pairs for axis in pair], 2 * len(groups))
    _caption(figure, "Mean over runs; band: lowest to highest run. Training loss is the epoch's mean, with dropout.", runs)
    return figure


def _band(axis, line: list[dict], what: str, series, label: str) -> None:
    colour, marker, dash = series
    epochs = [row["epoch"] for row in line]
    mean, low, high = ([row[f"{what}_{statistic}"] for row in line] for statistic in ("mean", "min", "max"))
    axis.fill_between(epochs, low, high, color=colour, alpha=0.18, linewidth=0)
    points = dict(marker=marker, markersize=3) if len(epochs) <= 20 else {}
    axis.plot(epochs, mean, color=colour, linestyle=dash, label=label, **points)


def _parameters(folder: Path) -> Figure:
    """A panel a model and task: median of the best epoch against trained parameters, beside other published methods."""
    shown, runs = {}, {}  # a cell that both tables have is drawn once
    for name in ("table2", "table6"):
        rows = [row for row in _read(folder, name) if row["metric"] not in ("average", "accuracy_mismatched")]
        shown |= {tuple(row[key] for key in CELL): row for row in _finished(rows)}
        runs |= {tuple(run[key] for key in (*CELL, "seed")): run for run in _read(folder, name, "_best")}
    if not shown:
        return _nothing("Trained parameters: no finished run to show")
    facts = [fact for fact in _read(folder, "table2", "_published") if fact["relation"] != "reference"]
    facts = [fact for fact in facts if fact["trainable"] and origin(fact) == "paper"]
    known = {(fact["model"], fact["task"]) for fact in facts}
    groups = _groups(list(shown.values()), "model", "task", "task_title", "metric")
    groups = {key: rows for key, rows in groups.items() if len(rows) > 1 or key[:2] in known}
    if not groups:
        return _nothing("Trained parameters: one cell a task, and nothing published beside it")
    columns = min(4, len(groups))
    figure, axes = _panels(-(-len(groups) // columns), columns, 2.4 * -(-len(groups) // columns), width=1.9)
    order, methods = _order(list(shown.values())), list(dict.fromkeys(fact["method"] for fact in facts))
    for axis, ((model, task, title, metric), of_task) in zip(axes.flat, groups.items(), strict=False):
        for (weights,), line in _groups(of_task, "weights").items():
            line = sorted(line, key=lambda row: row["trainable"])
            x, y, spread = ([row[key] for row in line] for key in ("trainable", "best_median", "best_std"))
            _points(axis, x, y, spread, SERIES[order.index(weights) % len(SERIES)], label=f"ours, {_weights(weights)}")
        for fact in facts:
            if (fact["model"], fact["task"], fact["metric"]) == (model, task, metric):
                mark = "x1*+2348"[methods.index(fact["method"]) % 8]
                count = float(fact["trainable"].removesuffix("M")) * 1e6
                style = dict(linestyle="", color=BLACK, zorder=3, marker=mark, label=_method(fact["method"]))
                axis.plot([count], [float(fact["value"])], **style)
        axis.set_xscale("log")
        axis.set_title(f"{title}\n{_name(model)}", fontsize=8)
        axis.set_ylabel(_metric(metric))
        axis.set_xlabel("trained parameters")
        axis.yaxis.set_major_locator(_ticks())
        axis.margins(x=0.12, y=0.12)
    _finish(figure, axes.flat, len(groups))
    text = "Median ± std over runs of each run's best epoch. Parameters: logarithmic, without the classification head."
    _caption(figure, text, list(runs.values()))
    return figure


def _method(method: str) -> str:
    name = METHODS.get(method, method).rstrip("*†")
    base, mark, letter = name.partition("^")
    return f"paper, {base}$^{letter}$" if mark else f"paper, {name}"
