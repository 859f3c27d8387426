"""Where every file of a results folder is."""

from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
