"""Command lines of `prepare` and `train` for tests, and ways to edit their input files."""

import hashlib
import json
from pathlib import Path

from lora.files import CHECKSUM_KEYS


def prepare_arguments(inputs: Path, output_dir: Path) -> list[str]:
    """Return a `lora prepare` of SST-2 from <inputs>/glue with the tokenizer of <inputs>/model."""
    return [
        "prepare",
        *("--task", "sst2"),
        *("--data-dir", str(inputs / "glue")),
        *("--model-dir", str(inputs / "model")),
        *("--max-tokens", "20"),
        *("--output-dir", str(output_dir)),
    ]


def train_arguments(
    inputs: Path, output_dir: Path, *options: str | int | Path, rank: int = 2
) -> list[str]:
    """Return a `lora train` of one epoch on <inputs>/tokens; `options` are put at the end."""
    return [
        "train",
        *("--task", "sst2"),
        *("--weights", "qv"),
        *("--rank", str(rank)),
        *("--model-dir", str(inputs / "model")),
        *("--tokens-dir", str(inputs / "tokens")),
        *("--output-dir", str(output_dir)),
        *("--device", "cpu"),
        *("--max-tokens", "20"),
        *("--epochs", "1"),
        *map(str, options),
    ]


def write_file(path: Path, content: str | bytes) -> None:
    """Write a file and its parent folders."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())


def edit_json(path: Path, **changes: object) -> None:
    """Change values of a JSON file and remove its checksum, as a user does who edits it."""
    values = json.loads(path.read_text())
    kept = {key: value for key, value in values.items() if key not in CHECKSUM_KEYS}
    path.write_text(json.dumps(kept | changes))


def make_manifest(folder: Path, **changes: object) -> str:
    """Return the text of fetched.json for a folder, as `lora fetch` writes it.

    Args:
        folder: Folder with the fetched files.
        changes: Keys with other values than those of a valid manifest.
    """
    paths = [path for path in folder.rglob("*") if path.is_file()]
    files = {
        path.relative_to(folder).as_posix(): dict(
            sha256=hashlib.sha256(path.read_bytes()).hexdigest(), bytes=path.stat().st_size
        )
        for path in paths
    }
    return json.dumps(dict(name="glue", identity="file glue", files=files) | changes)
