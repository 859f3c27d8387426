"""Predictions: in the examples' order, and the same bits alone and in a pack."""

import numpy as np
import pytest
from helpers.models import sentences
from helpers.training import course_hparams

from lora.data import tokens
from lora.model import collate, methods, packed_model, pretrained
from lora.training import batching, evaluation


def test_predictions_come_back_in_order(bert_dir, tokens_dir):
    """Evaluation goes by length in chunks; each example's logits are those it gets alone."""
    validation = tokens.load(tokens_dir)["validation"]
    hparams = course_hparams()
    model = packed_model.PackedModel(
        pretrained.load_base(bert_dir),
        [methods.AdapterSpec(seed, "qv", 4, 2, hparams) for seed in (0, 1)],
    )
    both = evaluation.predict(model, [0, 1], validation, batching.TokenBudget(tokens=60))
    for index in (0, 13, 29):
        ids, types, lengths, _ = validation.gather(np.array([index]))
        alone = model(model.batch([collate.RunSequences(1, ids, types, lengths)]))[0]
        assert np.allclose(both[1][index], alone.detach().numpy()[0], atol=1e-5)


@pytest.mark.parametrize("examples", [419, 421, 492, 571, 639, 785])
def test_an_evaluation_gives_the_same_bits_alone_and_in_a_pack(bert_dir, examples):
    """Of these numbers of examples some cuts, if they depended on the pack, would end in a part of
    three or fewer, whose products come out with other last bits.
    """
    ids, types, lengths = sentences(examples, 1)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    given = tokens.Tokens(ids, offsets, types, np.zeros(examples, np.float32))
    members = [methods.AdapterSpec(seed, "qv", 4, 2, course_hparams()) for seed in range(5)]
    model = packed_model.PackedModel(pretrained.load_base(bert_dir), members)
    together = evaluation.predict(model, [0, 1, 2, 3, 4], given, batching.TokenBudget(4096))
    for index in (0, 4):
        assert (
            evaluation.predict(model, [index], given, batching.TokenBudget(4096))[0]
            == together[index]
        ).all()
