"""Folder with GLUE's official files. Tests that need them are skipped where it is absent."""

import os
from pathlib import Path

from helpers.models import ROOT

GLUE = Path(os.environ.get("LORA_GLUE_DIR", ROOT.parent / "shared" / "data" / "glue"))
