"""Prepared tokens: gathers against plain loops, orders, and damaged folders."""

import json

import numpy as np
import pytest
from helpers.training import make_tokens
from safetensors.numpy import load_file, save_file

from lora import files
from lora.data.tokens import SplitFacts, Tokens, epoch_order, load, read_facts, steps_per_epoch


def test_gather_equals_slices_of_each_example():
    random = np.random.default_rng(3)
    lengths = random.integers(1, 9, 50)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    ids, types = (
        random.integers(0, 99, offsets[-1]).astype(np.int32),
        random.integers(0, 2, offsets[-1]).astype(np.uint8),
    )
    tokens = Tokens(ids, offsets, types, random.normal(size=50).astype(np.float32))
    assert len(tokens) == 50 and (tokens.lengths == lengths).all()
    for indices in ([3, 49, 3, 0], [7], random.permutation(50), []):
        got = tokens.gather(indices)
        assert got[0].tolist() == [
            token for i in indices for token in ids[offsets[i] : offsets[i + 1]]
        ]
        assert got[1].tolist() == [
            kind for i in indices for kind in types[offsets[i] : offsets[i + 1]]
        ]
        assert got[2].tolist() == [lengths[i] for i in indices]
        assert got[3].tolist() == [tokens.labels[i] for i in indices]
        assert (got[0].dtype, got[1].dtype, got[2].dtype, got[3].dtype) == (
            np.int32,
            np.uint8,
            np.int64,
            np.float32,
        )


def test_an_epoch_has_each_example_once_in_an_order_of_seed_and_epoch():
    orders = {
        (seed, epoch): epoch_order(seed, epoch, 101) for seed in (0, 1, 2) for epoch in (1, 2, 3)
    }
    assert all(sorted(order) == list(range(101)) for order in orders.values())
    assert len({tuple(order) for order in orders.values()}) == 9
    np.random.seed(5)  # the global generator must not matter
    assert (epoch_order(1, 2, 101) == orders[1, 2]).all()
    # pinned: a numpy that shuffles otherwise would change every run's numbers
    assert epoch_order(0, 1, 8).tolist() == [1, 3, 7, 6, 0, 4, 2, 5]


def test_the_last_step_may_be_short():
    assert [steps_per_epoch(examples, 16) for examples in (1, 16, 17, 67349)] == [1, 1, 2, 4210]


def test_a_damaged_folder_is_refused(tmp_path):
    folder = make_tokens(tmp_path / "tokens")
    path = folder / "tokens.safetensors"
    arrays = {name: array.copy() for name, array in load_file(path).items()}
    ids, offsets = arrays["train.ids"], arrays["train.offsets"]
    for wrong, message in [
        ({"train.ids": ids[:-1]}, "split train: offsets, ids, types and labels do not fit"),
        ({"train.labels": arrays["train.labels"][:-1]}, "do not fit"),
        ({"train.offsets": np.where(offsets == offsets[3], offsets[4], offsets)}, "do not fit"),
        ({"train.ids": ids[::-1].copy()}, "does not have the hash in tokens.json"),
    ]:
        save_file(arrays | wrong, path)
        with pytest.raises(ValueError, match=message):
            load(folder)
    save_file({name: array for name, array in arrays.items() if name != "train.types"}, path)
    with pytest.raises(ValueError, match=r"is damaged \(it has no 'train.types'\)"):
        load(folder)
    save_file(arrays, path)
    assert len(load(folder)["train"]) == 42
    content = path.read_bytes()
    for cut in (0, 5, 100, len(content) - 4):
        path.write_bytes(content[:cut])
        with pytest.raises(ValueError, match="tokens.safetensors is damaged"):
            load(folder)
    path.unlink()
    with pytest.raises(ValueError, match="has no tokens.safetensors; delete it and prepare"):
        load(folder)
    (folder / "tokens.json").unlink()
    with pytest.raises(ValueError, match="has no tokens.json: it was not prepared completely"):
        load(folder)


def test_facts_are_read_from_files_of_this_and_of_earlier_versions(tmp_path):
    folder = make_tokens(tmp_path / "tokens")
    facts = read_facts(folder)
    assert facts.splits["train"].examples == 42 and facts.splits["train"].label_counts is None
    assert load(folder, facts).keys() == load(folder).keys() == facts.splits.keys()
    written = files.with_checksum(json.loads((folder / "tokens.json").read_text()))
    for key in ("checksum", "seal"):
        earlier = {key if name == "checksum" else name: value for name, value in written.items()}
        files.write_json(folder / "tokens.json", earlier)
        assert read_facts(folder) == facts
        files.write_json(folder / "tokens.json", earlier | dict(max_tokens=21))
        with pytest.raises(ValueError, match="its checksum does not fit; delete it and prepare"):
            read_facts(folder)


@pytest.mark.parametrize(
    "changes, message",
    [
        (dict(max_tokens="20"), "max_tokens is '20'; allowed: a whole number"),
        (dict(sha256=None), "sha256 is None; allowed: text"),
        (dict(splits={"a b": {}}), "split 'a b'; allowed: a name"),
        (dict(splits={"train": 3}), "split train is 3; allowed: counts"),
        (dict(splits={"train": {"examples": 1.5}}), "split train: examples is 1.5; allowed: a wh"),
    ],
)
def test_facts_of_wrong_types_are_refused(tmp_path, changes, message):
    folder = make_tokens(tmp_path / "tokens")
    facts = json.loads((folder / "tokens.json").read_text())
    files.write_json(folder / "tokens.json", facts | changes)
    with pytest.raises(ValueError, match="tokens.json is damaged; delete it and prepare it again"):
        read_facts(folder)
    with pytest.raises(ValueError, match=message):
        read_facts(folder)


def test_counts_that_a_file_does_not_have_are_zero(tmp_path):
    folder = make_tokens(tmp_path / "tokens")
    facts = json.loads((folder / "tokens.json").read_text())
    files.write_json(folder / "tokens.json", facts | dict(splits={"train": {}}))
    assert read_facts(folder).splits == {"train": SplitFacts()}
