"""Draw the time of the whole grid by the number of devices, one line for each kind of device.

The figure is drawn from plan/makespan.csv alone. Both axes are logarithmic, so halving the time by
doubling the devices is a straight line. Where a line is flat, the longest job or the longest chain
of jobs decides. Dashed lines are estimates for devices that were not measured.
"""

from pathlib import Path

import matplotlib
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullLocator

from lora import files
from lora.figures import style
from lora.figures.style import GREY, SERIES, STYLE
from lora.planning.plan import MAKESPAN_COLUMNS, duration

TIMES = tuple(
    count * unit
    for unit, counts in (
        (1, (10, 30)),
        (60, (1, 3, 10, 30)),
        (3600, (1, 3, 10)),
        (86400, (1, 3, 10, 30, 100, 300, 1000)),
    )
    for count in counts
)


def draw(csv: Path, output_stem: Path) -> None:
    """Write `output_stem`.svg and .png (200 dpi) of what plan wrote to `csv`."""
    stem = Path(output_stem)
    with matplotlib.rc_context(
        {**matplotlib.rcParamsDefault, **STYLE, "backend": matplotlib.rcParams["backend"]}
    ):
        drawn = _makespans(files.read_csv(csv, MAKESPAN_COLUMNS))
        drawn.savefig(stem.with_name(f"{stem.name}.svg"), metadata={"Date": None})
        drawn.savefig(stem.with_name(f"{stem.name}.png"), dpi=200, metadata={"Software": None})


def _makespans(rows: list[dict]) -> Figure:
    figure, axes = style.panels(1, 1, 3.0, width=5.6)
    axis = axes[0, 0]
    for place, ((name, known), line) in enumerate(style.groups(rows, "device", "known").items()):
        colour, marker, _ = SERIES[place % len(SERIES)]
        counts, seconds = [row["devices"] for row in line], [row["seconds"] for row in line]
        dash = "-" if known == "measured" else (0, (4, 2))
        axis.plot(
            counts,
            seconds,
            color=colour,
            marker=marker,
            linestyle=dash,
            markersize=3.2,
            label=f"{name}, {known}",
        )
    axis.set_xscale("log")
    axis.set_yscale("log")
    counts = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000]
    axis.set_xticks(counts, [str(count) for count in counts])
    low, high = (pick(row["seconds"] for row in rows) for pick in (min, max))
    shown = [time for time in TIMES if low / 2 <= time <= high * 2]
    axis.set_yticks(shown)
    axis.yaxis.set_major_formatter(FuncFormatter(lambda time, _: duration(time).replace(".0", "")))
    for side in (axis.xaxis, axis.yaxis):
        side.set_minor_locator(NullLocator())
    axis.set_xlabel("devices of one kind")
    axis.set_ylabel("until all is done")
    axis.set_xlim(0.9, 1100)
    style.finish(figure, [axis], 1, columns=2)
    said = (
        "Forecast from the config, the longest job first; a CPU is as many threads as the config "
        "gives a job.\n"
    )
    said += "Where a line is flat, the longest job or the longest chain of jobs decides."
    figure.supxlabel(said, fontsize=7, color=GREY)
    return figure
