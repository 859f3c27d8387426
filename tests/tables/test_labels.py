"""Names and number formats of the tables."""

import pytest

from lora.experiment.cell import METHODS
from lora.tables import labels


@pytest.mark.parametrize(
    "value, expected",
    [
        (0.2, "±.2"),
        (1.2, "±1.2"),
        (0.0, "±.0"),
        (0.96, "±1.0"),
        (0.94, "±.9"),
        (10.04, "±10.0"),
        (float("nan"), ""),
    ],
)
def test_spreads_are_written_as_the_paper_writes_them(value, expected):
    assert labels.spread(value) == expected


@pytest.mark.parametrize(
    "value, expected",
    [(0.26, "+0.3"), (-1.24, "−1.2"), (-0.04, "0.0"), (0.0, "0.0"), (float("nan"), "–")],
)
def test_differences_have_a_sign_unless_they_round_to_zero(value, expected):
    assert labels.difference(value) == expected


@pytest.mark.parametrize(
    "method, weights, rank, name",
    [
        ("lora", "k", 4, "LoRA r=4 on W_k"),
        ("lora", "qk", 4, "LoRA r=4 on W_q,W_k"),
        ("ft", "all", 0, "full fine-tuning"),
        ("bitfit", "bias", 0, "BitFit"),
        ("adapter_houlsby", "both", 8, "Houlsby adapter (Adpt^H), bottleneck 8"),
        ("adapter_drop", "ffn0", 48, "AdapterDrop (Adpt^D), bottleneck 48"),
        (
            "adapter_drop",
            "ffn8",
            48,
            "AdapterDrop (Adpt^D), bottleneck 48, none in the lowest 8 layers",
        ),
    ],
)
def test_method_names_include_their_size(method, weights, rank, name):
    assert labels.method_name(dict(method=method, weights=weights, rank=rank)) == name


def test_every_method_has_a_name():
    assert set(labels.METHODS) == set(labels.SYMBOLS) == set(METHODS)


@pytest.mark.parametrize(
    "count, expected",
    [(294_912, "0.3M"), (786_432, "0.8M"), (125_000_000, "125.0M"), (4_608, "4.6K")],
)
def test_parameters_are_written_as_the_paper_writes_them(count, expected):
    assert labels.parameters(count) == expected


def test_negative_numbers_have_a_minus_sign():
    assert labels.number(-3.44) == "−3.4" and labels.number(float("nan")) == "–"


def test_published_names_have_the_papers_marks():
    paper, course = "arXiv 2106.09685 v2 Table 2", "tn292/cs5782_final_project report Table 2"
    value = dict(method="ft", protocol="", source=paper)
    assert labels.published_name(value) == "FT*"
    assert labels.published_name(value | dict(source=course)) == "FT"
    dagger = value | dict(method="lora", protocol="paper-houlsby")
    assert labels.published_name(dagger) == "LoRA†"
