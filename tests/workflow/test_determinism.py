"""The determinism check passes on a small grid, and finds a changed byte."""

import shutil

import determinism
import pytest
import yaml
from helpers.models import make_glue, make_model, make_tokenizer

pytestmark = pytest.mark.slow


def test_cores_do_not_change_outputs_and_a_changed_byte_is_found(tmp_path, capsys):
    """A grid of two jobs: on one core, on two, and with two threads per job."""
    make_tokenizer(make_model("bert", tmp_path / "tiny"))
    make_glue(tmp_path / "glue")
    config = dict(
        protocol="course",
        seeds=[0],
        device="cpu",
        precision="fp32",
        pack=[],
        overrides=dict(max_tokens=20, epochs=2, learning_rate=3e-3, alpha="2r"),
        sources={
            "tiny": dict(role="model", kind="file", locator=str(tmp_path / "tiny")),
            "glue-sst2": dict(kind="file", locator=str(tmp_path / "glue")),
        },
        tables=dict(
            table2=dict(
                models=["tiny"], tasks=["sst2"], method="lora", weights=["qv"], ranks=[1, 2]
            ),
            table6=None,
        ),
    )
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(config))
    folders = [tmp_path / name / "results" for name in ("one", "all", "threads")]
    for folder, (cores, threads) in zip(folders, determinism.SETTINGS.values(), strict=True):
        folder.mkdir(parents=True)
        determinism.run(folder, path, cores, threads, [])
    assert determinism.compare(folders) == 0
    output = capsys.readouterr().out
    assert (
        "one core and all cores: 4 of 4 files are the same bytes" in output
        and "epoch: the same" in output
    )

    rows = next(folders[1].rglob("metrics.csv"))
    rows.write_text(rows.read_text() + "\n")
    assert determinism.compare(folders) == 1
    assert "3 of 4 files" in capsys.readouterr().out
    shutil.copytree(folders[0] / "runs", folders[1] / "runs", dirs_exist_ok=True)
    assert determinism.compare(folders) == 0
    largest = determinism.largest_differences(folders[0], folders[1])
    assert set(gap for gap, _ in largest.values()) == {0.0}
