"""Compare the metrics of a grid trained in bf16 and in fp32, cell by cell.

    demo="snakemake --cores all --configfile config/demo.yaml"
    $demo --config precision=fp32 results=results/demo-fp32
    $demo --config precision=bf16 results=results/demo-bf16
    python benchmarks/precision.py results/demo-fp32 results/demo-bf16

A seed has the same initial values, example order and dropout masks in both folders, so runs are
compared seed by seed. Compare the difference with the standard deviation over seeds. The paired
t-test over all runs says whether the differences have a bias. The script trains nothing.
"""

import argparse
import csv
import statistics
from pathlib import Path

CELL_COLUMNS = ("model", "task_title", "weights", "rank")
Values = dict[tuple[str, ...], dict[int, float]]  # cell: {seed: per cent}


def read(results: Path, value: str) -> Values:
    """Read a column of all `<table>_best.csv` of a results folder."""
    found: Values = {}
    for path in sorted((results / "tables").glob("*_best.csv")):
        with open(path, encoding="utf-8", newline="") as handle:
            for row in csv.DictReader(handle):
                cell = tuple(row[name] for name in CELL_COLUMNS)
                found.setdefault(cell, {})[int(row["seed"])] = float(row[value])
    if not found:
        raise SystemExit(
            f"{results}/tables has no *_best.csv; make the tables first "
            f"(snakemake ... --config results={results})"
        )
    return found


def compare(first: Values, second: Values, names: tuple[str, str]) -> str:
    """Return a Markdown table of the cells that both have, and a summary line."""
    from scipy import stats

    lines = [
        f"| task | weights | rank | seeds | {names[0]} | {names[1]} | difference | "
        "std over seeds |",
        "|:--|:--|--:|--:|--:|--:|--:|--:|",
    ]
    pairs = []
    for cell in [cell for cell in first if cell in second]:
        seeds = sorted(first[cell].keys() & second[cell].keys())
        one, other = ([values[cell][seed] for seed in seeds] for values in (first, second))
        spread = statistics.mean([statistics.variance(one), statistics.variance(other)]) ** 0.5
        difference = statistics.mean(other) - statistics.mean(one)
        values = [
            f"{statistics.mean(one):.2f}",
            f"{statistics.mean(other):.2f}",
            f"{difference:+.2f}",
            f"{spread:.2f}",
        ]
        lines.append(f"| {' | '.join([*cell[1:], str(len(seeds)), *values])} |")
        pairs += zip(one, other, strict=True)
    differences = [other - one for one, other in pairs]
    test = stats.ttest_rel([other for _, other in pairs], [one for one, _ in pairs])
    lines.append(
        f"\n{len(pairs)} pairs of runs: mean difference {statistics.mean(differences):+.3f}, "
        f"standard deviation of a difference {statistics.stdev(differences):.3f}; "
        f"paired t-test p = {test.pvalue:.2f}."
    )
    return "\n".join(lines)


def main() -> None:
    """Print the comparison of two results folders."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("first", type=Path, help="a results folder with its tables")
    parser.add_argument("second", type=Path, help="another results folder of the same grid")
    parser.add_argument("--value", choices=["best_value", "last_value"], default="last_value")
    arguments = parser.parse_args()
    first, second = (
        read(folder, arguments.value) for folder in (arguments.first, arguments.second)
    )
    print(compare(first, second, (arguments.first.name, arguments.second.name)))


if __name__ == "__main__":
    main()
