"""Frozen products: their values, and that a row's bits depend on that row alone."""

import os
import subprocess
import sys

import pytest
import torch

from lora.model import frozen

# Widths of the query, and of both feed-forward layers, of TinyBERT, MiniLM and RoBERTa.
WIDTHS = [
    *[(312, 312), (312, 1200), (1200, 312), (384, 384), (384, 1536), (1536, 384)],
    *[(768, 768), (768, 3072), (3072, 768), (1024, 1024), (1024, 4096), (4096, 1024)],
]
ROWS = [1, 2, 5, 16, 31, 33, 64, 100, 129, 255, 256, 257, 300, 511, 700, 1100]


@pytest.fixture(params=[True, False], ids=["whole", "in_blocks"])
def whole(request, monkeypatch):
    """Each way to compute a product, whatever this CPU would take."""
    monkeypatch.setattr(frozen, "_computes_whole", lambda dtype: request.param)


@pytest.fixture(params=[1, 2])
def threads(request):
    """A library may divide a sum between threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


@pytest.mark.parametrize("rows", [0, 1, 5, 100, 256, 300])
def test_frozen_product_is_torchs_for_any_number_of_rows(whole, rows):
    x, weight, bias = torch.randn(rows, 8), torch.randn(8, 6), torch.randn(6)
    found = frozen.frozen_product(x, weight, bias)
    assert found.shape == (rows, 6) and found.is_contiguous()
    assert torch.allclose(found, x @ weight + bias, atol=1e-5)
    assert torch.allclose(frozen.frozen_product(x, weight), x @ weight, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("inputs", "outputs"), WIDTHS)
def test_a_row_has_the_same_bits_next_to_any_other_rows(dtype, inputs, outputs, threads):
    """As this CPU computes it: forward with a bias and a transposed weight, backward without."""
    if dtype == torch.bfloat16 and max(inputs, outputs) > 400 and not _has_fast_bf16():
        pytest.skip("bf16 is slow on this CPU")
    random = torch.Generator().manual_seed(inputs + outputs)
    x, grad, weight, bias = (
        torch.randn(*shape, generator=random).to(dtype)
        for shape in ((1200, inputs), (1200, outputs), (outputs, inputs), (outputs,))
    )
    forward = frozen.frozen_product(x, weight.T, bias)
    backward = frozen.frozen_product(grad, weight)
    for rows in ROWS:
        for start in (0, 13, 1200 - rows):
            part = slice(start, start + rows)
            assert torch.equal(frozen.frozen_product(x[part], weight.T, bias), forward[part]), rows
            assert torch.equal(frozen.frozen_product(grad[part], weight), backward[part]), rows


def _has_fast_bf16() -> bool:
    from lora.training import device

    return device.pick_precision("auto", torch.device("cpu")) == "bf16"


@pytest.mark.parametrize(
    ("words", "fp32_needs_strict", "bf16_whole"),
    [
        ("AuthenticAMD avx2", False, False),
        ("AuthenticAMD avx2 avx512_bf16", False, True),
        ("GenuineIntel avx2", True, False),
        ("GenuineIntel avx512_bf16", True, True),
        ("GenuineIntel avx512_bf16 amx_bf16", True, False),
        ("", False, False),  # no /proc, such as on a Mac
    ],
)
def test_which_cpus_compute_products_whole(monkeypatch, words, fp32_needs_strict, bf16_whole):
    monkeypatch.setattr(frozen, "_cpu_facts", lambda: frozenset(words.split()))
    frozen._computes_whole.cache_clear()
    monkeypatch.setenv("MKL_CBWR", "")  # so that it is restored where it was not set
    monkeypatch.delenv("MKL_CBWR")
    frozen.request_strict_mkl()
    assert os.environ.get("MKL_CBWR") == ("AUTO,STRICT" if fp32_needs_strict else None)
    assert frozen._computes_whole(torch.bfloat16) == bf16_whole
    for has_mkl in (True, False):
        frozen._computes_whole.cache_clear()
        monkeypatch.setattr(torch.backends.mkl, "is_available", lambda has=has_mkl: has)
        assert frozen._computes_whole(torch.float32) == has_mkl
    frozen._computes_whole.cache_clear()


def test_an_mkl_setting_of_the_user_is_kept():
    code = "import os, lora.model.frozen; print(os.environ['MKL_CBWR'])"
    environment = os.environ | dict(MKL_CBWR="COMPATIBLE")
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE, text=True, check=True
    )
    assert done.stdout.strip() == "COMPATIBLE"
