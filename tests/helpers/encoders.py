"""Packed models and their counterparts in transformers and peft."""

import numpy as np
import peft
import torch
import transformers
from safetensors.torch import save_file

from lora import files
from lora.adapters import peft_folder
from lora.experiment import hparam_rows
from lora.experiment.cell import Cell
from lora.model import methods, packed_model, pretrained
from lora.model.families.registry import FAMILIES

MODULES = dict(q="query", k="key", v="value", o="attention.output.dense")
OTHER_MODULES = {
    "distilbert": dict(q="q_lin", k="k_lin", v="v_lin", o="out_lin"),
    "deberta-v2": dict(q="query_proj", k="key_proj", v="value_proj", o="attention.output.dense"),
}


def member(seed=0, weights="qv", rank=4, num_labels=3, **changes) -> methods.AdapterSpec:
    """Return a LoRA run with the hyperparameters of protocol `course`, alpha 6."""
    rows = hparam_rows.read_hparam_rows()
    hparams = hparam_rows.resolve(
        rows, Cell("m", "sst2", "lora", weights, rank, "course"), {"alpha": 6, **changes}
    )
    return methods.AdapterSpec(seed, weights, rank, num_labels, hparams)


def packed(model_dir, *members) -> packed_model.PackedModel:
    """Return a packed model in float64 whose B matrices are random."""
    model = packed_model.PackedModel(pretrained.load_base(model_dir, torch.float64), list(members))
    torch.manual_seed(1)
    with torch.no_grad():
        for run in range(len(members)):
            for name, value in model.parameters_of(run).items():
                if name.endswith(".b"):
                    value.normal_(0, 0.3)
    return model


def padded(ids, types, lengths, pad, family="bert"):
    """Return the sequences as a padded batch for transformers' model of a family."""
    longest, starts = lengths.max(), np.cumsum(lengths) - lengths
    out = dict(
        input_ids=np.full((len(lengths), longest), pad),
        token_type_ids=np.zeros((len(lengths), longest), int),
    )
    mask = np.arange(longest) < lengths[:, None]
    for row, (start, length) in enumerate(zip(starts, lengths, strict=True)):
        out["input_ids"][row, :length] = ids[start : start + length]
        out["token_type_ids"][row, :length] = types[start : start + length]
    if family == "distilbert":  # its model has no such input
        del out["token_type_ids"]
    return {
        name: torch.from_numpy(value)
        for name, value in (out | {"attention_mask": mask.astype(int)}).items()
    }


def peft_twin(model_dir, model, run, tmp_path):
    """Export the adapter of a run and load it with peft onto transformers' classifier."""
    member = model.specs[run]
    tensors = model.parameters_of(run)
    family = model.base.config.model_type
    peft_folder.write_adapter(
        tmp_path,
        tensors,
        family,
        "tiny",
        member.weights,
        member.rank,
        member.hparams.alpha,
        member.hparams.lora_dropout,
    )
    theirs = transformers.AutoModelForSequenceClassification.from_pretrained(
        model_dir, num_labels=member.num_labels, dtype=torch.float64, attn_implementation="eager"
    )
    return peft.PeftModel.from_pretrained(theirs, tmp_path, is_trainable=True)


def peft_model(model_dir, weights="qv", num_labels=3, dtype=torch.float64, **options):
    """Return a PeftModel whose trained parameters are random."""
    base = transformers.AutoModelForSequenceClassification.from_pretrained(
        model_dir, num_labels=num_labels, dtype=dtype, attn_implementation="eager"
    )
    family = base.config.model_type
    modules = OTHER_MODULES.get(family, MODULES)
    common = dict(
        r=3, lora_alpha=7, lora_dropout=0.25, target_modules=[modules[letter] for letter in weights]
    )
    common |= dict(
        modules_to_save=["classifier", "pooler"] if family in ("bert", "deberta-v2") else None
    )
    model = peft.get_peft_model(base, peft.LoraConfig(task_type="SEQ_CLS", **(common | options)))
    torch.manual_seed(5)
    with torch.no_grad():
        for value in model.parameters():
            if value.requires_grad:
                value.normal_(0, 0.3)
    return model.eval()


def saved_adapter(folder, model_dir, **options):
    """Let peft save an adapter of a model; return its folder."""
    peft_model(model_dir, **options).save_pretrained(folder)
    return folder


def trained_copy(model_dir, family, method, folder):
    """Write a run of full fine-tuning or BitFit; return transformers' same model, and tensors."""
    theirs = transformers.AutoModelForSequenceClassification.from_pretrained(
        model_dir, num_labels=3, dtype=torch.float64, attn_implementation="eager"
    )
    heads = {inside: ours for ours, inside in FAMILIES[family].head_modules.items()}
    torch.manual_seed(3)
    tensors = {}
    with torch.no_grad():
        for name, value in theirs.named_parameters():
            module, _, kind = name.rpartition(".")
            if module in heads:
                tensors[f"{heads[module]}.{kind}"] = value.normal_(0, 0.3)
            elif method == "ft" or kind == "bias":
                tensors[f"base.{name.removeprefix(family + '.')}"] = value.add_(
                    torch.randn_like(value) * 0.1
                )
    folder.mkdir()
    save_file(tensors, folder / peft_folder.TENSORS)
    files.write_json(
        folder / peft_folder.CONFIG,
        dict(method=method, weights="all", rank=0, model="tiny", family=family),
    )
    return theirs, tensors
