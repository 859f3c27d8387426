"""Text of a plan for a terminal, and the formats of its durations, numbers and columns.

Every line about a device that was not measured says that its rates are estimates.
"""

from lora.planning import forecast, makespan
from lora.planning.forecast import GIB
from lora.planning.plan import Plan

TABLE_COUNTS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1000)  # devices, in the table of makespans
LONGEST = 5  # number of longest jobs that are listed


def duration(seconds: float) -> str:
    """Return a duration with its unit: s below 2 minutes, min below 2 hours, h below 100, or d."""
    for limit, unit_s, unit, decimals in (
        (120, 1, "s", 0),
        (600, 60, "min", 1),
        (7200, 60, "min", 0),
        (360_000, 3600, "h", 1),
    ):
        if seconds < limit:
            return f"{seconds / unit_s:.{decimals}f} {unit}"
    return f"{seconds / 86400:,.{1 if seconds < 100 * 86400 else 0}f} d"


def number(value: float) -> str:
    """Return a number; from a million on with two decimals and its magnitude as a word."""
    for size, word in ((1e18, "x 10^18"), (1e15, "x 10^15"), (1e9, "billion"), (1e6, "million")):
        if value >= size:
            return f"{value / size:,.2f} {word}"
    return f"{value:,.0f}"


