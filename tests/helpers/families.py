"""Checks that every model family must pass, against transformers and peft in float64.

tests/model/families/test_<family>.py inherits them and names its family.
"""

import dataclasses
import json
import shutil

import numpy as np
import peft
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from transformers import trainer_pt_utils

from helpers.encoders import member, packed, padded, peft_model, peft_twin
from helpers.methods import WEIGHTS, hparams_of
from helpers.models import make_model, sentences
from lora.adapters import merge, peft_folder, peft_names, subspace
from lora.errors import ConfigError
from lora.experiment.cell import BASE_METHODS, Cell
from lora.model import (
    attention,
    collate,
    config,
    dropout,
    layers,
    methods,
    modules,
    packed_model,
    pretrained,
)
from lora.model.architecture import Architecture
from lora.model.families.registry import FAMILIES
from lora.planning import flops, workload
from lora.training import optim

CLOSE = 1e-9
METHODS = {**WEIGHTS, "lora": "qkvo"}
RANKS = dict.fromkeys(METHODS, 3) | dict.fromkeys(BASE_METHODS, 0)


def run_of(method: str, seed: int = 0, rank: int | None = None, **changes) -> methods.AdapterSpec:
    first = 1 if method == "adapter_drop" else 0
    rank = RANKS[method] if rank is None else rank
    weights = METHODS[method]
    return methods.AdapterSpec(seed, weights, rank, 3, hparams_of(**changes), method, first)


