"""Types of numbers: every type that safetensors stores is read exactly, or refused by name."""

import peft
import pytest
import safetensors.torch
import torch
import transformers
from helpers.encoders import padded, peft_model, saved_adapter
from helpers.models import sentences
from helpers.training import make_spec, train
from safetensors.torch import load_file, save_file

from lora.adapters import merge, peft_folder, peft_tensors
from lora.errors import ConfigError

# Types that torch can write to a safetensors file; the last two can't be read back.
TYPES = {name: kind for name, kind in safetensors.torch._TYPES.items() if kind is not None}
TYPES |= {"F8_E8M0": torch.float8_e8m0fnu, "F4": torch.float4_e2m1fn_x2}


def test_every_type_of_safetensors_is_tried():
    assert set(peft_tensors.FLOATS) <= set(TYPES) and len(TYPES) >= 20


def stored_as(folder, kind) -> dict[str, torch.Tensor]:
    """Convert the stored tensors; return their values in float64."""
    stored = load_file(folder / peft_folder.TENSORS)
    converted = {key: value.to(kind) for key, value in stored.items()}
    save_file(converted, folder / peft_folder.TENSORS)
    return {key: value.double() for key, value in converted.items()}


@pytest.mark.parametrize("name", peft_tensors.FLOATS)
def test_floating_point_numbers_give_the_logits_that_peft_gives(bert_dir, tmp_path, name):
    """The values are those of the stored type, converted without rounding."""
    saved_adapter(tmp_path / "adapter", bert_dir)
    values = stored_as(tmp_path / "adapter", TYPES[name])
    tensors, adapter = peft_folder.read_adapter(tmp_path / "adapter", "bert")
    for ours, key in adapter.keys.items():
        assert torch.equal(tensors[ours].double(), values[key])
    kind = transformers.AutoModelForSequenceClassification
    base = kind.from_pretrained(
        bert_dir, num_labels=3, dtype=torch.float64, attn_implementation="eager"
    )
    theirs = peft.PeftModel.from_pretrained(base, tmp_path / "adapter").double().eval()
    merge.merge(tmp_path / "adapter", bert_dir, tmp_path / "out", torch.float64)
    model = kind.from_pretrained(tmp_path / "out", dtype=torch.float64, attn_implementation="eager")
    batch = padded(*sentences(6, 4, types=True), model.config.pad_token_id)
    with torch.no_grad():
        found, wanted = model.eval()(**batch).logits, theirs(**batch).logits
    assert (found - wanted).abs().max() < 1e-12 * wanted.abs().max() < wanted.std()


@pytest.mark.parametrize("name", sorted(set(TYPES) - set(peft_tensors.FLOATS)))
def test_other_numbers_are_refused_by_name(bert_dir, tmp_path, name):
    saved_adapter(tmp_path, bert_dir)
    stored = load_file(tmp_path / peft_folder.TENSORS)
    bytes_of = TYPES[name].itemsize
    changed = {
        key: torch.ones(*value.shape[:-1], value.shape[-1] * bytes_of, dtype=torch.uint8).view(
            TYPES[name]
        )
        for key, value in stored.items()
    }
    save_file(changed, tmp_path / peft_folder.TENSORS)
    for read in (peft_folder.read_tensors, lambda path: peft_folder.read_adapter(path, "bert")):
        with pytest.raises(ConfigError, match=f"and 11 more tensors: got numbers of type {name};"):
            read(tmp_path)


@pytest.mark.parametrize("name", peft_tensors.FLOATS)
def test_numbers_that_are_not_finite_are_refused(bert_dir, tmp_path, name):
    saved_adapter(tmp_path, bert_dir)
    stored = load_file(tmp_path / peft_folder.TENSORS)
    key = min(stored)
    stored[key] = torch.full(stored[key].shape, torch.nan).to(TYPES[name])
    save_file(stored, tmp_path / peft_folder.TENSORS)
    with pytest.raises(ConfigError, match="got numbers that are not all finite"):
        peft_folder.read_adapter(tmp_path, "bert")


@pytest.mark.parametrize("name", ["BF16", "F8_E4M3", "F64"])
def test_a_run_starts_from_any_of_them(bert_dir, tokens_dir, tmp_path, name):
    options = dict(r=4, lora_alpha=6, modules_to_save=["classifier", "pooler"])
    peft_model(bert_dir, num_labels=2, **options).save_pretrained(tmp_path / "peft")
    values = stored_as(tmp_path / "peft", TYPES[name])
    spec = make_spec(
        *(tmp_path, 0, "qv", 4),
        **dict(start=str(tmp_path / "peft"), epochs=1, learning_rate=1e-30, weight_decay=0),
        alpha=6,
    )
    train([spec], bert_dir, tokens_dir, tmp_path / "state")
    found = load_file(spec.output_dir / "adapter" / peft_folder.TENSORS)
    assert found.keys() == values.keys()
    assert all((found[key] - values[key].float()).abs().max() < 1e-20 for key in found)
