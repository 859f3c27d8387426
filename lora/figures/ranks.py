"""Draw the metric against the rank: Table 6 as curves, and trained against frozen heads.

The paper's curves (GPT-3) are flat. The course's are steep, and its code froze the classification
head at its random initial values. `head_ablation` shows both settings in one panel. It includes the
published curves, in a faint colour, only for MNLI.
"""

from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from lora.figures import style
from lora.figures.style import BLACK, GREY, SERIES, finished, groups, points
from lora.tables.labels import SYMBOLS, origin

FAINT = dict(color=GREY, linewidth=0.9, markersize=2.5, alpha=0.75)


def rank_curves(folder: Path) -> Figure:
    """A panel a model, task, method and protocol: median ± std against rank, one line a weight
    type; published shapes in panels of theirs.
    """
    cells, runs, facts = (
        style.read(folder, "table6", kind) for kind in ("", "_best", "_published")
    )
    if not finished(cells):
        return style.nothing("Rank curves: no finished run of table 6 to show")
    ours = groups(cells, "model", "task", "method", "protocol")
    theirs = groups(facts, "model", "task", "source")
    columns = min(4, len(ours) + len(theirs))
    rows = -(-(len(ours) + len(theirs)) // columns)
    figure, axes = style.panels(rows, columns, 2.6 * rows, width=2.35)
    ranks, order = sorted({row["rank"] for row in cells} - {0}), style.weights_order(cells)
    for axis, ((model, _, method, protocol), mine) in zip(axes.flat, ours.items(), strict=False):
        for (weights,), line in groups(mine, "weights").items():
            series = SERIES[order.index(weights) % len(SERIES)]
            shift = 1 + 0.05 * (
                order.index(weights) - (len(order) - 1) / 2
            )  # so that bars do not hide each other
            line = sorted(finished(line), key=lambda row: row["rank"])
            x = [row["rank"] * shift for row in line]
            y, spread = ([row[key] for row in line] for key in ("best_median", "best_std"))
            label = (
                style.weights(weights) if method == "lora" else f"{style.symbol(method)} {weights}"
            )
            points(axis, x, y, series, vertical=spread, label=label)
            dots = [run for run in runs if any(style.same(run, cell) for cell in line)]
            x, y = (
                [run["rank"] * shift for run in dots],
                [run["best_value"] for run in dots],
            )  # NaN: not finished
            axis.plot(x, y, linestyle="", marker=".", markersize=3, color=series[0], alpha=0.45)
        under = f", {protocol}" if style.several(cells, "protocol") else ""
        axis.set_title(
            f"{style.model(model)}, {mine[0]['task_title']}\nours{under}, {style.count(mine)}",
            fontsize=8,
        )
        axis.set_ylabel(style.metric(mine[0]["metric"]))
        style.rank_axis(axis, ranks)
    for axis, ((model, task, _), published) in zip(
        axes.flat[len(ours) :], theirs.items(), strict=False
    ):
        for (weights,), line in groups(published, "weights").items():
            series = SERIES[order.index(weights) % len(SERIES)]
            by_rank = {
                row["rank"]: row for row in line
            }  # a figure compared under two protocols is there twice
            x, y, spread = zip(
                *(
                    (rank, float(by_rank[rank]["value"]), by_rank[rank]["spread"])
                    for rank in sorted(by_rank)
                ),
                strict=True,
            )
            points(axis, x, y, series, vertical=spread, mfc="white", linewidth=1, elinewidth=0.7)
        whose = "course, one seed" if origin(published[0]) == "course" else "paper, shape only"
        axis.set_title(f"{style.model(model)}, {task.upper()}\n{whose}", fontsize=8, color=GREY)
        axis.set_facecolor("#f6f6f6")
        style.rank_axis(axis, ranks)
    style.finish(figure, axes.flat, len(ours) + len(theirs), columns=6)
    style.caption(
        figure,
        "Median ± std over runs of each run's best epoch; dots: runs. Vertical scales differ.",
        runs,
    )
    return figure


def head_ablation(folder: Path) -> Figure:
    """A panel a weight type, a row of them for each model and task: mean ± std of the last epoch
    against rank, a line a protocol, with the median of the best epochs as a mark; on MNLI the
    published curves, faint.
    """
    cells, runs, facts = (
        style.read(folder, "table6", kind) for kind in ("", "_best", "_published")
    )
    cells = [cell for cell in cells if cell["method"] == "lora"]
    runs = [run for run in runs if run["method"] == "lora"]
    if not finished(cells):
        return style.nothing("Head trained or frozen: no finished run of table 6 to show")
    if not style.several(cells, "protocol"):
        return style.nothing(
            "Head trained or frozen: table 6 has one protocol, so there is no comparison"
        )
    tasks = groups(cells, "model", "task")
    order, protocols = (
        list(dict.fromkeys(cell["weights"] for cell in cells)),
        list(groups(cells, "protocol")),
    )
    figure, axes = style.panels(len(tasks), len(order), 2.7 * len(tasks), width=2.45, sharey="row")
    ranks = sorted({cell["rank"] for cell in cells})
    for axes_of_task, ((model, task), of_task) in zip(axes, tasks.items(), strict=True):
        for axis, weights in zip(axes_of_task, order, strict=True):
            panel = [cell for cell in of_task if cell["weights"] == weights]
            for (protocol,), line in groups(panel, "protocol").items():
                _protocol_line(axis, line, SERIES[protocols.index((protocol,)) % len(SERIES)])
            if task == "mnli":
                _published_lines(axis, [fact for fact in facts if fact["weights"] == weights])
            axis.set_title(
                f"{style.weights(weights)}\n{style.model(model)}, {panel[0]['task_title']}",
                fontsize=8,
            )
            style.rank_axis(axis, ranks)
        axes_of_task[0].set_ylabel(style.metric(of_task[0]["metric"]))
    best = Line2D([], [], linestyle="", marker="x", color=BLACK)
    style.finish(
        figure, axes.flat, len(order) * len(tasks), columns=3, proxies={"best epoch, median": best}
    )
    text = (
        "Mean ± std over runs of each run's last epoch; crosses beside: median of the best epochs."
    )
    if any(task == "mnli" for _, task in tasks):
        text += (
            " Grey: published, one seed (course) and another model, of which only the shape can be "
            "compared (GPT-3)."
        )
    style.caption(figure, text, runs)
    return figure


def _protocol_line(axis, line: list[dict], series) -> None:
    line = sorted(finished(line), key=lambda row: row["rank"])
    heads = " or ".join(sorted({row["head"] for row in line}))
    label = f"{line[0]['protocol']}: head {heads}" if line else None
    x = [row["rank"] for row in line]
    mean, std, median = (
        [row[key] for row in line] for key in ("last_mean", "last_std", "best_median")
    )
    points(axis, x, mean, series, vertical=std, label=label)
    axis.plot(
        [1.13 * rank for rank in x],
        median,
        linestyle="",
        marker="x",
        markersize=3.5,
        color=series[0],
    )


def _published_lines(axis, facts: list[dict]) -> None:
    """The curves of one weight type that were published of MNLI."""
    for (_, model, method), line in groups(facts, "source", "model", "method").items():
        by_rank = {fact["rank"]: float(fact["value"]) for fact in line}
        x = sorted(by_rank)
        whose = (
            "course" if origin(line[0]) == "course" else f"paper, {style.model(model)}, shape only"
        )
        dash = "--" if origin(line[0]) == "course" else ":"
        label = f"{whose} ({SYMBOLS[method]})" if method != "lora" else whose
        axis.plot(
            x, [by_rank[rank] for rank in x], marker="o", linestyle=dash, label=label, **FAINT
        )
