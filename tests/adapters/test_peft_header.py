"""A PEFT folder is described from its config and the header of its tensors, without torch."""

import subprocess
import sys

import torch
from safetensors.torch import load_file, save_file

from lora.adapters import peft_folder, peft_header


def test_a_folder_is_described_without_torch(folder):
    program = (
        "import sys; from lora.adapters import peft_header\n"
        "print(peft_header.describe_folder(sys.argv[1]).weights)\n"
        "print(*{'torch', 'transformers', 'peft', 'pandas'} & set(sys.modules))"
    )
    out = subprocess.run(
        [sys.executable, "-c", program, folder], capture_output=True, text=True, check=True
    )
    assert out.stdout.split() == ["qv"]


def test_the_header_has_types_and_shapes(folder):
    """bfloat16 and float8 too, which numpy has not."""
    path = folder / peft_folder.TENSORS
    stored = load_file(path)
    kinds = [torch.bfloat16, torch.float8_e4m3fn, torch.float16]
    stored = {key: value.to(kinds[at % 3]) for at, (key, value) in enumerate(stored.items())}
    save_file(stored, path)
    names = {torch.bfloat16: "BF16", torch.float8_e4m3fn: "F8_E4M3", torch.float16: "F16"}
    expected = {key: (names[value.dtype], tuple(value.shape)) for key, value in stored.items()}
    assert peft_header.read_header(folder) == expected
