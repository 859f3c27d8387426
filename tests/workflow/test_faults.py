"""Some faults of each kind in tests/faults: nothing is lost.

The long version is `python tests/faults/run.py --kills 200`.
"""

import json
import sys

import pytest
from faults import kills, run
from faults.bench import Bench, Lost
from faults.hooks import PATCHES, SITES, kind_of, owner_of

pytestmark = pytest.mark.slow

KILLS = 24
SNAKEMAKE = ("kill -9 of Snakemake, its job continues",)  # the others take as long again


@pytest.fixture(scope="module")
def bench(tmp_path_factory) -> Bench:
    return Bench(tmp_path_factory.mktemp("faults"))


def test_nothing_is_lost(bench):
    done = run.disturb(bench, run.faults(KILLS, 1, SNAKEMAKE), seed=0, workers=2)
    sys.stdout.write(run.table(done, len(bench.killed)))
    assert [lost for fault in done for lost in fault.lost] == []
    assert len(bench.killed) >= KILLS


def test_a_loss_is_found(bench):
    """The check fails for a changed byte, a temporary file and saved state that isn't resumed."""
    folder = bench.new()
    bench.end_well(bench.start(folder))
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
        bench.finish(folder)


@pytest.mark.parametrize("name", PATCHES)
def test_every_patched_attribute_exists(name):
    """A renamed function is found here, and not by a fault that never happens."""
    owner, attribute = owner_of(name)
    assert callable(getattr(owner, attribute))
    assert attribute == PATCHES[name][1].rpartition(".")[2]


def test_every_site_is_called(bench):
    """Else faults at that site would never be injected, and files of an unknown kind not torn."""
    assert {site for sites in kills.SITES.values() for site in sites} <= bench.calls.keys()
    assert set(SITES) <= bench.calls.keys()
    assert (
        kind_of("state/ab/epoch0-step3.safetensors") == "state tensors"
        and kind_of("a/run.json") == "run.json"
    )


def test_the_table_shows_messages_and_losses():
    fault = run.Fault("kill", None, 3, survived=["a | b"], lost=["why"], skipped=["no root"])
    assert run.table([fault], 2).splitlines()[2:] == [
        "| kill | 2 | 1 | 1 | a / b; skipped: no root |",
        "| all, with 2 kills -9 | 2 | 1 | 1 | |",
    ]
