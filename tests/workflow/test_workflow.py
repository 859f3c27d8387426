"""The workflow as users run it: dry runs, a small grid end to end, more seeds, and tables from
existing runs.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.models import ROOT, make_model, make_tokenizer
from helpers.workflow import run_files, small_config, snakemake, trained, write_config

REFERENCE = ROOT / "results/reference"


@pytest.mark.parametrize("name, cells", [("config.yaml", 18), ("demo.yaml", 12)])
def test_a_dry_run_shows_the_grid_and_downloads_nothing(tmp_path, name, cells):
    output = snakemake("-n", "--configfile", ROOT / "config" / name, "--directory", tmp_path)
    assert trained(output) == cells
    assert not (tmp_path / "results").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    "pack, left_out, jobs",
    [
        ([], "table2", 75),
        (["seed"], "table2", 15),
        (["rank", "seed"], "table2", 3),
        (["seed", "weights"], "table2", 5),
        (["weights", "rank", "seed"], "table2", 1),
        (["task", "seed"], "table6", 1),
        (["task"], "table6", 5),
    ],
)
def test_a_pack_is_a_job(tmp_path, pack, left_out, jobs):
    """Of the default config's 75 runs of Table 6, or 15 of Table 2; the collected files are always
    one per run.
    """
    path = write_config(tmp_path, dict(pack=pack, tables={left_out: None}))
    output = snakemake("-n", "--configfile", path, "--directory", tmp_path)
    assert trained(output) == jobs
    (collected,) = re.findall(r"rule collect:\n +input: (.*)", output)
    assert collected.count("metrics.csv") == dict(table2=75, table6=15)[left_out]


def test_a_pack_that_the_grid_does_not_fill_stops_before_any_job(tmp_path):
    path = write_config(tmp_path, dict(pack=["rank", "seed"]))
    code, output = snakemake("-n", "--configfile", path, "--directory", tmp_path, check=False)
    assert code != 0 and "Traceback" not in output and trained(output) == 0
    assert (
        "no table uses course/roberta-base/sst2/lora/qv/r1" in output
        and "use pack: [seed]" in output
    )


def test_lint_and_format():
    assert "Congratulations" in snakemake("--lint")
    subprocess.run(
        [Path(sys.executable).parent / "snakefmt", "--check", "Snakefile", "workflow"],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )


def test_a_wrong_config_stops_before_any_job_with_all_its_problems(tmp_path):
    config = tmp_path / "wrong.yaml"
    config.write_text("seeds: [1, 1]\nprotocl: demo\ntables: {table2: {tasks: [sst3]}}\n")
    code, output = snakemake("-n", "--configfile", config, "--directory", tmp_path, check=False)
    assert code != 0 and "Traceback" not in output
    assert "seeds: got [1, 1]" in output and "did you mean 'protocol'" in output


def test_arguments_of_config_mean_what_they_mean_in_a_file(tmp_path):
    """Lists, null and nested numbers reach every rule as in a config file; paths are expanded."""
    table = "{models: [minilm], tasks: [same-article], method: lora, weights: [qv], ranks: [4, 8]}"
    output = snakemake(
        *("-n", "--directory", tmp_path, "--config", "seeds=[7]", "pack=[seed]", "subspace=null"),
        *("protocol=demo", f"tables={{table2: {table}, table6: null}}", "results=$MINE/./x/"),
        env=dict(MINE=str(tmp_path / "mine")),
    )
    assert trained(output) == 2 and "rule subspace" not in output
    run = tmp_path / "mine/x/runs/demo/minilm/same-article/lora/qv/r4/seed7"
    assert f"output: {run}/metrics.csv" in output


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A small config, and where it runs."""
    folder = tmp_path_factory.mktemp("small grid")  # a space in the path, on purpose
    return folder, small_config(folder)


@pytest.fixture(scope="module")
def ran(small):
    folder, config = small
    output = snakemake("--configfile", write_config(folder, config), "--directory", folder)
    return folder, config, output


def test_a_small_grid_end_to_end(ran):
    """Three cells (one in both tables), tables, figures; run again, there is nothing to do, even
    with newer tokens.
    """
    folder, config, output = ran
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
        (folder / f"results/figures/{name}.svg").exists()
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
def test_another_spelling_of_the_results_folder_trains_nothing(ran, results):
    folder, _, _ = ran
    options = ["--configfile", folder / "config.yaml", "--directory", folder]
    output = snakemake("-n", *options, "--config", f"results={str(results).format(folder)}")
    assert "Nothing to be done" in output


def test_another_seed_trains_alone(ran):
    """The cell's job runs again, but the runs that were there come back from state, to the byte."""
    folder, config, _ = ran
    before = run_files(folder)
    path = write_config(folder, config, seeds=[0, 1, 5])
    snakemake("--configfile", path, "--directory", folder)
    after = run_files(folder)
    assert {name: after[name] for name in before} == before and len(after) == 9
    log = next((folder / "results/logs/train").rglob("train.log")).read_text()
    assert log.count("is finished: outputs written") == 2 and "1 runs in lock-step" in log


