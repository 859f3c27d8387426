"""Names that become folders, and the largest whole number accepted."""

import re

from lora.errors import shown

NAME = re.compile(
    r"[A-Za-z0-9][A-Za-z0-9._-]*"
)  # of what becomes a folder: models, tasks, protocols, sources
MAX_INT = (
    2**31 - 1
)  # of whole numbers, so that no product of them or array of that size overflows in silence


def check_name(what: str, name) -> list[str]:
    """What is wrong with a name that is also a folder's: nothing, or one line."""
    if isinstance(name, str) and NAME.fullmatch(name):
        return []
    return [
        f"{what} is {shown(name)}; allowed: letters, digits and . _ - after a letter or digit, as it names a folder"
    ]
