"""Write tests/references/adapters.json: bottleneck adapters computed by the library `adapters`.

The library needs transformers 4.57 and this project a later major version, so they can't share an
environment, and the tests read the file. To make it again (on a CPU, in seconds, no download):

    python3.11 -m venv adapters-venv
    adapters-venv/bin/pip install adapters==1.3.0 transformers==4.57.6 torch==2.13.0 numpy==2.4.6
    adapters-venv/bin/python tests/references/adapters_library.py

`fill` sets every parameter from one numpy stream, so a test can rebuild the same base model and
head in any version of transformers; the file has their names and shapes, not their values. Only
`fresh` depends on a random stream of torch: mean and standard deviation of the library's initial
values. Outputs and gradients are in float64, without dropout. Counts leave out the head.
"""

import json
from importlib import metadata
from pathlib import Path

import adapters
import numpy as np
import torch
import transformers

OUT = Path(__file__).with_name("adapters.json")
PACKAGES = ("adapters", "transformers", "torch", "numpy")
BASE_SEED, ADAPTER_SEED, SENTENCE_SEED = 11, 12, 13
SIZES = dict(
    hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=24, vocab_size=50
)
LABELS = 3
BOTTLENECK = 4
LENGTHS = (3, 7, 12, 5)
FILL = (
    "names sorted as strings; random = numpy.random.RandomState(seed); "
    "for each name in that order, "
    "noise = random.standard_normal(shape) in C order; "
    "value = 1 + 0.1 * noise if the name ends with 'LayerNorm.weight', "
    "else 0.2 * noise; every value is used as it is, padding rows of embeddings included"
)
METHODS = {
    "adapter_houlsby": adapters.DoubleSeqBnConfig,
    "adapter_pfeiffer": adapters.SeqBnConfig,
    "adapter_drop": adapters.SeqBnConfig,
}
LEFT_OUT = {"adapter_drop": [0]}  # the lowest of the two layers
MODELS = {"base": (768, 12), "large": (1024, 24)}  # RoBERTa: width, layers
COUNTED = [  # method, RoBERTa size, bottleneck, lowest layers dropped
    ("adapter_houlsby", "large", 64, 0),
    ("adapter_houlsby", "large", 8, 0),
    ("adapter_pfeiffer", "large", 64, 0),
    ("adapter_pfeiffer", "large", 16, 0),
    ("adapter_drop", "base", 16, 0),
    ("adapter_drop", "base", 48, 0),
    ("adapter_drop", "base", 48, 5),
    ("adapter_drop", "base", 48, 8),
    ("adapter_drop", "base", 64, 3),
    ("adapter_drop", "base", 64, 9),
]


def fill(parameters: dict[str, torch.Tensor], seed: int) -> None:
    """Give every parameter its value, as FILL says."""
    random = np.random.RandomState(seed)
    with torch.no_grad():
        for name in sorted(parameters):
            noise = random.standard_normal(tuple(parameters[name].shape))
            value = 1 + 0.1 * noise if name.endswith("LayerNorm.weight") else 0.2 * noise
            parameters[name].copy_(torch.from_numpy(value))


def settings_of(family: str, **changes) -> dict:
    """Arguments of a configuration of this family: the tiny model's, with `changes`."""
    common = SIZES | dict(
        hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0, max_position_embeddings=20
    )
    special = (
        dict(type_vocab_size=1, pad_token_id=1, bos_token_id=0, eos_token_id=2)
        if family == "roberta"
        else {}
    )
    return common | special | dict(num_labels=LABELS) | changes


def classifier(family: str):
    """The tiny classifier with its parameters filled, in float64, ready for adapters."""
    if family == "bert":
        model = transformers.BertForSequenceClassification(
            transformers.BertConfig(**settings_of(family))
        )
    else:
        model = transformers.RobertaForSequenceClassification(
            transformers.RobertaConfig(**settings_of(family))
        )
    model = model.double().eval()
    fill(dict(model.named_parameters()), BASE_SEED)
    return model


def with_adapter(model, method: str, width: int, bottleneck: int, left_out: list[int]):
    """Return a frozen model with a trainable adapter of the library, and the adapter's settings."""
    settings = METHODS[method](reduction_factor=width / bottleneck, leave_out=left_out)
    adapters.init(model)
    model.add_adapter("task", config=settings)
    model.train_adapter("task")
    return model.to(next(model.parameters()).dtype).eval(), settings


def trained(model) -> dict[str, torch.nn.Parameter]:
    """What the library trains in the base model; the head, which it trains too, is left out."""
    return {
        name: value for name, value in model.base_model.named_parameters() if value.requires_grad
    }


