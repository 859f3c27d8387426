"""A small grid end to end: training, more seeds, changed inputs, packs and methods."""

import json
import re
import shutil
from pathlib import Path

import pytest
from helpers.models import ROOT, make_model, make_tokenizer
from helpers.workflow import run_files, snakemake, trained, write_config


def test_a_small_grid_end_to_end(trained_grid):
    """Three cells (one in both tables), tables and figures.

    A second run has nothing to do, even if the tokens file is newer.
    """
    folder, config, output = trained_grid
    assert trained(output) == 3 and len(run_files(folder)) == 6
    for name in (
        "table2.html",
        "table2.md",
        "table2.tex",
        "table2.csv",
        "table6.html",
        "provenance.html",
    ):
        assert (folder / "results/tables" / name).stat().st_size > 200
    assert all(
        (folder / f"results/figures/{name}.{kind}").exists()
        for kind in ("svg", "png", "txt")
        for name in ("table2", "rank_curves", "learning_curves")
    )
    tokens = folder / "results/tokens/tiny/sst2/t20/tokens.safetensors"
    content = tokens.read_bytes()
    tokens.write_bytes(
        content + b" "
    )  # Snakemake ignores a newer time alone where a small file's checksum is the same
    assert "Nothing to be done" in snakemake(
        "--configfile", folder / "config.yaml", "--directory", folder
    )
    tokens.write_bytes(content)


@pytest.mark.parametrize("results", ["./results", "results//", "no/../results", "{}/./results"])
def test_another_spelling_of_the_results_folder_trains_nothing(trained_grid, results):
    folder, _, _ = trained_grid
    options = ["--configfile", folder / "config.yaml", "--directory", folder]
    output = snakemake("-n", *options, "--config", f"results={str(results).format(folder)}")
    assert "Nothing to be done" in output


def test_a_new_seed_trains_without_retraining_the_others(trained_grid):
    """The cell's job runs again; finished runs are restored from their state, byte for byte."""
    folder, config, _ = trained_grid
    before = run_files(folder)
    path = write_config(folder, config, seeds=[0, 1, 5])
    snakemake("--configfile", path, "--directory", folder)
    after = run_files(folder)
    assert {name: after[name] for name in before} == before and len(after) == 9
    log = next((folder / "results/logs/train").rglob("train.log")).read_text()
    assert log.count("is finished: outputs written") == 2 and "1 runs in lock-step" in log


@pytest.mark.slow
def test_only_runs_with_changed_inputs_train_again(small_grid, tmp_path):
    """Change one input after the other in a copy of the checkout; other runs keep their files.

    The changes: a hyperparameter of one task, the data of one task, the model, then the data of
    one task and a new seed.
    """
    folder, config = small_grid
    for name in ("Snakefile", "config", "lora", "workflow", "envs"):
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, tmp_path / name)
    glue, tiny = (
        shutil.copytree(folder / "glue", tmp_path / "glue"),
        shutil.copytree(folder / "tiny", tmp_path / "tiny"),
    )
    sources = {name: dict(kind="file", locator=str(glue)) for name in ("glue-sst2", "glue-stsb")}
    config = config | dict(
        sources=sources | {"tiny": dict(role="model", kind="file", locator=str(tiny))}
    )
    path = write_config(
        tmp_path, config, overrides=dict(max_tokens=20, epochs=2, learning_rate=3e-3)
    )

    def again() -> tuple[set[str], set[str]]:
        """Return the tasks and ranks whose jobs ran, and those whose runs have changed."""
        before = run_files(tmp_path)
        output = snakemake("-s", tmp_path / "Snakefile", "--configfile", path, cwd=tmp_path)
        jobs = re.findall(r"rule train:.*?wildcards: .*?task=(\w+), .*?rank=(\d+)", output, re.S)
        changed = [
            name for name, content in run_files(tmp_path).items() if before.get(name) != content
        ]
        parts = [Path(name).parts for name in changed]
        return {f"{task} {rank}" for task, rank in jobs}, {
            f"{part[4]} {part[7].removeprefix('r')}" for part in parts
        }

    every = {"sst2 1", "sst2 2", "stsb 2"}
    assert again() == (every, every)
    assert again() == (set(), set())

    facts = tmp_path / "config/hparams.csv"
    facts.write_text(facts.read_text() + "course,lora,tiny,stsb,*,alpha,32,this test\n")
    assert again() == ({"stsb 2"}, {"stsb 2"})

    lines = (glue / "STS-B/train.tsv").read_text().splitlines(keepends=True)
    other = shutil.copytree(glue, tmp_path / "other")
    (other / "STS-B/train.tsv").write_text("".join(lines[:-5]))
    config["sources"]["glue-stsb"]["locator"] = str(other)
    path = write_config(
        tmp_path, config, overrides=dict(max_tokens=20, epochs=2, learning_rate=3e-3)
    )
    assert again() == ({"stsb 2"}, {"stsb 2"})

    config["sources"]["tiny"]["locator"] = str(
        make_model("bert", tmp_path / "larger", num_hidden_layers=1)
    )
    make_tokenizer(tmp_path / "larger")
    path = write_config(
        tmp_path, config, overrides=dict(max_tokens=20, epochs=2, learning_rate=3e-3)
    )
    assert again() == (every, every)

    before = run_files(tmp_path)
    config["sources"]["glue-stsb"]["locator"] = str(glue)
    path = write_config(
        tmp_path,
        config,
        overrides=dict(max_tokens=20, epochs=2, learning_rate=3e-3),
        seeds=[0, 1, 2],
    )
    assert again()[0] == every
    after = run_files(tmp_path)
    assert len(after) == 9 and {
        "stsb" in name for name in before if before[name] == after[name]
    } == {False}
    assert all(before[name] != after[name] for name in before if "stsb" in name)


