"""Inject some faults of each kind in tests/faults: nothing is lost.

`python tests/faults/run.py --kills 200` injects more of them.
"""

import json
import sys

import pytest
from faults import kills, run
from faults.bench import Bench
from faults.hooks import PATCHES, SITES, kind_of, owner_of
from faults.job import Lost

pytestmark = pytest.mark.slow

KILLS = 24
WORKFLOW_FAULTS = ("kill -9 of Snakemake, its job continues",)  # each of the others takes as long


@pytest.fixture(scope="module")
def bench(tmp_path_factory) -> Bench:
    return Bench(tmp_path_factory.mktemp("faults"))


def test_no_fault_loses_data(bench):
    """Every kind once, and at least KILLS kills."""
    planned = run.plan_faults(KILLS, 1, WORKFLOW_FAULTS)
    faults = run.inject_all(bench, planned, seed=0, workers=2)
    sys.stdout.write(run.format_table(faults, len(bench.killed)))
    assert [lost for fault in faults for lost in fault.lost] == []
    assert len(bench.killed) >= KILLS


def test_check_finds_lost_data(bench):
    """A changed byte, a temporary file, and saved state that isn't resumed."""
    folder = bench.new_folder()
    bench.wait_for_success(bench.start(folder))
    bench.check(folder)
    rows = next(folder.rglob("metrics.csv"))
    content = rows.read_bytes()
    rows.write_bytes(content.replace(b"1", b"2", 1))
    with pytest.raises(Lost, match=f"not the undisturbed outputs: .*{rows.name}"):
        bench.check(folder)
    rows.write_bytes(content)
    (folder / "state/x.tmp").touch()
    with pytest.raises(Lost, match="temporary files left: state/x.tmp"):
        bench.check(folder)
    (folder / "state/x.tmp").unlink()
    for path in folder.rglob("state.json"):
        state = json.loads(path.read_text())
        path.write_text(json.dumps(state | dict(digest="0" * 64)))
        path.with_name("before.json").unlink()
    with pytest.raises(Lost, match="3 runs had saved state, 0 resumed it"):
        bench.resume_and_check(folder)


@pytest.mark.parametrize("name", PATCHES)
def test_every_patched_attribute_exists(name):
    """So a renamed function fails this test, instead of a fault that never happens."""
    owner, attribute = owner_of(name)
    assert callable(getattr(owner, attribute))
    assert attribute == PATCHES[name][1].rpartition(".")[2]


def test_every_site_is_called(bench):
    """A fault at a site without calls would never be injected."""
    assert {site for sites in kills.SITES.values() for site in sites} <= bench.calls.keys()
    assert set(SITES) <= bench.calls.keys()
    assert kind_of("state/ab/epoch0-step3.safetensors") == "state tensors"
    assert kind_of("a/run.json") == "run.json"


def test_table_shows_messages_and_losses():
    fault = run.Fault("kill", None, 3, survived=["a | b"], lost=["why"], skipped=["no root"])
    assert run.format_table([fault], 2).splitlines()[2:] == [
        "| kill | 2 | 1 | 1 | a / b; skipped: no root |",
        "| all, with 2 kills -9 | 2 | 1 | 1 | |",
    ]
