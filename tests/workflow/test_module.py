"""The workflow used from elsewhere: as a module of another workflow, by workflow/Snakefile, from a
git repository, and with configs that leave keys out.

The kind: everything that Snakemake changes for a module. Its paths (basedir, prefix,
replace_prefix, pathvars, the working directory), its config (partial, none, too much), what is
global to the process (shell.prefix, sys.path, the imported package), its rules (renamed, changed,
a part of them, imported twice, through a module in between), and where its files are (a folder, a
repository, a URL). Each works, or is refused in one message before any job.
"""

import functools
import http.server
import os
import re
import subprocess
import threading
from pathlib import Path

import pytest
import yaml
from helpers.models import ROOT
from helpers.workflow import copy_checkout, run_files, small_config, snakemake, trained

PART = dict(table2=dict(tasks=["mrpc"]), table6=None)  # of the default table 2


def importer(folder: Path, module: str, use="use rule * from lora as lora_*", before="") -> Path:
    """Write a workflow that imports this one and has one more rule."""
    folder.mkdir(parents=True, exist_ok=True)
    own = 'rule own:\n    output: "own.txt"\n    shell: "env > {output}"\n'
    path = folder / "Snakefile"
    path.write_text(f"{before}\nmodule lora:\n{module}\n{use}\n{own}")
    return path


def module(snakefile: Path | str = ROOT / "Snakefile", config: dict | None = None, **more) -> str:
    """The lines of a module statement."""
    lines = [f"    snakefile: {str(snakefile)!r}", f"    config: {config or {}!r}"]
    return "\n".join([*lines, *(f"    {name}: {value!r}" for name, value in more.items())])


def dry(snakefile: Path, *arguments, **options) -> str:
    return snakemake("-n", *arguments, snakefile=snakefile, cwd=snakefile.parent, **options)


def refused(snakefile: Path, *arguments) -> str:
    code, output = dry(snakefile, *arguments, check=False)
    assert code != 0 and "Traceback" not in output and "KeyError" not in output, output
    return output


def outputs(output: str, rule: str) -> set[str]:
    """The outputs of a rule in a dry run."""
    lines = re.findall(rf"rule {rule}:\n(?:    input: .*\n)?    output: (.*)\n", output)
    return {name for line in lines for name in line.split(", ")}


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    config = small_config(tmp_path_factory.mktemp("small")) | dict(seeds=[0])
    return config | dict(tables=dict(table2=None, table6=config["tables"]["table6"]))


def test_a_module_end_to_end(small, tmp_path):
    """With a prefix, a partial config and a changed rule, of a checkout that is not installed. The
    importing workflow keeps its shell.prefix and gets nothing of this workflow's environment.
    """
    checkout = copy_checkout(tmp_path / "a checkout")
    path = importer(
        tmp_path / "project",
        module(checkout / "workflow/Snakefile", small, prefix="inner"),
        "use rule * from lora as lora_*\nuse rule train from lora as lora_train with:\n"
        "    threads: 1\n",
        'shell.prefix("export MARK=importer; ")',
    )
    output = snakemake("own.txt", "lora_all", snakefile=path, cwd=tmp_path / "project")
    assert output.count("rule lora_train:") == 2
    assert len(list((tmp_path / "project/inner/results/runs").rglob("metrics.csv"))) == 2
    assert (tmp_path / "project/inner/results/tables/table6.html").exists()
    assert {one.name for one in (tmp_path / "project").iterdir()} == {
        ".snakemake",
        "Snakefile",
        "inner",
        "own.txt",
    }
    environment = (tmp_path / "project/own.txt").read_text().splitlines()
    assert "MARK=importer" in environment
    ours = {line for line in environment if line.startswith(("LORA_", "PYTHONSAFEPATH="))}
    of_the_tests = {f"{name}={value}" for name, value in os.environ.items()}
    assert {line for line in ours - of_the_tests if not line.startswith("LORA_SCREEN=")} == set()
    assert not [
        line for line in environment if line.startswith("PYTHONPATH=/") and str(checkout) in line
    ]
    again = snakemake("-n", "lora_all", snakefile=path, cwd=tmp_path / "project")
    assert "Nothing to be done" in again


