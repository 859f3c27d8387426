"""Predictions: in the order of the examples, with the same bits alone and in a pack."""

import numpy as np
import pytest
from helpers.models import sentences
from helpers.training import course_hparams

from lora.data import tokens
from lora.model import collate, methods, packed_model, pretrained
from lora.training import batching, evaluation


def test_predictions_are_in_the_order_of_the_examples(bert_dir, tokens_dir):
    """Batches are sorted by length; an example's logits are those that it gets alone."""
    validation = tokens.load(tokens_dir)["validation"]
    hparams = course_hparams()
    model = packed_model.PackedModel(
        pretrained.load_base(bert_dir),
        [methods.AdapterSpec(seed, "qv", 4, 2, hparams) for seed in (0, 1)],
    )
    logits = evaluation.predict(model, [0, 1], validation, batching.TokenBudget(tokens=60))
    for index in (0, 13, 29):
        ids, types, lengths, _ = validation.gather(np.array([index]))
        alone = model(model.batch([collate.RunSequences(1, ids, types, lengths)]))[0]
        assert np.allclose(logits[1][index], alone.detach().numpy()[0], atol=1e-5)


@pytest.mark.parametrize("examples", [419, 421, 492, 571, 639, 785])
def test_predictions_have_the_same_bits_alone_and_in_a_pack(bert_dir, examples):
    """With these numbers of examples, batches that depended on the pack would differ in the bits.

    Some of them would end with three examples or fewer, whose products are rounded differently.
    """
    ids, types, lengths = sentences(examples, 1)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    eval_set = tokens.Tokens(ids, offsets, types, np.zeros(examples, np.float32))
    adapters = [methods.AdapterSpec(seed, "qv", 4, 2, course_hparams()) for seed in range(5)]
    model = packed_model.PackedModel(pretrained.load_base(bert_dir), adapters)
    together = evaluation.predict(model, [0, 1, 2, 3, 4], eval_set, batching.TokenBudget(4096))
    for index in (0, 4):
        alone = evaluation.predict(model, [index], eval_set, batching.TokenBudget(4096))[0]
        assert (alone == together[index]).all()
