"""Functions that a GPU runs compiled, here for the CPU: they give the values of plain ones."""

import shutil

import pytest
import torch

from lora.model import dropout
from lora.model.compiled import disable, enable


def sample_outputs() -> list[torch.Tensor]:
    """Return outputs of the functions that are compiled, on a CPU."""
    return dropout.sample_outputs(32, torch.float32, torch.device("cpu"))


@pytest.fixture
def compiled(tmp_path_factory, monkeypatch):
    """The folder of the kernels, and whether the functions were compiled, here for the CPU."""
    if not shutil.which("g++"):
        pytest.skip("no g++, which torch.compile needs")
    folder = tmp_path_factory.mktemp("kernels")
    monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR", raising=False)
    yield folder, enable(folder, sample_outputs)
    disable()


@pytest.mark.filterwarnings("ignore")  # torch's compiler warns about itself
def test_compiled_functions_return_what_plain_ones_return(compiled):
    """The same masks to the bit, values to rounding; the kernels are kept for the next job."""
    folder, enabled = compiled
    assert enabled and any(folder.rglob("*.so"))
    keys = torch.randint(-(2**31), 2**31, (50,), dtype=torch.int32)
    columns = dropout.column_keys(32, keys.device)
    x, ones, zeros = torch.randn(50, 32), torch.ones(32), torch.zeros(32)
    arguments = x, torch.zeros(50, 32), keys, columns, ones, zeros, 0.3, 1e-5
    fused = dropout._norm_forward(*arguments)
    disable()
    plain = dropout._norm_forward(*arguments)
    assert torch.equal(fused[-1], plain[-1])
    assert torch.allclose(fused[0], plain[0], atol=1e-5)


def test_plain_functions_are_used_if_compilation_fails(tmp_path, monkeypatch, caplog):
    """Also if compiled functions return other values. The log gives the reason."""

    def compile_to_error(function):
        def call(*arguments):
            raise RuntimeError("no compiler here\nand much more")

        return call

    def compile_to_doubled(function):
        return lambda *arguments: [2 * out for out in function(*arguments)]

    monkeypatch.setattr(torch, "compile", compile_to_error)
    assert not enable(tmp_path, sample_outputs)
    assert "no compiler here" in caplog.text and "and much more" not in caplog.text
    assert len(sample_outputs()) == 3 * 7 + 5 * 4
    monkeypatch.setattr(torch, "compile", compile_to_doubled)
    assert not enable(tmp_path, sample_outputs) and "other values" in caplog.text
