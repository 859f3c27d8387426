"""Compiled functions are kept only if they give the values of the plain ones."""

import pytest
import torch
import torch._dynamo

from lora.model import compiled


@pytest.fixture(autouse=True)
def plain_again(monkeypatch, tmp_path):
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(compiled, "_functions", {"double": None})
    before = torch._dynamo.config.suppress_errors
    yield
    torch._dynamo.config.suppress_errors = before
    compiled.disable()


@pytest.mark.parametrize("factor, kept", [(1.0, True), (1.5, False)])
def test_other_values_are_refused(monkeypatch, tmp_path, factor, kept):
    @compiled.compilable
    def double(x):
        return 2 * x

    monkeypatch.setattr(torch, "compile", lambda function: lambda x: factor * function(x))
    assert compiled.enable(tmp_path, lambda: [double(torch.ones(3))]) is kept
    assert double(torch.ones(1)).item() == 2


def test_a_cpu_never_compiles(tmp_path):
    compiled.enable_on_gpu(torch.device("cpu"), tmp_path, lambda: pytest.fail("called"))
    assert compiled._compiled == {}


def test_a_gpu_without_triton_runs_functions_as_written(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(compiled.importlib.util, "find_spec", lambda name: None)
    with caplog.at_level("INFO"):
        compiled.enable_on_gpu(torch.device("mps"), tmp_path, lambda: pytest.fail("called"))
    assert compiled._compiled == {} and "Triton is not installed" in caplog.text
