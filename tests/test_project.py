"""Rules of the project: layers of imports, who may load torch, pins."""

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from helpers.models import ROOT

# Rooms and top-level modules, lowest first. A module may import its own room and the rows above.
LAYERS = (
    ("errors",),
    ("files",),
    ("columns",),
    ("run_record", "paths"),
    ("checkout",),
    ("experiment",),
    ("model", "tables", "project_folder"),
    ("data", "planning"),
    ("adapters", "figures"),
    ("training",),
    ("cli_options", "cli_parser", "cli_train_checks"),
    ("cli_inputs",),
    (
        "cli_adapters",
        "cli_data",
        "cli_predict",
        "cli_run",
        "cli_show",
        "cli_tables",
        "cli_train",
        "cli_train_options",
    ),
    ("cli",),
    ("__main__",),
)
LEVEL = {room: level for level, rooms in enumerate(LAYERS) for room in rooms}
MODULES = sorted(
    path for path in (ROOT / "lora").rglob("*.py") if path != ROOT / "lora/__init__.py"
)


def room_of(path: Path) -> str:
    """The room of a module, or its own name where it is at the top of the package."""
    return path.relative_to(ROOT / "lora").parts[0].removesuffix(".py")


def imported(path: Path) -> tuple[set[str], set[str]]:
    """(rooms of lora, other top-level packages) that a file imports, inside functions too."""
    rooms, others = set(), set()
    for node in ast.walk(ast.parse(path.read_text())):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        for name in names:
            first, *rest = name.split(".")
            if first != "lora":
                others.add(first)
            elif rest and rest[0] in LEVEL:
                rooms.add(rest[0])
    return rooms, others


def test_every_room_has_a_layer():
    assert {room_of(path) for path in MODULES} == set(LEVEL)


def test_imports_point_to_lower_layers():
    """No module imports a room of its own layer or a higher one; imports inside functions count."""
    wrong = [
        f"{path.relative_to(ROOT)} imports {room}"
        for path in MODULES
        for room in imported(path)[0]
        if room != room_of(path) and LEVEL[room] >= LEVEL[room_of(path)]
    ]
    assert wrong == []


@pytest.mark.parametrize(
    "room, absent",
    [
        ("experiment", "torch pandas transformers numpy"),
        ("planning", "torch pandas transformers numpy"),
        ("tables", "torch transformers"),
        ("figures", "torch transformers"),
    ],
)
def test_a_room_loads_without_heavy_libraries(room, absent):
    """Snakemake imports `experiment` in every job; tables and figures need no torch."""
    modules = [path.stem for path in (ROOT / "lora" / room).glob("*.py") if path.stem != "__init__"]
    program = "import sys, importlib\n"
    program += f"for name in {modules}: importlib.import_module('lora.{room}.' + name)\n"
    program += f"print(*({set(absent.split())} & set(sys.modules)))"
    command = [sys.executable, "-c", program]
    found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert found.split() == []


def test_the_command_line_loads_in_the_environment_of_the_tables():
    """Each command imports the modules of all commands, so these need no library that only
    training has."""
    needed, of_tables = (
        pins(yaml.safe_load((ROOT / f"envs/{name}.yaml").read_text())["dependencies"][-1]["pip"])
        for name in ("train", "tables")
    )
    program = f"import sys, lora.__main__\nprint(*(set({list(needed)}) & set(sys.modules)))"
    command = [sys.executable, "-c", program]
    found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert set(found.split()) <= of_tables.keys()


def test_rooms_say_what_they_are_for():
    """A room's __init__.py has a docstring with a line for each file, and imports nothing."""
    for folder in {path.parent for path in MODULES} - {ROOT / "lora"}:
        tree = ast.parse((folder / "__init__.py").read_text())
        text = ast.get_docstring(tree) or ""
        assert len(tree.body) == 1, folder
        names = [path.stem for path in folder.glob("*.py") if path.stem != "__init__"]
        assert [name for name in names if not re.search(rf"^{name}: ", text, re.M)] == [], folder


def test_every_module_has_a_test_file():
    """tests/<room>/test_<module>.py for lora/<room>/<module>.py."""
    missing = [
        str(path.relative_to(ROOT))
        for path in MODULES
        if path.stem != "__init__"
        and not (
            ROOT
            / "tests"
            / path.relative_to(ROOT / "lora").parent
            / f"test_{path.stem.strip('_')}.py"
        ).is_file()
    ]
    assert missing == []


def pins(dependencies) -> dict[str, str]:
    return dict(re.match(r"([\w.-]+)(.*)", entry).groups() for entry in dependencies)


def test_pins_agree_everywhere():
    """conda files and the lock install what pyproject pins."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = pins(project["dependencies"])
    lock = pins(
        line
        for line in (ROOT / "envs/requirements.lock").read_text().splitlines()
        if line[:1] != "#"
    )
    lock = {name.lower().replace("_", "-"): version for name, version in lock.items()}
    extras = [pin for extra in project["optional-dependencies"].values() for pin in extra]
    for name, pin in (
        wanted | pins(pin for pin in extras if not pin.startswith(project["name"]))
    ).items():
        pin = re.sub(r"^\[.*\]", "", pin)  # extras of a package
        assert name in lock and (not pin.startswith("==") or lock[name] == pin), name
    for path in (ROOT / "envs").glob("*.yaml"):
        inside = pins(yaml.safe_load(path.read_text())["dependencies"][-1]["pip"])
        assert inside.items() <= wanted.items(), path.name
    tables = pins(
        yaml.safe_load((ROOT / "envs/tables.yaml").read_text())["dependencies"][-1]["pip"]
    )
    assert "torch" not in tables


def test_the_wheel_is_built_of_every_room():
    """pyproject lists them beside the folders of the workflow, which have no Python modules."""
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    folders = {path.parent.relative_to(ROOT) for path in (ROOT / "lora").rglob("*.py")}
    packages = {".".join(folder.parts) for folder in folders}
    assert {name for name in listed if "installed" not in name} == packages


def test_defaults_are_in_one_place():
    """The schema gives no defaults, config.yaml all of them."""
    schema = yaml.safe_load((ROOT / "workflow/schemas/config.schema.yaml").read_text())
    config = yaml.safe_load((ROOT / "config/config.yaml").read_text())
    assert set(config) == set(schema["properties"]) == set(schema["required"])
    text = (ROOT / "workflow/schemas/config.schema.yaml").read_text()
    assert re.search(r"^\s*default:", text, re.M) is None


def test_the_snakefile_is_a_table_of_contents():
    text = (ROOT / "Snakefile").read_text()
    assert len(text.splitlines()) <= 45 and "def " not in text
    for path in (ROOT / "workflow/rules").glob("*.smk"):
        assert not re.search(r"^\s+(run|script):|lambda", path.read_text(), re.M), path.name