def sentences(family: str) -> list[dict[str, list[int]]]:
    """Sentences without padding; BERT's have a second half of the other token type."""
    random = np.random.RandomState(SENTENCE_SEED)
    made = []
    for length in LENGTHS:
        types = [int(family == "bert" and place >= length // 2) for place in range(length)]
        made.append(
            dict(
                input_ids=random.randint(3, SIZES["vocab_size"], length).tolist(),
                token_type_ids=types,
            )
        )
    return made


def first_token(model, sentence: dict[str, list[int]]) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the last hidden state of the first token [width] and the logits [labels]."""
    out = model(
        **{name: torch.tensor([ids]) for name, ids in sentence.items()}, output_hidden_states=True
    )
    return out.hidden_states[-1][0, 0], out.logits[0]


def case(family: str, method: str) -> dict:
    """Return settings, adapter, outputs, and the gradient of the sum of squared first tokens."""
    width = SIZES["hidden_size"]
    plain = classifier(family)
    without = [first_token(plain, sentence)[0] for sentence in sentences(family)]
    model, settings = with_adapter(plain, method, width, BOTTLENECK, LEFT_OUT.get(method, []))
    ours = trained(model)
    fill(ours, ADAPTER_SEED)
    outputs = [first_token(model, sentence) for sentence in sentences(family)]
    hidden = torch.stack([state for state, _ in outputs])
    assert all(
        (state - other).abs().max() > 1e-3 for state, other in zip(hidden, without, strict=True)
    )
    gradients = torch.autograd.grad(hidden.square().sum(), list(ours.values()))
    return dict(
        family=family,
        method=method,
        settings={
            key: value for key, value in settings.to_dict().items() if not key.startswith("phm")
        },
        adapter={name: value.tolist() for name, value in ours.items()},
        first_token=hidden.tolist(),
        first_token_without_adapter=torch.stack(without).tolist(),
        logits=torch.stack([logits for _, logits in outputs]).tolist(),
        gradient={name: value.tolist() for name, value in zip(ours, gradients, strict=True)},
    )


def base(family: str) -> dict:
    """What a test needs to rebuild the base model and head, and to see that it did."""
    model = classifier(family)
    return dict(
        config=settings_of(family),
        shapes={name: list(value.shape) for name, value in sorted(model.named_parameters())},
        sentences=sentences(family),
    )


def fresh(method: str) -> dict:
    """Return mean, standard deviation and number of initial values, over all layers of a model."""
    torch.manual_seed(0)
    width, bottleneck = 256, 64
    config = transformers.RobertaConfig(
        **settings_of("roberta", hidden_size=width, num_hidden_layers=12)
    )
    model, _ = with_adapter(
        transformers.RobertaForSequenceClassification(config), method, width, bottleneck, []
    )
    groups = {}
    for name, value in trained(model).items():
        side = "down" if ".adapter_down." in name else "up"
        groups.setdefault(f"{side}.{name.rpartition('.')[2]}", []).append(value.detach().flatten())
    values = {group: torch.cat(parts) for group, parts in groups.items()}
    return {
        group: dict(mean=value.mean().item(), std=value.std().item(), number=len(value))
        for group, value in values.items()
    }


def count(method: str, size: str, bottleneck: int, dropped: int) -> dict:
    """Count the trainable parameters in RoBERTa without its head, on the meta device."""
    width, layers = MODELS[size]
    sizes = dict(
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=width // 64,
        intermediate_size=4 * width,
    )
    config = transformers.RobertaConfig(**settings_of("roberta", **sizes))
    with torch.device("meta"):
        model = transformers.RobertaForSequenceClassification(config)
        model, _ = with_adapter(model, method, width, bottleneck, list(range(dropped)))
    number = sum(value.numel() for value in trained(model).values())
    return dict(
        method=method,
        width=width,
        layers=layers,
        bottleneck=bottleneck,
        dropped=dropped,
        trainable=number,
    )


def main() -> None:
    torch.set_num_threads(1)
    made = dict(
        made_by="tests/references/adapters_library.py",
        versions={name: metadata.version(name) for name in PACKAGES},
        fill=FILL,
        base_seed=BASE_SEED,
        adapter_seed=ADAPTER_SEED,
        bottleneck=BOTTLENECK,
        bases={family: base(family) for family in ("bert", "roberta")},
        cases=[case(family, method) for family in ("bert", "roberta") for method in METHODS],
        fresh={method: fresh(method) for method in METHODS if method not in LEFT_OUT},
        counts=[count(*row) for row in COUNTED],
    )
    OUT.write_text(json.dumps(made, indent=None, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()
