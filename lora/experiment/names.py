"""Names that become folders, kinds of devices, and the largest whole number accepted."""

import re

from lora.errors import shown

# Models, tasks, protocols and sources: each becomes a folder.
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
# Largest whole number, so that products and array sizes can't overflow unnoticed.
MAX_INT = 2**31 - 1
# Kinds of devices, as torch names them: CPUs, and GPUs of NVIDIA or AMD, Apple and Intel.
DEVICE_KINDS = ("cpu", "cuda", "mps", "xpu")


def check_name(what: str, name: object) -> list[str]:
    """Return what is wrong with a name that becomes a folder: no line or one."""
    if isinstance(name, str) and NAME.fullmatch(name):
        return []
    return [
        f"{what} is {shown(name)}; allowed: letters, digits and . _ - after a letter or digit, as "
        "it names a folder"
    ]


def simplified(name: str) -> str:
    """Return a name without case, spaces, hyphens and underscores, to compare names."""
    return re.sub(r"[\s_-]+", "", name.casefold())
