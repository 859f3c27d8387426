"""A dozen small trainings over methods, heads, protocols, tasks and precisions.

`tests/references/runs.json` holds what they wrote before the package was split into rooms. Make it
again only when `RESULTS_VERSION` changes, which changed the bf16 run alone in version 4:

    python tests/helpers/reference_runs.py tests/references/runs.json
"""

import hashlib
import json
import sys
import tempfile
from pathlib import Path

if __name__ == "__main__":
    sys.path[:0] = [
        str(Path(__file__).resolve().parents[2]),
        str(Path(__file__).resolve().parents[1]),
    ]

import torch

from helpers.models import make_glue, make_model, make_tokenizer
from lora.__main__ import main

COMMON = {  # defaults for options that a training does not set
    "--device": "cpu",
    "--precision": "fp32",
    "--max-tokens": "20",
    "--epochs": "2",
    "--learning-rate": "3e-3",
    "--examples-per-step": "8",
}
TRAININGS = {  # name -> options of `lora train`; {model} and {runs} are folders
    "pack of five": "--task sst2 --weights qv --rank 2 --alpha 2r --seeds 0 1 2 3 4",
    "roberta qkvo": "--model roberta --task sst2 --weights qkvo --rank 8 --seed 0 "
    "--lora-dropout 0.1",
    "bf16": "--task sst2 --weights q --rank 1 --seed 0 --precision bf16",
    "frozen head": "--task sst2 --weights qv --rank 4 --seed 1 --head frozen --init-a gaussian",
    "regression": "--task stsb --weights kv --rank 3 --seed 0",
    "paper": "--task stsb --weights qv --rank 8 --seed 0 --protocol paper --start pretrained",
    "paper-houlsby": "--task sst2 --weights qv --rank 8 --seed 2 --alpha 16 "
    "--protocol paper-houlsby",
    "scripts": "--task sst2 --weights qv --rank 8 --seed 0 --protocol scripts --weight-decay 0.1",
    "micro-batches": "--task sst2 --weights qv --rank 2 --seed 0 --micro-batch 3",
    "warm start": "--task sst2 --weights qv --rank 2 --alpha 2r --seed 3 "
    "--start {runs}/pack-of-five/seed0/adapter",
    "full fine-tuning": "--task sst2 --method ft --weights all --rank 0 --seed 0",
    "BitFit": "--task stsb --method bitfit --weights bias --rank 0 --seed 0",
    "Houlsby": "--task sst2 --method adapter_houlsby --weights both --rank 4 --seed 0",
    "Pfeiffer": "--task sst2 --method adapter_pfeiffer --weights ffn --rank 4 --seed 0",
    "AdapterDrop": "--task sst2 --method adapter_drop --weights ffn1 --rank 4 --seed 0",
}


def processor() -> str:
    """Return CPU, instruction set and torch version, which decide the last bits of a sum."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    instructions = torch.backends.cpu.get_cpu_capability()
    return f"{names[0] if names else 'unknown'}, {instructions}, torch {torch.__version__}"


def train_all(folder: Path) -> dict[str, dict[str, str]]:
    """Train every entry of TRAININGS below `folder`.

    Returns:
        For each run, as `name/seed`: the text of metrics.csv, the SHA-256 of its adapter, and
        its digest.
    """
    for family in ("bert", "roberta"):
        make_tokenizer(make_model(family, folder / family))
    make_glue(folder / "glue")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for name, options in TRAININGS.items():
            words = options.format(runs=folder / "runs").split()
            family = words[words.index("--model") + 1] if "--model" in words else "bert"
            for option, value in COMMON.items():
                words += [] if option in words else [option, value]
            words += ["--model-dir", folder / family, "--data-dir", folder / "glue"]
            words += ["--output-dir", folder / "runs" / name.replace(" ", "-")]
            words += ["--cache-dir", folder / "cache" / family]
            assert main(["train", *map(str, words)]) == 0, name
    finally:
        torch.set_num_threads(threads)
    runs = {}
    for path in sorted((folder / "runs").rglob("metrics.csv")):
        run = path.parent
        runs[str(run.relative_to(folder / "runs"))] = dict(
            metrics=path.read_text(),
            adapter=hashlib.sha256(
                (run / "adapter/adapter_model.safetensors").read_bytes()
            ).hexdigest(),
            digest=json.loads((run / "run.json").read_text())["digest"],
        )
    return runs


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as made:
        reference = dict(processor=processor(), runs=train_all(Path(made)))
    Path(sys.argv[1]).write_text(json.dumps(reference, indent=1) + "\n")