@pytest.mark.slow
@pytest.mark.parametrize(
    "pack, left_out, jobs, runs",
    [([], None, 6, 6), (["rank", "seed"], "table2", 1, 4), (["task", "seed"], "table6", 1, 4)],
)
def test_every_pack_gives_the_same_metrics(trained_grid, tmp_path, pack, left_out, jobs, runs):
    """The same bytes as in packs of seeds: alone, with other ranks, with another task."""
    folder, config, _ = trained_grid
    tables = {name: None if name == left_out else table for name, table in config["tables"].items()}
    path = write_config(tmp_path, config, pack=pack, tables=tables)
    output = snakemake("--configfile", path, "--directory", tmp_path, "--until", "train")
    assert trained(output) == jobs
    before, got = run_files(folder), run_files(tmp_path)
    assert len(got) == runs and got == {name: before[name] for name in got}
    records = [json.loads((tmp_path / name).with_name("run.json").read_text()) for name in got]
    assert {record["speed"]["pack"] for record in records} == {runs // jobs}


def test_every_method_and_a_warm_start_end_to_end(small_grid, tmp_path):
    """Baselines and LoRA in two protocols, one table.

    In the second protocol the runs of stsb start from those of sst2.
    """
    folder, config = small_grid
    table = config["tables"]["table2"] | dict(
        baselines=[
            dict(method="ft"),
            dict(method="bitfit"),
            dict(method="adapter_houlsby", ranks=[2]),
            dict(method="lora", weights=["qv"], ranks=[2], protocols=["from-sst2"]),
        ]
    )
    changes = dict(
        tables=dict(table2=table, table6=None),
        protocols={"from-sst2": dict(base="course", start="sst2")},
    )
    output = snakemake(
        "--configfile", write_config(tmp_path, config, **changes), "--directory", tmp_path
    )
    assert trained(output) == 10 and len(run_files(tmp_path)) == 20
    records = {
        path: json.loads(path.read_text()) for path in (tmp_path / "results/runs").rglob("run.json")
    }
    for path, record in records.items():
        task, protocol = record["settings"]["task"], record["settings"]["protocol"]
        assert bool(record["start"]) == (task == "stsb" and protocol == "from-sst2"), path
        assert not record["start"] or record["start"]["source"].startswith(
            "from-sst2/tiny/sst2/lora/qv/r2/seed"
        )
    assert {record["settings"]["method"] for record in records.values()} == {
        "lora",
        "ft",
        "bitfit",
        "adapter_houlsby",
    }
    page = (tmp_path / "results/tables/table2.md").read_text()
    for words in ("full fine-tuning", "BitFit", "Houlsby", "from-sst2"):
        assert words.lower() in page.lower(), words
