"""The faults of tests/faults, some of each: nothing is lost. The longer mode is `python tests/faults/run.py --kills 200`."""

import json
import sys

import pytest
from faults import kills, run
from faults.bench import Bench, Lost
from faults.hooks import kind_of

KILLS = 24
SNAKEMAKE = ("kill -9 of Snakemake, its job runs on",)  # the other ones take as long again


@pytest.fixture(scope="module")
def bench(tmp_path_factory) -> Bench:
    return Bench(tmp_path_factory.mktemp("faults"))


def test_nothing_is_lost(bench):
    done = run.disturb(bench, run.faults(KILLS, 1, SNAKEMAKE), seed=0, workers=2)
    sys.stdout.write(run.table(done, len(bench.killed)))
    assert [lost for fault in done for lost in fault.lost] == []
    assert len(bench.killed) >= KILLS


def test_a_loss_is_found(bench):
    """A result with one changed byte, a file left lying about and saved state that is not taken up do not pass."""
    folder = bench.new()
    bench.end_well(bench.start(folder))
    bench.check(folder)
    rows = next(folder.rglob("metrics.csv"))
    content = rows.read_bytes()
    rows.write_bytes(content.replace(b"1", b"2", 1))
    with pytest.raises(Lost, match=f"not as undisturbed: .*{rows.name}"):
        bench.check(folder)
    rows.write_bytes(content)
    (folder / "state/x.tmp").touch()
    with pytest.raises(Lost, match="left lying about: state/x.tmp"):
        bench.check(folder)
    (folder / "state/x.tmp").unlink()
    for path in folder.rglob("state.json"):
        state = json.loads(path.read_text())
        path.write_text(json.dumps(state | dict(digest="0" * 64)))
        path.with_name("before.json").unlink()
    with pytest.raises(Lost, match="3 runs had saved state, 0 took it up"):
        bench.finish(folder)


def test_every_place_is_reached(bench):
    """A place that no job comes by would never be struck, and a file of a kind not known would not be torn."""
    assert {place for doing in kills.PLACES.values() for place in doing} <= bench.calls.keys()
    assert (
        kind_of("state/ab/epoch0-step3.safetensors") == "state tensors"
        and kind_of("a/run.json") == "run.json"
    )


def test_a_table_tells_what_was_lost():
    fault = run.Fault("kill", None, 3, survived=["a | b"], lost=["why"], skipped=["no root"])
    assert run.table([fault], 2).splitlines()[2:] == [
        "| kill | 2 | 1 | 1 | a / b; skipped: no root |",
        "| all, with 2 kills -9 | 2 | 1 | 1 | |",
    ]