@pytest.mark.slow
def test_exactly_the_runs_whose_facts_changed_train_again(small, tmp_path):
    """In a checkout of one's own: a hyperparameter of one task, then the data of one, then the
    model, then the data of one and a further seed. Everything else keeps its files.
    """
    folder, config = small
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
        """The tasks and ranks whose jobs ran, and those whose runs have other bytes than before."""
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
def test_every_pack_gives_the_same_rows(ran, tmp_path, pack, left_out, jobs, runs):
    """As packs of seeds gave, to the byte: alone, with other ranks, with another task."""
    folder, config, _ = ran
    tables = {name: None if name == left_out else table for name, table in config["tables"].items()}
    path = write_config(tmp_path, config, pack=pack, tables=tables)
    output = snakemake("--configfile", path, "--directory", tmp_path, "--until", "train")
    assert trained(output) == jobs
    before, got = run_files(folder), run_files(tmp_path)
    assert len(got) == runs and got == {name: before[name] for name in got}
    records = [json.loads((tmp_path / name).with_name("run.json").read_text()) for name in got]
    assert {record["speed"]["pack"] for record in records} == {runs // jobs}


def test_every_method_and_a_start_from_another_task_end_to_end(small, tmp_path):
    """Baselines and LoRA under two protocols in one table; stsb's runs of the second start from
    sst2's.
    """
    folder, config = small
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


def copy_of(folder: Path, target: Path) -> Path:
    """What git or rsync would bring: runs alone, with all timestamps turned around."""
    shutil.copytree(folder / "results/runs", target / "results/runs")
    for age, path in enumerate(sorted((target / "results/runs").rglob("*"))):
        os.utime(path, (1_000_000 + age, 1_000_000 + age))
    return target


def test_tables_from_existing_runs_without_torch_or_training(ran, tmp_path):
    folder, config, _ = ran
    copy = copy_of(folder, tmp_path / "copy")
    (tmp_path / "no").mkdir()
    for name in ("torch", "transformers", "datasets"):
        (tmp_path / "no" / f"{name}.py").write_text("raise ImportError('not here')")
    path = write_config(copy, config, mode="existing", seeds=[0, 1])
    output = snakemake(
        "--configfile", path, "--directory", copy, env={"PYTHONPATH": str(tmp_path / "no")}
    )
    assert trained(output) == 0 and "rule fetch" not in output
    assert (copy / "results/tables/table2.html").exists()


def test_a_missing_run_is_named(ran, tmp_path):
    folder, config, _ = ran
    copy = copy_of(folder, tmp_path / "copy")
    gone = copy / "results/runs/course/tiny/stsb/lora/qv/r2/seed1"
    shutil.rmtree(gone)
    code, output = snakemake(
        "--configfile",
        write_config(copy, config, mode="existing", seeds=[0, 1]),
        "--directory",
        copy,
        check=False,
    )
    assert code != 0 and "results/runs/course/tiny/stsb/lora/qv/r2/seed1/metrics.csv" in output
    assert len(run_files(copy)) >= 5
    snakemake(
        "--configfile",
        write_config(copy, config, mode="partial", seeds=[0, 1]),
        "--directory",
        copy,
    )
    assert "PARTIAL" in (copy / "results/tables/table2.md").read_text().upper()


def test_a_run_with_other_settings_is_refused_by_the_tables(ran, tmp_path):
    folder, config, _ = ran
    copy = copy_of(folder, tmp_path / "copy")
    record = copy / "results/runs/course/tiny/sst2/lora/qv/r2/seed0/run.json"
    facts = json.loads(record.read_text())
    facts["settings"]["hparams"]["learning_rate"] = 0.5
    record.write_text(json.dumps(facts))
    path = write_config(copy, config, mode="existing", seeds=[0, 1])
    code, output = snakemake("--configfile", path, "--directory", copy, check=False)
    assert code != 0 and "learning_rate" in output and "seed0" in output


NO_NETWORK = ["unshare", "--user", "--map-root-user", "--net"]


@pytest.mark.skipif(
    subprocess.run([*NO_NETWORK, "true"], capture_output=True).returncode != 0,
    reason="no network namespaces here",
)
def test_what_runs_on_compute_nodes_needs_no_network(small, tmp_path):
    """Fetched here, prepared and trained where there is not even a loopback; though the user said
    that the hub is there.
    """
    folder, config = small
    path = write_config(tmp_path, config, seeds=[0], tables=config["tables"] | dict(table6=None))
    options = ["--configfile", path, "--directory", tmp_path]
    snakemake(*options, "--until", "fetch")
    command = [
        *NO_NETWORK,
        sys.executable,
        "-m",
        "snakemake",
        "-s",
        ROOT / "Snakefile",
        "--cores",
        "2",
        *options,
    ]
    done = subprocess.run(
        [*command, "--until", "train"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env=os.environ | dict(HF_HUB_OFFLINE="0"),
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(run_files(tmp_path)) == 2


@pytest.mark.slow
@pytest.mark.parametrize(
    "verb",
    ["prepare --task sst2 --max-tokens 9 --data-dir x --model-dir x", "train --cells [] --seeds 0"],
)
def test_prepare_and_a_workflows_training_stay_away_from_the_hub(tmp_path, verb):
    """huggingface_hub, transformers and datasets, all three, whatever the environment says."""
    code = (
        "import sys; from lora.__main__ import main; main(sys.argv[1:])\n"
        "import datasets.config, huggingface_hub.constants, transformers.utils.hub\n"
        "assert datasets.config.HF_HUB_OFFLINE and huggingface_hub.constants.HF_HUB_OFFLINE\n"
        "assert transformers.utils.hub.is_offline_mode()"
    )
    command = [
        sys.executable,
        "-c",
        code,
        *verb.split(),
        "--model-dir",
        "x",
        "--output-dir",
        tmp_path / "out",
    ]
    subprocess.run(
        command,
        check=True,
        cwd=ROOT,
        env=os.environ | dict(HF_HUB_OFFLINE="0"),
        capture_output=True,
    )


def test_train_works_without_snakemake(small, tmp_path):
    """One run by the command line alone, over local folders."""
    folder, _ = small
    command = [
        sys.executable,
        "-m",
        "lora",
        "train",
        "--task",
        "sst2",
        "--rank",
        "8",
        "--alpha",
        "16",
        "--weights",
        "qv",
    ]
    command += [
        "--seed",
        "0",
        "--max-tokens",
        "16",
        "--epochs",
        "1",
        "--output-dir",
        tmp_path / "out",
    ]
    command += [
        "--model-dir",
        folder / "tiny",
        "--data-dir",
        folder / "glue",
        "--cache-dir",
        tmp_path / "cache",
    ]
    subprocess.run(command, check=True, cwd=ROOT, capture_output=True)
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        ".state",
        "metrics.csv",
        "run.json",
        "adapter",
    }
    settings = json.loads((tmp_path / "out/run.json").read_text())["settings"]
    assert settings["hparams"]["alpha"] == 16 and settings["rank"] == 8


def test_a_users_mistake_is_one_message(tmp_path):
    command = [
        sys.executable,
        "-m",
        "lora",
        "train",
        "--task",
        "sst-2",
        "--rank",
        "8",
        "--weights",
        "qv",
        "--seed",
        "0",
        "--output-dir",
        tmp_path,
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2 and "no task 'sst-2'; allowed: mnli, sst2" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.skipif(not (REFERENCE / "runs").is_dir(), reason="no reference runs here")
def test_reference_tables_are_made_in_seconds(tmp_path):
    shutil.copytree(REFERENCE / "runs", tmp_path / "results/reference/runs")
    existing = ["--configfile", ROOT / "config/demo.yaml", "--directory", tmp_path]
    existing += ["--config", "mode=existing", "results=results/reference"]
    output = snakemake(*existing)
    assert trained(output) == 0
    cells = (tmp_path / "results/reference/tables/table2.csv").read_text().splitlines()
    assert len(cells) == 1 + 4
    snakemake(*existing, "--report", tmp_path / "report.html")
    assert (tmp_path / "report.html").stat().st_size > 1_000_000


def test_training_jobs_ask_a_cluster_for_what_is_forecast_of_them(tmp_path):
    """Every one for memory and minutes of its own, MNLI for more time than MRPC, and the longest
    have priority.
    """
    output = snakemake("-n", "--directory", tmp_path)
    found = re.findall(
        r"rule train:.*?task=([\w-]+),.*?priority: (\d+).*?resources: (.*?)\n", output, re.S
    )
    assert len(found) == 18 and all("gpu=1" in resources for _, _, resources in found)
    asked = {
        task: [
            int(re.search(rf"{name}=(\d+)", resources).group(1)) for name in ("mem_mb", "runtime")
        ]
        + [int(priority)]
        for task, priority, resources in found
    }
    assert len(asked) == 4 and all(memory > 1500 for memory, _, _ in asked.values())
    order = [sorted(asked, key=lambda task: asked[task][place]) for place in (1, 2)]
    assert order[0] == order[1] == ["mrpc", "sst2", "qqp", "mnli"]
    less = snakemake("-n", "--directory", tmp_path, "--config", "plan_device=H100")
    assert max(map(int, re.findall(r"runtime=(\d+)", less))) < asked["mnli"][1] / 2


@pytest.mark.parametrize("mode", ["train", "existing"])
def test_a_plan_is_made_whatever_is_there_and_trains_nothing(tmp_path, mode):
    for _ in range(2):  # it has no output, so it is never up to date
        output = snakemake("plan", "--directory", tmp_path, "--config", f"mode={mode}")
        assert trained(output) == 0 and "rule fetch" not in output
        assert "estimate, not measured" in output and "18 cells, 5 seeds each" in output
    written = {path.name for path in (tmp_path / "results/plan").iterdir()}
    assert written == {"plan.txt", "jobs.csv", "makespan.csv", "makespan.svg", "makespan.png"}
