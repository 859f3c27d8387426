"""Truncate files or flip a bit: the damage is found, and either recovered or named in a message."""

import json
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from random import Random

import yaml
from faults.bench import CELLS, Bench, cell_of, saved_states
from faults.injection import Injection
from faults.job import Job, Lost
from faults.resource_limits import single_message
from helpers.models import ROOT
from helpers.training import OVERRIDES

STATE_FILES = {  # damage of a run's state: its files
    "tensors": ("tensors",),
    "state.json": ("state.json",),
    "both states": ("tensors", "before.json"),
}
INPUTS = ("tokens.safetensors", "tokens.json", "model.safetensors", "config.json", "fetched.json")


def damage_file(path: Path, random: Random) -> None:
    """Flip one bit of a file, or truncate it."""
    content = bytearray(path.read_bytes())
    if random.random() < 0.5:
        content[random.randrange(len(content))] ^= 1 << random.randrange(8)
        path.write_bytes(content)
    else:
        path.write_bytes(content[: random.randrange(len(content))])


def damage_state(bench: Bench, random: Random, name: str) -> str:
    """Damage the state of a killed run that has two saved states.

    The previous state is used, also if the next kill comes while it replaces the damaged one. If
    both are damaged, the run starts again. The state of the other runs is resumed in any case.

    Args:
        bench: Inputs and jobs.
        random: Source of the run, the files' damage and the calls.
        name: A key of STATE_FILES.
    """
    folder = bench.new_folder()
    bench.start(folder, [Injection("kill", "step", random.randint(8, 18))]).wait()
    saved = saved_states(folder)
    state_dir = folder / "state" / random.choice(sorted(saved))
    tensors = state_dir / json.loads((state_dir / "state.json").read_text())["file"]
    for file in STATE_FILES[name]:
        damage_file(tensors if file == "tensors" else state_dir / file, random)
    errors = ""
    if name != "both states" and random.random() < 0.5:
        injection = Injection("kill", "rename before.json", random.randint(1, 2))
        errors = bench.start(folder, [injection]).wait().errors
    result = bench.wait_for_success(bench.start(folder))
    bench.check(folder)
    expected = len(saved) - (name == "both states")
    if result.resumed != expected or "not used" not in errors + result.errors:
        raise Lost(
            f"{expected} of {len(saved)} states can be resumed, {result.resumed} were: "
            f"{result.errors[-1500:]}"
        )
    return ""


def damage_input(bench: Bench, random: Random, name: str) -> str:
    """Damage an input: the job finds it before it trains, and succeeds once it is restored."""
    folder = bench.new_folder()
    inputs = dict(
        tokens_dir=bench.folder / f"{folder.name}-tokens",
        model_dir=bench.folder / f"{folder.name}-model",
    )
    shutil.copytree(bench.tokens_dir, inputs["tokens_dir"])
    shutil.copytree(bench.model_dir, inputs["model_dir"])
    path = inputs["tokens_dir" if name.startswith("tokens") else "model_dir"] / name
    if random.random() < 0.5:
        injection = Injection("kill", "step", random.randint(2, 18))
        bench.start(folder, [injection], **inputs).wait()
    before, undamaged = saved_states(folder), path.read_bytes()
    damage_file(path, random)
    result = bench.start(folder, **inputs).wait()
    message = single_message(result, path.parent) if result.status else ""
    if not result.status:  # the bit has no effect, such as one in an unused name
        bench.check(folder)
    path.write_bytes(undamaged)
    if not {*before} <= {*saved_states(folder)}:
        raise Lost("saved state is gone")
    bench.resume_and_check(folder, **inputs)
    return message


def damage_output(bench: Bench, random: Random, name: str) -> str:
    """Damage an output: `collect` names it, and the same job writes it again without training."""
    folder = bench.new_folder()
    bench.wait_for_success(bench.start(folder))
    bench.wait_for_success(_start_collect(bench, folder))
    expected = (folder / "runs.csv").read_bytes()
    method, weights, rank, _ = CELLS[0]
    run_dir = folder / "runs" / cell_of(method, weights, rank).path / "seed0"
    damage_file(run_dir / name, random)
    result = _start_collect(bench, folder).wait()
    if result.status:
        message = single_message(result, f"{run_dir.parent.name}/{run_dir.name}")
    elif (folder / "runs.csv").read_bytes() != expected:
        raise Lost(f"a damaged {name} was collected")
    else:
        message = ""
    (folder / "runs.csv").unlink()
    if " epoch 1/" in bench.resume_and_check(folder).errors:
        raise Lost("a finished run was trained again")
    return message


def _start_collect(bench: Bench, folder: Path) -> Job:
    """Start `lora collect` of the finished runs of the first cell, into runs.csv."""
    config = yaml.safe_load((ROOT / "config/config.yaml").read_text())
    method, weights, rank, epochs = CELLS[0]
    table = dict(models=["tiny"], tasks=["sst2"], method=method, weights=[weights], ranks=[rank])
    config |= dict(
        seeds=[0],
        precision="fp32",
        overrides=OVERRIDES | dict(epochs=epochs),
        tables=dict(table2=table),
        sources=dict(tiny=dict(role="model", kind="file", locator=str(bench.model_dir))),
    )
    arguments = ["collect", "--config", json.dumps(config), "--runs-dir", str(folder / "runs")]
    return bench.launch([*arguments, "--output-dir", str(folder)])


DAMAGE: dict[str, Callable[[Bench, Random], str]] = {
    **{f"damaged state: {name}": partial(damage_state, name=name) for name in STATE_FILES},
    **{f"damaged {name}": partial(damage_input, name=name) for name in INPUTS},
    **{
        f"damaged {name} of a finished run": partial(damage_output, name=name)
        for name in ("metrics.csv", "run.json")
    },
}
