"""The steps of the kit: each runs in a separate process and writes its own JSON file.

A step that is done is not run again. A step that failed, or did not end within its limit, is run
again by the next call.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from gpu import checks, speed
from gpu.settings import BENCHMARKS, ROOT, Settings

Step = Callable[[Settings], dict]


def _speed_of(model: str, lengths: str) -> Step:
    return lambda settings: speed.throughput(settings, model, lengths)


# Name of each step: its function, and its time limit in seconds.
STEPS: dict[str, tuple[Step, int]] = {
    "machine": (speed.machine, 60),
    "tests": (checks.tests, 120),
    "packed": (checks.packed, 100),
    "learning": (checks.learning, 120),
    "speed-roberta-base-sst2": (_speed_of("roberta-base", "sst2"), 120),
    "speed-roberta-base-mnli": (_speed_of("roberta-base", "mnli"), 120),
    "speed-roberta-large-mnli": (_speed_of("roberta-large", "mnli"), 150),
    "resume": (checks.resume, 100),
    "two-gpus": (checks.two_gpus, 80),
}
TOTAL_S = 600  # of one call of the kit


def run_step(name: str, settings: Settings) -> dict:
    """Run a step in this process; return its result.

    Returns:
        `status`: ok, skipped or failed. `values` of an ok step; `why` of another one. `seconds`.
    """
    started = time.time()
    try:
        result = dict(status="ok", values=STEPS[name][0](settings))
    except checks.Skipped as why:
        result = dict(status="skipped", why=str(why))
    except Exception as error:  # the report has the reason, and the other steps go on
        result = dict(status="failed", why=f"{type(error).__name__}: {error}")
    return result | dict(seconds=round(time.time() - started, 1))


def result_of(name: str, folder: Path) -> dict | None:
    """Return the result of a step; None if it has not run."""
    path = folder / f"{name}.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


def write_result(name: str, folder: Path, result: dict) -> None:
    """Write the result of a step, all at once."""
    folder.mkdir(parents=True, exist_ok=True)
    part = folder / f"{name}.json.part"
    part.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    part.replace(folder / f"{name}.json")


def run_missing(settings: Settings, total_s: float = TOTAL_S) -> dict[str, dict]:
    """Run the steps that are not done, one after another, for at most `total_s` seconds.

    Returns:
        The result of every step that has run, by name.
    """
    deadline = time.monotonic() + total_s
    for name, (_, limit_s) in STEPS.items():
        before = result_of(name, settings.folder)
        if before is not None and before["status"] == "ok":
            print(f"{name}: done before", flush=True)
            continue
        left_s = deadline - time.monotonic()
        if left_s < 1:
            print(f"{name}: no time left; run the same command again", flush=True)
            continue
        result = _run_in_process(name, settings, min(limit_s, left_s))
        write_result(name, settings.folder, result)
        why = f" ({result['why'].splitlines()[0]})" if "why" in result else ""
        print(f"{name}: {result['status']}{why}, {result['seconds']} s", flush=True)
    found = {name: result_of(name, settings.folder) for name in STEPS}
    return {name: result for name, result in found.items() if result is not None}


def _run_in_process(name: str, settings: Settings, limit_s: float) -> dict:
    """Run a step in a separate process, so that its memory and its failures end with it."""
    given = {key: str(value) for key, value in asdict(settings).items()}
    request = json.dumps(given | dict(tiny=settings.tiny))
    command = [sys.executable, "-m", "gpu", "--step", name, "--settings", request]
    path = os.pathsep.join([str(BENCHMARKS), str(ROOT), os.environ.get("PYTHONPATH", "")])
    fixed = dict(PYTHONPATH=path, HF_HUB_OFFLINE="1")
    started = time.time()
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=limit_s, env=os.environ | fixed
        )
    except subprocess.TimeoutExpired:
        seconds = round(time.time() - started, 1)
        return dict(status="failed", why=f"no end within {limit_s:.0f} s", seconds=seconds)
    lines = done.stdout.strip().splitlines()
    if done.returncode or not lines:
        reason = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
        return dict(status="failed", why=reason, seconds=round(time.time() - started, 1))
    return json.loads(lines[-1])


def settings_from(request: str) -> Settings:
    """Return the settings that `_run_in_process` passes on."""
    given = json.loads(request)
    paths = {name: Path(given[name]) for name in ("folder", "model_dir", "tokens_dir")}
    return Settings(device=given["device"], tiny=given["tiny"], **paths)
