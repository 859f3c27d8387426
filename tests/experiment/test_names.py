"""Names that become folders."""

import pytest

from lora.experiment.names import check_name


@pytest.mark.parametrize("name", ["sst2", "roberta-base", "a.b_c", "0"])
def test_names_of_folders_are_accepted(name):
    assert check_name("task", name) == []


@pytest.mark.parametrize("name", ["", ".", "..", "../x", "a/b", "-a", "a b", "é", "a\n", None, 3])
def test_other_names_are_refused(name):
    (problem,) = check_name("task", name)
    assert problem.startswith(f"task is {name!r}; allowed: letters, digits")