class FamilyChecks:
    """Checks of one family; a subclass sets `family`, and `changes` of its config.json."""

    family: str
    changes: dict[str, object] = {}

    @pytest.fixture(scope="class")
    @classmethod
    def folder(cls, tmp_path_factory):
        return make_model(cls.family, tmp_path_factory.mktemp("family") / "m", **cls.changes)

    def sentences(self, count: int, seed: int):
        """Random sequences; pairs, with two segments, where the model has segments."""
        segments = FAMILIES[self.family].defaults.get("type_vocab_size", 0) > 1
        counts = FAMILIES[self.family].counts_from_padding
        return sentences(count, seed, types=segments and not counts)

    def logits(self, model, batch):
        """Logits of a transformers or peft model."""
        pad = model.config.pad_token_id
        return model.eval()(**padded(*batch, pad, self.family)).logits

    def classifier(self, folder):
        return transformers.AutoModelForSequenceClassification.from_pretrained(
            folder, num_labels=3, dtype=torch.float64, attn_implementation="eager"
        ).eval()

    def test_defaults_are_those_of_transformers(self):
        theirs = transformers.AutoConfig.for_model(self.family).to_dict()
        family = FAMILIES[self.family]
        for name, value in family.defaults.items():
            key = family.keys.get(name, name)
            if key in theirs:
                assert theirs[key] == value, key
            else:  # DistilBERT has no segments, DeBERTa no default of the head's dropout
                assert (name, value) in (("type_vocab_size", 1), ("classifier_dropout", None))

    def test_bad_sizes_are_named_by_the_familys_keys(self, folder, tmp_path):
        content = json.loads((folder / "config.json").read_text())
        keys = FAMILIES[self.family].keys
        width, dropout = (keys.get(key, key) for key in ("hidden_size", "hidden_dropout_prob"))
        content |= {width: 0, dropout: 1}
        (tmp_path / "config.json").write_text(json.dumps(content))
        with pytest.raises(ConfigError) as caught:
            config.read(tmp_path)
        assert f"{width} is 0" in str(caught.value) and f"{dropout} is 1" in str(caught.value)
        content |= {width: 30, dropout: 0.1}
        (tmp_path / "config.json").write_text(json.dumps(content))
        with pytest.raises(ConfigError, match=f"{width} is 30; allowed: a multiple of"):
            config.read(tmp_path)

    def test_models_of_every_task_load_with_the_same_encoder(self, folder, tmp_path):
        """Heads and buffers of transformers' models of the family are no foreign tensors."""
        wanted = pretrained.load_base(folder).state_dict()
        encoder = {name: value for name, value in wanted.items() if not name.startswith("pooler.")}
        kinds = "MaskedLM PreTraining SequenceClassification TokenClassification QuestionAnswering"
        for kind in kinds.split():
            model = getattr(transformers, f"AutoModelFor{kind}").from_pretrained(folder)
            model.save_pretrained(tmp_path / kind)
            found = pretrained.load_base(tmp_path / kind).state_dict()
            assert all(torch.equal(found[name], value) for name, value in encoder.items())

    def test_every_missing_or_foreign_tensor_is_named(self, folder, tmp_path):
        tensors = load_file(folder / "model.safetensors")
        (tmp_path / "config.json").write_bytes((folder / "config.json").read_bytes())
        for name in [name for name in sorted(tensors) if "pooler" not in name]:
            kept = {key: value for key, value in tensors.items() if key != name}
            save_file({**kept, "foreign.weight": tensors[name]}, tmp_path / "model.safetensors")
            with pytest.raises(ConfigError) as caught:
                pretrained.load_base(tmp_path)
            assert f"missing in *.safetensors: {name}" in str(caught.value)
            assert "not part of a model with this config.json: foreign.weight" in str(caught.value)

    def test_logits_and_gradients_equal_peft(self, folder, tmp_path):
        """Two runs of other rank, weights and labels, several lengths, up to all positions."""
        model = packed(folder, member(0, "qkvo", 3), member(1, "qv", 2, num_labels=2))
        longest = config.longest_sequence(config.with_defaults(model.base.config.to_dict()))
        batches = [self.sentences(6, 3), self.sentences(5, 4)]
        ids, types, lengths = batches[0]
        lengths = np.append(lengths, longest)
        batches[0] = (np.resize(ids, lengths.sum()), np.resize(types, lengths.sum()), lengths)
        step = model.batch([collate.RunSequences(run, *batch) for run, batch in enumerate(batches)])
        ours = model(step)
        torch.stack([logits.pow(2).sum() for logits in ours]).sum().backward()
        for run, (batch, logits) in enumerate(zip(batches, ours, strict=True)):
            theirs = peft_twin(folder, model, run, tmp_path / str(run)).eval()
            wanted = self.logits(theirs, batch)
            assert (logits - wanted).abs().max() < CLOSE
            wanted.pow(2).sum().backward()
            named = {
                name.replace(".default", "").replace(".modules_to_save", ""): value.grad
                for name, value in theirs.named_parameters()
                if value.requires_grad
            }
            gradients = model.gradients_of(run)
            assert {peft_names.peft_name(name, self.family) for name in gradients} == {*named}
            for name, gradient in gradients.items():
                expected = named[peft_names.peft_name(name, self.family)]
                assert (gradient - expected).abs().max() < CLOSE, name

    @pytest.mark.parametrize("bias", ["lora_only", "all"])
    def test_biases_of_a_run_give_the_logits_of_peft(self, folder, tmp_path, bias):
        model = packed(folder, dataclasses.replace(member(0, "qv", 3), bias=bias), member(1))
        torch.manual_seed(4)
        for name, value in model.parameters_of(0).items():
            if name.startswith("base."):
                value.add_(torch.randn_like(value) * 0.1)
        batch = self.sentences(6, 3)
        step = model.batch([collate.RunSequences(run, *batch) for run in (0, 1)])
        for run, logits in enumerate(model(step)):
            theirs = peft_twin(folder, model, run, tmp_path / str(run))
            assert (logits - self.logits(theirs, batch)).abs().max() < CLOSE

    @pytest.mark.parametrize("method", BASE_METHODS)
    def test_full_fine_tuning_and_bitfit_gradients_equal_transformers(self, folder, method):
        base = pretrained.load_base(folder, torch.float64)
        model = packed_model.PackedModel(base, [run_of(method)])
        theirs = self.classifier(folder)
        family, batch = FAMILIES[self.family], self.sentences(6, 3)

        def twin(name):
            key = peft_names.peft_name(name, self.family).removeprefix(peft_names.PREFIX)
            return theirs.get_parameter(key)

        parameters = model.parameters_of(0)
        names = {name for name, value in theirs.named_parameters()}
        trained = {name for name in names if method == "ft" or name.endswith(".bias")}
        inside = {name for name in trained if name.startswith(f"{family.prefix}.")}
        inside = {name for name in inside if "pooler" not in name}
        ours = {name for name in parameters if name.startswith("base.")}
        assert {f"{family.prefix}.{name.removeprefix('base.')}" for name in ours} == inside
        with torch.no_grad():
            for name, value in parameters.items():
                twin(name).copy_(value)
        (logits,) = model(model.batch([collate.RunSequences(0, *batch)]))
        wanted = self.logits(theirs, batch)
        assert (logits - wanted).abs().max() < CLOSE
        logits.pow(2).sum().backward()
        wanted.pow(2).sum().backward()
        for name, gradient in model.gradients_of(0).items():
            assert (gradient - twin(name).grad).abs().max() < CLOSE, name

    @pytest.mark.parametrize("method", ["adapter_houlsby", "adapter_pfeiffer", "adapter_drop"])
    def test_bottlenecks_equal_hooks_on_transformers(self, folder, method):
        """f is added to the input of each LayerNorm of transformers' model, by its definition."""
        base = pretrained.load_base(folder, torch.float64)
        model = packed_model.PackedModel(base, [run_of(method)])
        theirs, family = self.classifier(folder), FAMILIES[self.family]
        parameters = model.parameters_of(0)
        torch.manual_seed(3)
        with torch.no_grad():
            for name, value in parameters.items():
                if name.startswith("head."):
                    key = peft_names.peft_name(name, self.family).removeprefix(peft_names.PREFIX)
                    theirs.get_parameter(key).copy_(value)
                else:
                    value.normal_(0, 0.3)
        encoder = getattr(theirs, family.prefix)
        outputs = {}
        for position in {name.rsplit(".", 2)[0] for name in parameters} - {"head"}:
            layer, sublayer = position.split(".")
            attention = sublayer == "attention"
            path = f"{family.layers}.{layer}."
            norm = encoder.get_submodule(
                path + (family.attention_norm if attention else family.ffn_norm)
            )
            linear = path + (family.projections["o"] if attention else family.outer)
            own = [parameters[f"{position}.{side}"] for side in _SIDES]

            def keep(module, inputs, output, position=position):
                outputs[position] = output

            def add(module, inputs, position=position, own=own):
                down, down_bias, up, up_bias = own
                if method == "adapter_houlsby":
                    read, act = outputs[position], torch.nn.functional.silu
                else:
                    read, act = module.forward(inputs[0]), torch.relu
                return (inputs[0] + act(read @ down.T + down_bias) @ up.T + up_bias,)

            encoder.get_submodule(linear).register_forward_hook(keep)
            norm.register_forward_pre_hook(add)
        batch = self.sentences(6, 3)
        (logits,) = model(model.batch([collate.RunSequences(0, *batch)]))
        assert (logits - self.logits(theirs, batch)).abs().max() < CLOSE

    @pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
    @pytest.mark.parametrize("method", [one for one in METHODS if one not in BASE_METHODS])
    def test_a_packed_run_has_the_bytes_of_the_run_alone(self, folder, method, dtype):
        """Logits and gradients with dropout."""
        batches = [self.sentences(5, seed) for seed in (1, 2)]
        runs = [run_of(method, seed, rank, lora_dropout=0.1) for seed, rank in ((3, 4), (4, 2))]

        def results(chosen):
            base = pretrained.load_base(folder, dtype)
            model = packed_model.PackedModel(base, [runs[index] for index in chosen])
            parts = [
                collate.RunSequences(place, *batches[index], runs[index].seed, 5)
                for place, index in enumerate(chosen)
            ]
            logits = model(model.batch(parts))
            torch.stack([one.pow(2).sum() for one in logits]).sum().backward()
            return [(one, model.gradients_of(place)) for place, one in enumerate(logits)]

        for index, (logits, gradients) in enumerate(results([0, 1])):
            ((wanted, expected),) = results([index])
            assert torch.equal(logits, wanted) and gradients.keys() == expected.keys()
            assert all(torch.equal(value, expected[name]) for name, value in gradients.items())

    def test_weight_decay_is_on_the_parameters_of_transformers_trainer(self, folder):
        base = pretrained.load_base(folder)
        theirs = trainer_pt_utils.get_parameter_names(base, [torch.nn.LayerNorm])
        decayed = {
            name for name, _ in base.named_parameters() if optim.has_weight_decay(f"base.{name}")
        }
        assert decayed == {name for name in theirs if not name.endswith("bias")}

    def test_dropout_is_where_transformers_has_it(self, folder, tmp_path, monkeypatch):
        """The rates and widths of all dropouts of a forward pass, in order."""
        keys, rates = FAMILIES[self.family].keys, dict(zip(_RATES, (0.11, 0.12, 0.13), strict=True))
        content = json.loads((folder / "config.json").read_text())
        content |= {keys.get(name, name): rate for name, rate in rates.items()}
        shutil.copytree(folder, tmp_path / "model")
        (tmp_path / "model/config.json").write_text(json.dumps(content))
        batch, wanted, found = self.sentences(2, 1), [], []
        theirs = self.classifier(tmp_path / "model").train()
        for module in theirs.modules():
            if isinstance(module, torch.nn.Dropout):
                module.register_forward_hook(
                    lambda module, inputs, _: wanted.append((module.p, inputs[0].shape[-1]))
                )
        theirs(**padded(*batch, theirs.config.pad_token_id, self.family))
        model = packed_model.PackedModel(
            pretrained.load_base(tmp_path / "model"), [run_of("lora", lora_dropout=0.0)]
        )

        def record(module, name, rate_at, keys_at):
            original = getattr(module, name)

            def call(*inputs):
                if inputs[keys_at] is not None:
                    found.append((inputs[rate_at], inputs[0].shape[-1]))
                return original(*inputs)

            monkeypatch.setattr(module, name, call)

        record(dropout, "drop", 1, 2)
        record(layers, "drop", 1, 2)
        record(dropout, "drop_add_norm", 2, 3)
        record(attention, "attend", 5, 4)
        model(model.batch([collate.RunSequences(0, *batch, 0, 5)]))
        attention_rate = rates["attention_probs_dropout_prob"]
        assert [one for one in found if one[0] != attention_rate] == wanted
        assert sum(one[0] == attention_rate for one in found) == 2  # transformers calls a function

    def test_adapters_that_peft_saved_give_its_logits(self, folder, tmp_path):
        """peft's own folder is read: `lora merge` writes a model with the logits of peft's."""
        theirs = peft_model(folder, "qkvo")
        theirs.save_pretrained(tmp_path / "adapter")
        merge.merge(tmp_path / "adapter", folder, tmp_path / "merged", torch.float64)
        model, report = transformers.AutoModelForSequenceClassification.from_pretrained(
            tmp_path / "merged", dtype=torch.float64, output_loading_info=True
        )
        assert not any(report.values()), report
        batch = self.sentences(6, 4)
        assert (self.logits(model, batch) - self.logits(theirs, batch)).abs().max() < CLOSE

    def test_biases_that_peft_trained_are_merged(self, folder, tmp_path):
        theirs = peft_model(folder, "qv", bias="all")
        theirs.save_pretrained(tmp_path / "adapter")
        merge.merge(tmp_path / "adapter", folder, tmp_path / "merged", torch.float64)
        model = transformers.AutoModelForSequenceClassification.from_pretrained(
            tmp_path / "merged", dtype=torch.float64
        )
        batch = self.sentences(6, 4)
        assert (self.logits(model, batch) - self.logits(theirs, batch)).abs().max() < CLOSE

    def test_an_exported_run_loads_with_one_line_of_peft(self, folder, tmp_path):
        model = packed(folder, member(0, "qkvo", 4))
        one = model.specs[0]
        peft_folder.write_adapter(
            tmp_path,
            model.parameters_of(0),
            self.family,
            str(folder),
            one.weights,
            one.rank,
            one.hparams.alpha,
            one.hparams.lora_dropout,
        )
        theirs = peft.AutoPeftModelForSequenceClassification.from_pretrained(
            tmp_path, num_labels=3, dtype=torch.float64
        )
        batch = self.sentences(5, 6)
        (logits,) = model(model.batch([collate.RunSequences(0, *batch)]))
        assert (logits - self.logits(theirs, batch)).abs().max() < CLOSE
        pair = subspace.read_pairs(tmp_path, self.family)["1.o"]
        assert np.array_equal(pair.a_RI, model.parameters_of(0)["1.o.a"].numpy())
        weight = subspace.base_weight(folder, 1, "o")
        base = pretrained.load_base(folder, torch.float64)
        assert np.array_equal(weight, modules.linear_of(base, 1, "o").weight.numpy())

    def test_planned_sizes_are_those_of_the_model(self, folder):
        """Parameters of the encoder, of every method and of the head, and products counted."""
        base = pretrained.load_base(folder)
        shape = workload.shape_of_folder(folder)
        encoder = [value for name, value in base.named_parameters() if "pooler" not in name]
        assert shape.parameters == sum(value.numel() for value in encoder)
        for method, weights in METHODS.items():
            one = run_of(method)
            cell = Cell("m", "t", method, weights, one.rank, "p")
            counts = packed_model.PackedModel(base, [one]).counts(0)
            assert flops.trainable(shape, cell) == counts["trainable"]
            assert flops.head(shape, 3) == counts["head"]
        assert Architecture.of(base.config.to_dict()).family is FAMILIES[self.family]


_RATES = ("hidden_dropout_prob", "attention_probs_dropout_prob", "classifier_dropout")
_SIDES = ("down.weight", "down.bias", "up.weight", "up.bias")