def aligned(rows: list[list[str]], left: tuple[int, ...] = (0,)) -> list[str]:
    """Return the rows of a table as lines of text with aligned columns.

    Args:
        rows: Cells of each row; all rows have the same number.
        left: Indices of the columns aligned to the left; the others are aligned to the right.

    Returns:
        One line per row, indented by two spaces and without spaces at the end.
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        cells = [
            cell.ljust(width) if index in left else cell.rjust(width)
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append(f"  {'  '.join(cells).rstrip()}")
    return lines


def text(plan: Plan, *more: list[str]) -> str:
    """Return the plan as text: its size, devices, makespans, longest jobs, requests, assumptions.

    Args:
        plan: The plan.
        more: Lines of further sections, for example those of `outcome.text`.
    """
    sections = [
        _size(plan),
        _devices(plan),
        _makespans(plan),
        _longest(plan),
        _cluster_requests(plan),
        _assumptions(plan),
        *more,
    ]
    return "\n\n".join("\n".join(section) for section in sections if section) + "\n"


def _size(plan: Plan) -> list[str]:
    """Runs, jobs, tokens, operations and disk of the grid. None depends on the device."""
    grid, forecasts = plan.grid, plan.forecasts[plan.devices[0]]
    disk = sum(job.disk_bytes for job in forecasts)
    shared = forecast.shared_disk_bytes(plan.forecaster)
    edges = sum(len(job.after) for job in plan.jobs)
    rows = [
        [
            "runs",
            f"{len(grid.cells) * len(grid.seeds):,}",
            f"{len(grid.cells):,} cells, {len(grid.seeds)} seeds each",
        ],
        [
            "training jobs",
            f"{len(plan.jobs):,}",
            f"pack: [{', '.join(grid.config.pack)}], {edges} edges between them",
        ],
        ["training tokens", number(sum(job.tokens for job in forecasts)), "of all runs and epochs"],
        [
            "operations",
            number(sum(job.flops for job in forecasts)),
            "floating point, evaluations included",
        ],
        [
            "disk",
            f"{(disk + shared) / GIB:,.1f} GiB",
            f"runs and their states {disk / GIB:,.1f}, models and tokens "
            f"{shared / GIB:,.1f}; text of data sets not counted",
        ],
    ]
    return [
        f"PLAN of {grid.config.results}: from the config alone, nothing is fetched or trained",
        *aligned(rows, (0, 2)),
    ]


def _devices(plan: Plan) -> list[str]:
    """Time and peak memory of the grid on one device of each kind."""
    rows = [
        ["device", "device-hours", "longest job", "longest chain", "host GiB", "GPU GiB", "rates"]
    ]
    for device in plan.devices:
        forecasts, works = plan.forecasts[device], plan.works(device)
        seconds = [job.seconds for job in forecasts]
        chain_s = sum(works[index].seconds for index in makespan.longest_chain(works))
        host_gib = max(job.host_bytes for job in forecasts) / GIB
        device_gib = max(job.device_bytes for job in forecasts) / GIB
        too_large = sum(not job.fits for job in forecasts)
        note = device.note
        if too_large:
            note += f"; {too_large} of {len(forecasts)} jobs do not fit its memory"
        rows.append(
            [
                plan.name(device),
                f"{sum(seconds) / 3600:,.1f}",
                duration(max(seconds)),
                duration(chain_s),
                f"{host_gib:.1f}",
                f"{device_gib:.1f}" if device.kind != "cpu" else "-",
                note,
            ]
        )
    return [
        "ONE DEVICE OF EACH KIND, for the whole grid; memory is the peak of the largest job",
        *aligned(rows, (0, 6)),
    ]


def _makespans(plan: Plan) -> list[str]:
    """Time of the grid by the number of devices, up to the first number that is enough."""
    jobs = len(plan.jobs)
    enough = next((count for count in TABLE_COUNTS if count >= jobs), TABLE_COUNTS[-1])
    counts = [count for count in TABLE_COUNTS if count <= enough]
    rows = [["devices", *map(str, counts), ""]]
    for device in plan.devices:
        works = plan.works(device)
        times = [duration(makespan.makespan(works, count)) for count in counts]
        rows.append([plan.name(device), *times, device.note])
    title = "TIME UNTIL ALL JOBS ARE DONE, by number of devices; the longest job starts first"
    if enough < TABLE_COUNTS[-1]:
        title += f"; more than {jobs} are no faster, smaller packs (pack:) can be"
    return [title, *aligned(rows, (0, len(counts) + 1))]


def _longest(plan: Plan) -> list[str]:
    """The longest jobs and the longest chain of jobs, on the device that is planned for."""
    device = forecast.planning_device(plan.grid)
    works = plan.works(device)
    longest = sorted(range(len(works)), key=lambda index: -works[index].seconds)[:LONGEST]
    rows = [
        [plan.jobs[index].name, f"{plan.jobs[index].runs} runs", duration(works[index].seconds)]
        for index in longest
    ]
    lines = [f"THE LONGEST JOBS on {plan.name(device)} ({device.note})", *aligned(rows)]
    chain = [plan.jobs[index].name for index in makespan.longest_chain(works)]
    if len(chain) > 1:
        lines.append(f"  longest chain: {', then '.join(chain)}")
    return lines


def _cluster_requests(plan: Plan) -> list[str]:
    """Ranges of the memory and time that jobs request, for the device that is planned for."""
    device = forecast.planning_device(plan.grid)
    memory = _range([forecast.mem_mb(job, 1) for job in plan.forecasts[device]])
    minutes = _range([forecast.runtime_min(job, 1) for job in plan.forecasts[device]])
    return [
        "WHAT A CLUSTER JOB REQUESTS, doubled at each further attempt",
        f"  mem_mb {memory}; runtime {minutes} minutes, for "
        f"{plan.name(device)} (plan_device, {device.note})",
    ]


def _range(values: list[int]) -> str:
    low, high = min(values), max(values)
    return f"{low:,} to {high:,}" if low < high else f"{high:,}"


def _assumptions(plan: Plan) -> list[str]:
    """Assumptions about models and tasks. Estimated lengths are one line, by task."""
    assumptions = plan.forecaster.assumptions
    lines = [line for line in assumptions if "estimate" not in line]
    estimated = sorted({line.split()[0] for line in assumptions if "estimate" in line})
    if estimated:
        lines.append(
            f"lengths of {', '.join(estimated)}: in part estimates "
            f"(config/lengths.csv), until prepare has counted them"
        )
    return ["ASSUMPTIONS", *(f"  {line}" for line in lines)] if lines else []
