"""Base model of an adapter, as other programs can load it."""

import os
from dataclasses import dataclass
from pathlib import Path

from lora.data import fetch


@dataclass(frozen=True)
class BaseReference:
    """What `from_pretrained` of transformers needs to load a base model.

    Attributes:
        name_or_path: Name on the Hugging Face hub, or an absolute path of a folder.
        revision: Commit of a model on the hub; None for a folder.
        licence: SPDX name; empty if it is unknown.
    """

    name_or_path: str
    revision: str | None = None
    licence: str = ""


def of_folder(model_dir: Path) -> BaseReference:
    """Return the reference to a base model: hub name and commit if it was fetched from there.

    Raises:
        FetchError: If the folder's manifest is damaged.
    """
    here = os.path.abspath(model_dir)
    if not (Path(model_dir) / fetch.MANIFEST).is_file():
        return BaseReference(here)
    manifest = fetch.read_manifest(model_dir)
    licence = str(manifest.get("licence") or "")
    if manifest.get("kind") == "hub":
        return BaseReference(str(manifest["locator"]), str(manifest["revision"]), licence)
    return BaseReference(here, None, licence)
