"""Report of the kit: all steps in <device>.json, tables in <device>.md, and the README's status."""

import json
import re
from pathlib import Path

import report as tables

from gpu.settings import HERE

NOT_RUN = (
    "Not run on a GPU yet; `make gpu` measures it. The code for it is tested on a simulated device."
)
TITLES = {
    "tests": "Tests on the GPU",
    "packed": "Packed runs against single runs",
    "learning": "Learning: the demo's product-sentiment",
    "resume": "Kill and resume",
    "two-gpus": "Two jobs on two GPUs",
}


def slug(name: str) -> str:
    """Return a device's name as part of a file name."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def write(folder: Path, results: dict[str, dict]) -> Path:
    """Write the report of these steps; return the path of the JSON file."""
    values = results.get("machine", {}).get("values", {})
    path = Path(folder) / f"{slug(values.get('device_name', 'unknown-device'))}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    path.with_suffix(".md").write_text(markdown(results), encoding="utf-8")
    return path


def markdown(results: dict[str, dict]) -> str:
    """Return the page: the machine, a line for each check, and the tables of speed and memory."""
    machine = results.get("machine", {}).get("values", {})
    parts = [f"# {machine.get('device_name', 'Unknown device')}\n"]
    if machine:
        parts.append(
            f"- Date: {machine['date']}, commit {machine['commit']}\n"
            f"- Versions: {machine['versions']}, driver {machine['driver'] or 'unknown'}\n"
            f"- GPUs: {machine['gpus']}, memory {machine['memory_gib']:.0f} GiB\n"
            f"- Matrix products, GFLOP/s: fp32 {machine['gemm_fp32']:.0f}, "
            f"bf16 {machine['gemm_bf16']:.0f}\n"
        )
    lines = [
        [title, results[name]["status"], _result(name, results[name])]
        for name, title in TITLES.items()
        if name in results
    ]
    parts.append("## Checks\n\n" + tables.table(["check", "status", "result"], lines))
    rows = speed_rows(results)
    if rows:
        parts.append("## Speed and memory\n\n" + _speed_table(rows))
    wrong = [name for name in results if name.startswith("speed") and "why" in results[name]]
    parts += [f"{name}: {results[name]['why'].splitlines()[0]}\n" for name in wrong]
    return "\n".join(parts)


def _result(name: str, result: dict) -> str:
    """Return the result of a check in a few words."""
    if "why" in result:
        return str(result["why"]).splitlines()[0][:200]
    values = result["values"]
    if name == "packed":
        pairs = values["largest_difference"].items()
        return "largest difference of a loss: " + ", ".join(
            f"{precision} {value:.2g} (allowed {values['allowed'][precision]:g})"
            for precision, value in pairs
        )
    if name == "learning":
        return (
            f"accuracy of {len(values['gpu'])} seeds differs from the CPU's by "
            f"{values['difference']:+.3f} (allowed {values['allowed']:.3f})"
        )
    if name == "resume":
        same = "same bits" if values["same_bits"] else "other bits"
        stopped = "killed and resumed" if values["resumed"] else "ended before it was killed"
        return f"{stopped}; {same}; largest difference {values['largest_difference']:.2g}"
    if name == "two-gpus":
        return ", ".join(map(str, values["gpus"]))
    return str(values["summary"])


def speed_rows(results: dict[str, dict]) -> list[dict]:
    """Return the measurements of all models, each with the layers of its model."""
    found = [result["values"] for result in results.values() if "rows" in result.get("values", {})]
    return [row | dict(layers=values["layers"]) for values in found for row in values["rows"]]


def _speed_table(rows: list[dict]) -> str:
    titles = ["model, lengths, way", "runs", "tokens/s", "share of product rate", "against PEFT"]
    titles += ["memory predicted, GiB", "measured, GiB"]
    lines = []
    for row in rows:
        name = f"{row['model']}, {row['lengths']}, {row['way']}"
        if row["status"] != "ok":
            lines.append([name, str(row["pack"]), row["status"][:120], "-", "-", "-", "-"])
            continue
        peers = [
            peer
            for peer in rows
            if peer["way"] == "peft"
            and peer["status"] == "ok"
            and (peer["model"], peer["lengths"]) == (row["model"], row["lengths"])
        ]
        rate = tables.tokens_per_s(row)
        predicted = row.get("predicted_gib")
        lines.append(
            [
                name,
                str(row["pack"]),
                f"{rate:.0f}",
                f"{100 * tables.share(row):.0f} %",
                f"{rate / tables.tokens_per_s(peers[0]):.1f}x" if peers else "-",
                tables.rounded(predicted),
                tables.rounded(row["peak_cuda_gib"] or None),
            ]
        )
    return tables.table(titles, lines)


def status(folder: Path = HERE) -> str:
    """Return the README's sentence on GPUs, from the reports in a folder."""
    found = []
    for path in sorted(Path(folder).glob("*.json")):
        results = json.loads(path.read_text(encoding="utf-8"))
        machine = results["machine"]["values"]
        checks = [result["status"] for name, result in results.items() if name in TITLES]
        failed = checks.count("failed")
        found.append(
            f"[{machine['device_name']}](benchmarks/gpu/{path.stem}.md) on {machine['date']}, "
            f"checks passed: {checks.count('ok')}, failed: {failed}"
        )
    return f"Run on GPUs: {'; '.join(found)}." if found else NOT_RUN
