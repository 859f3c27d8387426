"""Draw the time of the whole grid by the number of devices, one line for each kind of device.

The figure is drawn from plan/makespan.csv alone. Both axes are logarithmic, so halving the time by
doubling the devices is a straight line. Where a line is flat, the longest job or the longest chain
of jobs decides. Dashed lines are estimates for devices that were not measured.
"""

from pathlib import Path

from matplotlib.ticker import FuncFormatter, NullLocator
from matplotlib.typing import LineStyleType

from lora import files
from lora.columns import group_by
from lora.figures import alt_text, drawing, layout
from lora.figures.drawing import Drawing
from lora.figures.style import SERIES
from lora.files import Row
from lora.planning.plan import MAKESPAN_COLUMNS
from lora.planning.plan_text import duration

TIMES = tuple(  # ticks of the vertical axis, in seconds
    count * unit
    for unit, counts in (
        (1, (10, 30)),
        (60, (1, 3, 10, 30)),
        (3600, (1, 3, 10)),
        (86400, (1, 3, 10, 30, 100, 300, 1000)),
    )
    for count in counts
)
DEVICES = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)  # ticks of the horizontal axis
CAPTION = (
    "Forecast from the config; the longest job starts first. A CPU has the number of threads that "
    "the config gives to a job.\n"
    "Where a line is flat, the longest job or the longest chain of jobs decides."
)


def draw(csv: Path, output_stem: Path) -> None:
    """Write the figure to `output_stem`.svg and .png (300 dpi), and its text to .txt.

    Args:
        csv: The file makespan.csv that `lora plan` wrote.
        output_stem: Path without the suffix. Its folder is created.
    """
    drawing.save(lambda: _makespan(files.read_csv(csv, MAKESPAN_COLUMNS)), output_stem)


def _makespan(rows: list[Row]) -> Drawing:
    figure, axes = layout.panels(1, 1, 2.6)
    ax = axes[0][0]
    for index, ((device, known), line) in enumerate(group_by(rows, "device", "known").items()):
        series = SERIES[index % len(SERIES)]
        dash: LineStyleType = "-" if known == "measured" else (0, (4, 2))
        ax.plot(
            [row["devices"] for row in line],
            [row["seconds"] for row in line],
            color=series.colour,
            marker=series.marker,
            linestyle=dash,
            markersize=3,
            label=f"{device}, {known}",
        )
    ax.set_xscale("log")
    ax.set_yscale("log")
    ax.set_xticks(DEVICES, [str(count) for count in DEVICES])
    seconds = [row["seconds"] for row in rows]
    ax.set_yticks([time for time in TIMES if min(seconds) / 2 <= time <= max(seconds) * 2])
    ax.yaxis.set_major_formatter(FuncFormatter(lambda time, _: duration(time).replace(".0", "")))
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_minor_locator(NullLocator())
    ax.set_xlabel("number of devices")
    ax.set_ylabel("time until all jobs are done")
    ax.set_xlim(0.9, 1100)
    layout.add_caption(figure, CAPTION, [])
    layout.label_lines(figure, [ax], columns=2)
    return Drawing(figure, "Time of the grid by number of devices", _alt_text(rows))


def _alt_text(rows: list[Row]) -> str:
    by_count = sorted(rows, key=lambda row: row["devices"])
    times = alt_text.shorten(
        f"{line[0]['device']} ({line[0]['known']}): {duration(line[0]['seconds'])} with "
        f"{line[0]['devices']} and {duration(line[-1]['seconds'])} with {line[-1]['devices']}"
        for line in group_by(by_count, "device").values()
    )
    return f"Forecast of the time until all jobs are done, by the number of devices. {times}."
