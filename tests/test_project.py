"""The rules of the house, kept by tests: which way imports point, who may load torch, pins, and documents that are true."""

import ast
import re
import tomllib

import yaml
from conftest import ROOT

from lora import plan, records, spec

# Each module may import only what stands below it.
ORDER = """
    __main__
    planplot plan outcome forecast makespan arithmetic
    train_command train evaluation adamw passes keeper runs starts machine devices interrupt merge subspace inject pretrained
    encoder attention export checkpoint layers dropout fusion
    tables selection epochs collect agreement heatmaps plots rankplots drawing render layout shapes
    footnotes matching page course data metrics fetch hub readers queue grid comparison config_file schema usual
    workload
    facts packs progress run_record records model_config textfiles wholefiles
    memory
    spec
""".split()
TORCH = {
    "adamw",
    "attention",
    "dropout",
    "evaluation",
    "fusion",
    "train",
    "passes",
    "runs",
    "starts",
    "machine",
    "inject",
    "encoder",
    "export",
    "checkpoint",
    "layers",
    "merge",
    "pretrained",
}
MODULES = {path.stem: path for path in (ROOT / "lora").glob("*.py") if path.stem != "__init__"}


def imported(path) -> tuple[set[str], set[str]]:
    """(modules of lora, other top-level packages) that a file imports, anywhere in it."""
    ours, others = set(), set()
    for node in ast.walk(ast.parse(path.read_text())):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        for name in names:
            first, *rest = name.split(".")
            if first == "lora":
                ours |= {rest[0]} & set(MODULES) if rest else set()
            else:
                others.add(first)
    return ours, others


def test_every_module_has_its_place():
    assert set(MODULES) == set(ORDER)


def test_imports_point_one_way():
    for name, path in MODULES.items():
        above = [other for other in imported(path)[0] if ORDER.index(other) <= ORDER.index(name)]
        assert not above, f"{name} imports {above}"


def test_only_the_engine_imports_torch():
    assert {name for name, path in MODULES.items() if "torch" in imported(path)[1]} == TORCH


def test_modules_open_with_why_and_stay_readable():
    for name, path in MODULES.items():
        text = path.read_text()
        assert len(ast.get_docstring(ast.parse(text)) or "") > 150, name
        assert len(text.splitlines()) <= 330, name


def pins(dependencies) -> dict[str, str]:
    return dict(re.match(r"([\w.-]+)(.*)", entry).groups() for entry in dependencies)


def test_pins_agree_everywhere():
    """conda files and the lock install what pyproject pins."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = pins(project["dependencies"])
    lock = pins(line for line in (ROOT / "envs/requirements.lock").read_text().splitlines() if line[:1] != "#")
    lock = {name.lower().replace("_", "-"): version for name, version in lock.items()}
    extras = [pin for extra in project["optional-dependencies"].values() for pin in extra]
    for name, pin in (wanted | pins(pin for pin in extras if not pin.startswith(project["name"]))).items():
        pin = re.sub(r"^\[.*\]", "", pin)  # extras of a package
        assert name in lock and (not pin.startswith("==") or lock[name] == pin), name
    for path in (ROOT / "envs").glob("*.yaml"):
        inside = pins(yaml.safe_load(path.read_text())["dependencies"][-1]["pip"])
        assert inside.items() <= wanted.items(), path.name
    tables = pins(yaml.safe_load((ROOT / "envs/tables.yaml").read_text())["dependencies"][-1]["pip"])
    assert "torch" not in tables


def test_every_config_key_and_hyperparameter_is_documented():
    text = (ROOT / "config/README.md").read_text()
    schema = yaml.safe_load((ROOT / "workflow/schemas/config.schema.yaml").read_text())
    keys = [*schema["properties"], *schema["$defs"]["table"]["properties"], *spec.HPARAM_NAMES]
    assert [key for key in keys if f"`{key}`" not in text] == []


def test_every_column_is_documented():
    """results/README.md says of each column what records.py and plan.py say of it."""
    text = (ROOT / "results/README.md").read_text()
    tables = [
        value
        for name, value in (vars(records) | vars(plan)).items()
        if name.endswith("_COLUMNS") and name != "RUNS_COLUMNS" and isinstance(value, dict)
    ]
    rows = {f"| `{name}` | {kind.__name__} | {about} |" for table in tables for name, (kind, about) in table.items()}
    assert sorted(row for row in rows if row not in text) == []
    assert [key for key in records.RUN_JSON_KEYS if f"| `{key}` |" not in text] == []


def test_defaults_are_in_one_place():
    """The schema gives no defaults, config.yaml all of them."""
    schema = yaml.safe_load((ROOT / "workflow/schemas/config.schema.yaml").read_text())
    config = yaml.safe_load((ROOT / "config/config.yaml").read_text())
    assert set(config) == set(schema["properties"]) == set(schema["required"])
    assert "default" not in (ROOT / "workflow/schemas/config.schema.yaml").read_text()


def test_the_snakefile_is_a_table_of_contents():
    text = (ROOT / "Snakefile").read_text()
    assert len(text.splitlines()) <= 40 and "def " not in text
    for path in (ROOT / "workflow/rules").glob("*.smk"):
        assert not re.search(r"^\s+(run|script):|lambda", path.read_text(), re.M), path.name


def test_the_readme_tree_is_the_tree():
    """Every module, rule file and config is named in README.md's tree, and nothing that is not there."""
    tree = re.search(r"```text\n(.*?)```", (ROOT / "README.md").read_text(), re.S).group(1)
    named = set(re.findall(r"[\w.-]+\.(?:py|smk|yaml|csv)\b", tree))
    there = {path.name for folder in ("lora", "workflow/rules", "config", "envs") for path in (ROOT / folder).iterdir()}
    assert named == {name for name in there if re.search(r"\.(py|smk|yaml|csv)$", name)} - {"__init__.py"}
