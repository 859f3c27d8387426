"""Truncate files or flip a bit: the damage is found, and either recovered or named in a message."""

import json
import shutil
from functools import partial
from pathlib import Path
from random import Random

import yaml
from faults.bench import CELLS, Bench, Lost, cell_of, saved_states
from faults.scarce import one_message
from helpers.models import ROOT
from helpers.training import OVERRIDES

DAMAGED = {  # part of a run's state -> its files
    "tensors": ("tensors",),
    "state.json": ("state.json",),
    "both states": ("tensors", "before.json"),
}
INPUTS = ("tokens.safetensors", "tokens.json", "model.safetensors", "config.json", "fetched.json")


def damage(path: Path, random: Random) -> None:
    """Flip one bit of a file, or truncate it."""
    content = bytearray(path.read_bytes())
    if random.random() < 0.5:
        content[random.randrange(len(content))] ^= 1 << random.randrange(8)
        path.write_bytes(content)
    else:
        path.write_bytes(content[: random.randrange(len(content))])


def of_state(bench: Bench, random: Random, what: str) -> str:
    """Damage the state of a killed run that has two saved states.

    The previous state takes over, also if the next kill comes during the replacement. With both
    damaged, the run starts again. The other run's state is resumed in any case.
    """
    folder = bench.new()
    injection = dict(site="step", call=random.randint(8, 18), when="after", do="kill")
    bench.start(folder, [injection]).end()
    saved = saved_states(folder)
    kept = folder / "state" / random.choice(sorted(saved))
    tensors = kept / json.loads((kept / "state.json").read_text())["file"]
    for name in DAMAGED[what]:
        damage(tensors if name == "tensors" else kept / name, random)
    errors = ""
    if what != "both states" and random.random() < 0.5:
        injection = dict(
            site="rename before.json", call=random.randint(1, 2), when="after", do="kill"
        )
        errors = bench.start(folder, [injection]).end().errors
    ended = bench.end_well(bench.start(folder))
    bench.check(folder)
    expected = len(saved) - (what == "both states")
    if ended.resumed != expected or "not used" not in errors + ended.errors:
        raise Lost(
            f"{expected} of {len(saved)} states can be resumed, {ended.resumed} were: "
            f"{ended.errors[-1500:]}"
        )
    return ""


def of_input(bench: Bench, random: Random, name: str) -> str:
    """Damage an input: the job finds it before it trains, and succeeds once it is restored."""
    folder = bench.new()
    inputs = dict(
        tokens_dir=bench.folder / f"{folder.name}-tokens",
        model_dir=bench.folder / f"{folder.name}-model",
    )
    shutil.copytree(bench.tokens_dir, inputs["tokens_dir"])
    shutil.copytree(bench.model_dir, inputs["model_dir"])
    path = inputs["tokens_dir" if name.startswith("tokens") else "model_dir"] / name
    if random.random() < 0.5:
        injection = dict(site="step", call=random.randint(2, 18), when="after", do="kill")
        bench.start(folder, [injection], **inputs).end()
    before, expected = saved_states(folder), path.read_bytes()
    damage(path, random)
    ended = bench.start(folder, **inputs).end()
    message = one_message(ended, path.parent) if ended.status else ""
    if not ended.status:  # the bit has no effect, such as one in an unused name
        bench.check(folder)
    path.write_bytes(expected)
    if not {*before} <= {*saved_states(folder)}:
        raise Lost("saved state is gone")
    bench.finish(folder, **inputs)
    return message


def of_output(bench: Bench, random: Random, name: str) -> str:
    """Damage an output: `collect` names it, and the same job writes it again without training."""
    folder = bench.new()
    bench.end_well(bench.start(folder))
    bench.end_well(_collect(bench, folder))
    expected = (folder / "runs.csv").read_bytes()
    method, weights, rank, _ = CELLS[0]
    run = folder / "runs" / cell_of(method, weights, rank).path / "seed0"
    damage(run / name, random)
    ended = _collect(bench, folder).end()
    if ended.status:
        message = one_message(ended, f"{run.parent.name}/{run.name}")
    elif (folder / "runs.csv").read_bytes() != expected:
        raise Lost(f"a damaged {name} was collected")
    else:
        message = ""
    (folder / "runs.csv").unlink()
    if " epoch 1/" in bench.finish(folder).errors:
        raise Lost("a finished run was trained again")
    return message


def _collect(bench: Bench, folder: Path):
    """Collect the finished runs of the first cell into runs.csv."""
    config = yaml.safe_load((ROOT / "config/config.yaml").read_text())
    method, weights, rank, epochs = CELLS[0]
    table = dict(models=["tiny"], tasks=["sst2"], method=method, weights=[weights], ranks=[rank])
    config |= dict(
        seeds=[0],
        precision="fp32",
        overrides=OVERRIDES | dict(epochs=epochs),
        tables=dict(table2=table),
    )
    config |= dict(sources=dict(tiny=dict(role="model", kind="file", locator=str(bench.model_dir))))
    arguments = ["collect", "--config", json.dumps(config), "--runs-dir", str(folder / "runs")]
    return bench.launch([*arguments, "--output", str(folder / "runs.csv")])


DAMAGE = {
    **{f"damaged state: {what}": partial(of_state, what=what) for what in DAMAGED},
    **{f"damaged {name}": partial(of_input, name=name) for name in INPUTS},
    **{
        f"damaged {name} of a finished run": partial(of_output, name=name)
        for name in ("metrics.csv", "run.json")
    },
}
