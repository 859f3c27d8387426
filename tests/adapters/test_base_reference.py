"""The base model of an adapter, as transformers can load it from any folder."""

from pathlib import Path

import pytest
from helpers.commands import make_manifest

from lora.adapters import base_reference
from lora.adapters.base_reference import BaseReference
from lora.data import fetch

COMMIT = "0123456789" * 4


@pytest.mark.parametrize(
    "facts, expected",
    [
        (
            dict(kind="hub", locator="owner/name", revision=COMMIT, licence="MIT"),
            BaseReference("owner/name", COMMIT, "MIT"),
        ),
        (
            dict(kind="pypi", locator="package==1#model", revision="wheel", licence="Apache-2.0"),
            BaseReference("HERE", None, "Apache-2.0"),
        ),
        (dict(kind="file", locator="/elsewhere", revision=""), BaseReference("HERE")),
        (None, BaseReference("HERE")),
    ],
)
def test_a_hub_model_has_its_name_and_commit_and_any_other_its_absolute_folder(
    tmp_path, monkeypatch, facts, expected
):
    folder = tmp_path / "sources/model"
    folder.mkdir(parents=True)
    if facts:
        (folder / fetch.MANIFEST).write_text(make_manifest(folder, **facts))
    here = str(folder) if expected.name_or_path == "HERE" else expected.name_or_path
    monkeypatch.chdir(tmp_path)
    for spelling in (Path("sources/model"), folder, Path("sources/../sources/model")):
        found = base_reference.of_folder(spelling)
        assert found == BaseReference(here, expected.revision, expected.licence)