@pytest.mark.parametrize(
    "name, more, results",
    [
        ("Snakefile", {}, "results"),
        ("Snakefile", dict(prefix="a/b"), "a/b/results"),
        ("workflow/Snakefile", dict(prefix="a/b/"), "a/b/results"),
        ("workflow/Snakefile", dict(replace_prefix={"results": "elsewhere"}), "elsewhere"),
    ],
)
def test_paths_of_a_module(tmp_path, name, more, results):
    """Declared files, those that are local(), and folders that commands get, all in one folder."""
    path = importer(tmp_path / "project", module(ROOT / name, dict(tables=PART), **more))
    output = dry(path, "lora_all", "--printshellcmds")
    found = outputs(output, "lora_train") | outputs(output, "lora_prepare")
    found |= outputs(output, "lora_fetch") | outputs(output, "lora_table")
    assert len(found) >= 4 and all(one.startswith(f"{results}/") for one in found), found
    folders = re.findall(r"--(?:output-dir|state-dir|runs-dir|log) (\S+)", output)
    assert len(folders) > 10 and all(one.startswith(f"{results}/") for one in folders), folders


@pytest.mark.slow
def test_an_absolute_results_folder_has_no_prefix(tmp_path):
    config = dict(tables=PART, results=str(tmp_path / "results"))
    path = importer(tmp_path / "project", module(config=config, prefix="inner"))
    output = dry(path, "lora_all")
    assert "inner/" not in output and f"output: {tmp_path}/results/runs" in output


@pytest.mark.slow
def test_a_module_from_another_working_directory(tmp_path):
    """The importer by its path, with --directory, with a relative module path."""
    (tmp_path / "link").symlink_to(ROOT)
    path = importer(tmp_path / "project", module("../link/Snakefile", dict(tables=PART)))
    arguments = ["lora_all", "-n", "--directory", tmp_path / "work"]
    output = snakemake(*arguments, snakefile=path, cwd="/")
    assert output.count("rule lora_train:") == 1
    assert not (tmp_path / "work/results").exists()


def test_a_module_through_another_module(tmp_path):
    """Prefixes add up, as Snakemake does it for the rules in between."""
    inner = importer(tmp_path / "inner", module(config=dict(tables=PART), prefix="one"))
    outer = tmp_path / "Snakefile"
    outer.write_text(
        f'module inner:\n    snakefile: "{inner}"\n    prefix: "two"\n'
        "use rule * from inner as inner_*\n"
    )
    found = outputs(dry(outer, "inner_lora_all"), "inner_lora_train")
    assert found and all(one.startswith("two/one/results/") for one in found), found


def test_two_modules_and_a_part_of_the_rules(tmp_path):
    """Each has its own config and folder; rules that are not imported are not there."""
    second = module(config=dict(tables=PART, results="b"))
    path = importer(
        tmp_path,
        module(config=dict(tables=PART, results="a")),
        f"use rule * from lora as lora_*\nmodule other:\n{second}\n"
        "use rule plan from other as other_plan\n",
    )
    output = dry(path, "lora_all", "other_plan", "--printshellcmds")
    assert all(one.startswith("a/") for one in outputs(output, "lora_train"))
    assert "--output-dir b/plan" in output and "other_all" not in output


def test_pathvars_of_the_importing_workflow(tmp_path):
    """Its own do not move this workflow's files; those of the module statement are refused."""
    before = 'pathvars:\n    results="mine",\n    logs="mine/logs",\n'
    path = importer(tmp_path / "a", module(config=dict(tables=PART)), before=before)
    config = tmp_path / "pathvars.yaml"
    config.write_text("pathvars: {results: configured, tables: configured/tables}\n")
    for arguments in ([], ["--configfile", config]):
        output = dry(path, "lora_all", *arguments)
        assert "mine" not in output.replace(str(path), "") and "configured/" not in output
        assert all(one.startswith("results/") for one in outputs(output, "lora_train"))
    path = importer(tmp_path / "b", module(config=dict(tables=PART), pathvars=dict(results="x")))
    assert "set the folder with the key results of the module's config" in refused(path, "own")


@pytest.mark.parametrize(
    "config, words",
    [
        (dict(samples="samples.tsv", genome="hg38"), ["samples", "genome", "config: {...}"]),
        (dict(seeds=[]), ["seeds"]),
        ([1, 2], ["the config is [1, 2]"]),
        (dict(results=5), ["results: got 5"]),
        (dict(pathvars=dict(results="x")), ["pathvars"]),
    ],
)
def test_a_wrong_config_of_a_module(tmp_path, config, words):
    """Above all the importing workflow's whole config."""
    message = refused(importer(tmp_path, module(config=config, prefix="p")), "lora_all")
    assert all(word in message for word in words), message


def test_a_module_without_a_config_has_the_defaults(tmp_path):
    path = importer(tmp_path, f"    snakefile: {str(ROOT / 'Snakefile')!r}")
    assert dry(path, "lora_all").count("rule lora_train:") == 18


