"""Command line of the kit: `make gpu`, or `PYTHONPATH=benchmarks:. python -m gpu`."""

import argparse
import json
import sys
from pathlib import Path

from gpu import devices_row, report, steps
from gpu.settings import BENCHMARKS, HERE, ROOT, Settings

NO_GPU = "torch sees no GPU on this machine, so nothing was measured."


def parse(argv: list[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        prog="gpu", description="Measure and check training on a GPU; see benchmarks/README.md."
    )
    parser.add_argument("--model-dir", type=Path, default=ROOT / "results/demo/sources/minilm")
    parser.add_argument("--tokens-dir", type=Path, help="the demo's prepared product-sentiment")
    parser.add_argument("--work", type=Path, default=BENCHMARKS / ".cache/gpu")
    parser.add_argument("--output", type=Path, default=HERE, help="folder of the report")
    parser.add_argument("--tiny", action="store_true", help="test the kit itself, on a CPU too")
    parser.add_argument("--row", metavar="JSON", type=Path, help="print the row of devices.csv")
    parser.add_argument("--write", action="store_true", help="with --row: update devices.csv")
    parser.add_argument("--step", choices=steps.STEPS, help=argparse.SUPPRESS)
    parser.add_argument("--settings", help=argparse.SUPPRESS)
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """Run the missing steps and write the report.

    Returns:
        0; 1 if a step failed or is missing; 2 without a GPU.
    """
    arguments = parse(argv)
    if arguments.step:
        print(json.dumps(steps.run_step(arguments.step, steps.settings_from(arguments.settings))))
        return 0
    if arguments.row:
        print(devices_row.update(arguments.row, arguments.write))
        return 0
    device = find_gpu()
    if device is None and not arguments.tiny:
        print(NO_GPU, file=sys.stderr)
        return 2
    settings = settings_of(arguments, device or "cpu")
    results = steps.run_missing(settings)
    print(f"Written: {report.write(arguments.output, results)}")
    failed = [name for name, result in results.items() if result["status"] == "failed"]
    return int(bool(failed) or len(results) < len(steps.STEPS))


def find_gpu() -> str | None:
    """Return the kind of the GPU that torch sees; None without one."""
    import torch

    found = torch.accelerator.current_accelerator(check_available=True)
    return None if found is None else found.type


def settings_of(arguments: argparse.Namespace, device: str) -> Settings:
    """Return the settings; the folder of results is of this device and commit."""
    import run
    import torch

    from gpu.checks import TASK
    from lora import paths
    from lora.experiment import hparam_rows
    from lora.experiment.cell import Cell
    from lora.training.device import device_name

    cell = Cell("minilm", TASK, "lora", "qv", 8, "demo")
    hparams = hparam_rows.resolve(hparam_rows.read_hparam_rows(), cell, {})
    tokens_dir = arguments.tokens_dir or ROOT / paths.tokens_dir(
        "results/demo", cell.model, TASK, hparams.max_tokens
    )
    name = report.slug(device_name(torch.device(device)))
    folder = arguments.work / f"{name}-{run.commit()}{'-tiny' * arguments.tiny}"
    return Settings(folder, device, arguments.tiny, arguments.model_dir, tokens_dir)


if __name__ == "__main__":
    sys.exit(main())
