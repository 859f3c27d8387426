"""Outputs of a finished run are enough to know that it is finished.

The kind: a run whose outputs are whole and whose checkpoint is gone (deleted to free space, not
copied), in its own folder or kept beside the checkpoint. Outputs that are not whole, of another
digest or with other settings are never used. The run is trained once, by the training loop, so its
digest is the real one.
"""

import dataclasses
import json
import shutil
from pathlib import Path

import pytest
from helpers.commands import edit_json
from helpers.training import make_spec, train

from lora import paths
from lora.experiment import kept_outputs


@pytest.fixture(scope="module")
def finished(bert_dir, tokens_dir, tmp_path_factory):
    folder = tmp_path_factory.mktemp("finished")
    spec = make_spec(folder, 0, epochs=1)
    train([spec], bert_dir, tokens_dir, folder / "state")
    return spec


@pytest.fixture
def spec(finished, tmp_path):
    """The finished run in a separate folder, without a checkpoint."""
    shutil.copytree(finished.output_dir, tmp_path / "run")
    return dataclasses.replace(finished, output_dir=tmp_path / "run")


def content(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def digest_of(spec) -> str:
    return json.loads((spec.output_dir / paths.RUN_JSON).read_text())["digest"]


@pytest.mark.parametrize("kept", [False, True])
@pytest.mark.parametrize("links", [False, True])
def test_a_finished_run_is_not_trained_again(
    monkeypatch, bert_dir, tokens_dir, spec, tmp_path, kept, links
):
    """Its outputs are in its folder, or were kept before Snakemake deleted them."""
    before, state = content(spec.output_dir), tmp_path / "state"
    if not links:
        monkeypatch.setattr("os.link", lambda *given: (_ for _ in ()).throw(OSError("no links")))
    if kept:
        kept_outputs.keep(spec.output_dir, state)
        kept_outputs.keep(spec.output_dir, state)  # a second time changes nothing
        shutil.rmtree(spec.output_dir)
    monkeypatch.setattr("lora.training.loop._train_pack", lambda *given: pytest.fail("trained"))
    for _ in range(2):
        train([spec], bert_dir, tokens_dir, state)
        assert content(spec.output_dir) == before
    assert not list(tmp_path.rglob("*.tmp"))


def flip_byte(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


DAMAGE = {
    "metrics": lambda run: flip_byte(run / paths.METRICS),
    "adapter": lambda run: flip_byte(run / paths.ADAPTER),
    "record": lambda run: (run / paths.RUN_JSON).write_text("{"),
    "status": lambda run: (run / paths.RUN_JSON).write_text(
        (run / paths.RUN_JSON).read_text().replace('"ok"', '"bad"')
    ),
    "digest": lambda run: edit_json(run / paths.RUN_JSON, digest="0" * 64),
    "hashes": lambda run: edit_json(run / paths.RUN_JSON, files={}),
    "no metrics": lambda run: (run / paths.METRICS).unlink(),
    "no adapter": lambda run: (run / paths.ADAPTER).unlink(),
    "no adapter config": lambda run: (run / paths.ADAPTER_CONFIG).unlink(),
    "no record": lambda run: (run / paths.RUN_JSON).unlink(),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_outputs_that_are_not_whole_are_not_used(spec, tmp_path, name):
    digest, state = digest_of(spec), tmp_path / "state"
    DAMAGE[name](spec.output_dir)
    kept_outputs.keep(spec.output_dir, state)
    assert not kept_outputs.restore(spec, digest, state)


def test_outputs_that_were_kept_and_damaged_are_not_used(spec, tmp_path):
    digest, state = digest_of(spec), tmp_path / "state"
    kept_outputs.keep(spec.output_dir, state)
    flip_byte(spec.output_dir / paths.ADAPTER)  # the same file, if it is a link
    assert not kept_outputs.restore(spec, digest, state)


def test_outputs_of_a_run_with_another_name_are_not_used(spec, tmp_path):
    """Its protocol's name is not part of the digest, but tables check it."""
    renamed = dataclasses.replace(spec, cell=dataclasses.replace(spec.cell, protocol="mine"))
    digest, state = digest_of(spec), tmp_path / "state"
    kept_outputs.keep(spec.output_dir, state)
    assert not kept_outputs.restore(renamed, digest, state)
    assert kept_outputs.restore(spec, digest, state)