@pytest.mark.parametrize("replace", [False, True])
def test_a_partial_config_is_laid_over_the_defaults(tmp_path, replace):
    """--replace-workflow-config has no effect, because jobs on nodes are not given it; the log
    says so."""
    config = tmp_path / "config.yaml"
    config.write_text(yaml.safe_dump(dict(tables=PART)))
    options = ["--configfile", config, "--directory", tmp_path]
    options += ["--replace-workflow-config"] if replace else []
    output = snakemake("-n", *options)
    assert trained(output) == 1 and ("has no effect" in output) == replace


@pytest.mark.parametrize("name", ["Snakefile", "workflow/Snakefile"])
def test_both_snakefiles_are_the_workflow(tmp_path, name):
    """The same jobs by default; the thin one is found by tools that know no other place."""
    output = snakemake("-n", "--directory", tmp_path, snakefile=ROOT / name)
    assert trained(output) == 18 and "rule table:" in output
    assert "Congratulations" in snakemake("--lint", snakefile=ROOT / name)


@pytest.mark.slow
def test_rules_of_a_finished_grid_find_nothing_to_do(small, tmp_path):
    """By the root Snakefile, then by the thin one: the same outputs, parameters and commands."""
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(small))
    options = ["--configfile", path, "--directory", tmp_path]
    snakemake(*options)
    assert len(run_files(tmp_path)) == 2
    assert "Nothing to be done" in snakemake(*options, snakefile=ROOT / "workflow/Snakefile")


@pytest.mark.slow
def test_a_deployment_from_a_git_host(tmp_path):
    """As snakedeploy writes it: github() with a tag. The package comes from the same commit, and
    what the clone has besides the workflow stays away from the working directory."""
    source = copy_checkout(tmp_path / "source")
    git = ["git", "-c", "user.name=t", "-c", "user.email=t@t"]
    for command in (["init", "-q"], ["add", "-A"], ["commit", "-qm", "x"], ["tag", "v1"]):
        subprocess.run([*git, *command], cwd=source, check=True)
    commit = subprocess.check_output(["git", "rev-parse", "HEAD"], cwd=source, text=True).strip()
    path = tmp_path / "project/Snakefile"
    path.parent.mkdir()
    path.write_text(
        "module lora:\n    snakefile:\n"
        '        github("owner/lora-workflow", path="workflow/Snakefile", tag="v1")\n'
        '    config: {"device": "cpu"}\nuse rule * from lora\n'
    )
    env = dict(
        GIT_CONFIG_COUNT="1",
        GIT_CONFIG_KEY_0=f"url.file://{source}.insteadOf",
        GIT_CONFIG_VALUE_0="https://github.com/owner/lora-workflow",
        XDG_CACHE_HOME=str(tmp_path / "cache"),
    )
    for _ in range(2):
        output = snakemake("plan", snakefile=path, cwd=path.parent, env=env)
        assert "18 cells, 5 seeds each" in output
        (used,) = re.findall(r"facts are read from (\S+)/config", output)
        assert used.startswith(str(tmp_path / "cache")) and used.endswith(commit)
    assert "rule train:" in snakemake("-n", snakefile=path, cwd=path.parent, env=env)


def test_rules_at_a_url_are_refused(tmp_path):
    """Snakemake reads rules one by one from a web server; the package can't be read so."""
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=ROOT)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/workflow/Snakefile"
        message = refused(importer(tmp_path, module(url)), "own")
        server.shutdown()
    assert "the package lora cannot be read from http://" in message
    assert "Clone the repository" in message and "github(..., tag=...)" in message


def test_jobs_of_the_importing_workflow_keep_their_gpus(small, tmp_path):
    """One training job at a time is a limit of this workflow's own rules."""
    path = importer(tmp_path / "project", module(config=small | dict(device="auto")))
    path.write_text(path.read_text().replace("    shell:", "    resources: gpu=3\n    shell:"))
    assert re.search(r"\bgpu=3\b", dry(path, "own.txt"))
    assert "training_gpu=1" in dry(path, "lora_all")
    assert "training_gpu=1" in dry(path, "lora_all", "--resources", "gpu=4")


def test_a_missing_gpu_stops_a_module_before_any_job(small, tmp_path):
    """Snakemake itself ignores the onstart of a module; the importing workflow keeps its own."""
    path = importer(
        tmp_path / "project",
        module(config=small | dict(device="cuda")),
        before='onstart:\n    print("own onstart")\n',
    )
    env = dict(CUDA_VISIBLE_DEVICES="")
    options = dict(snakefile=path, cwd=path.parent, env=env, check=False)
    code, output = snakemake("lora_all", **options)
    assert code != 0 and "own onstart" in output and "sees no GPU" in output
    assert not (tmp_path / "project/results").exists()
    assert "own onstart" in snakemake("own.txt", **options)[1]
