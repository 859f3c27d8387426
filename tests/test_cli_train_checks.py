"""Checks of the arguments of `lora train`: before anything is fetched, all problems at once.

The kind is "found only after the hub was waited for": seeds and numbers out of range, NaN and
infinite numbers, text for numbers, names that are not known, folders that are not there, a start
without an adapter, and an output folder that is a file.
"""

import pytest

from lora.data import fetch, prepare
from lora.training import tracking

pytestmark = pytest.mark.usefixtures("logging_as_before")
ONE = ("train", "--task", "sst2", "--weights", "qv")
RUN = (*ONE, "--rank", 2, "--seed", 0)


@pytest.fixture(autouse=True)
def nothing_is_fetched(monkeypatch):
    monkeypatch.setattr(fetch, "fetch", lambda *given: pytest.fail("fetched"))
    monkeypatch.setattr(prepare, "prepare", lambda *given: pytest.fail("prepared"))


@pytest.mark.parametrize(
    "arguments, message",
    [
        ((*ONE, "--rank", 2, "--seed", -1), "--seed is -1; allowed: a whole number of at least 0"),
        ((*ONE, "--rank", 2, "--seed", 2**32), "--seed is 4294967296; allowed: a whole number"),
        ((*ONE, "--rank", 2, "--seeds", 1, -2), "--seeds is -2; allowed"),
        ((*ONE, "--rank", 2, "--seeds", 1, 1), "--seeds is 1 1; allowed: each seed only once"),
        ((*ONE, "--rank", 0, "--seed", 0), "rank is 0; allowed: an integer of at least 1"),
        ((*ONE, "--rank", -3, "--seed", 0), "rank is -3; allowed: an integer of at least 1"),
        ((*ONE, "--rank", 2**31, "--seed", 0), "rank is 2147483648; allowed"),
        ((*RUN, "--max-tokens", 0), "max_tokens is 0; allowed: a whole number of at least 4"),
        ((*RUN, "--max-tokens", "1e99"), "max_tokens is 1e+99; allowed"),
        ((*RUN, "--alpha", "abc"), "alpha is 'abc'; allowed: a number above 0"),
        ((*RUN, "--alpha", "nan"), "alpha is 'nan'; allowed: a number above 0"),
        ((*RUN, "--learning-rate", "inf"), "learning_rate is 'inf'; allowed: a number above 0"),
        ((*RUN, "--learning-rate", "1e999"), "learning_rate is inf; allowed: a number above 0"),
        ((*RUN, "--epochs", "1.5"), "epochs is 1.5; allowed: a whole number of at least 1"),
        ((*RUN, "--checkpoint-every-s", "nan"), "--checkpoint-every-s is nan; allowed"),
        ((*RUN, "--checkpoint-every-s", "inf"), "--checkpoint-every-s is inf; allowed"),
        ((*RUN, "--micro-batch", -1), "--micro-batch is -1; allowed: at least 0"),
        ((*RUN, "--max-runtime", -5), "--max-runtime is -5; allowed: at least 0 minutes"),
        ((*RUN, "--tracking", "wandb"), "--tracking is 'wandb'; allowed: none, or tensorboard"),
        ((*RUN, "--micro-batch", 2**40), "--micro-batch is 1099511627776; allowed: at least 0"),
        ((*RUN, "--protocol", "papre"), "got 'papre'; allowed: course, course-as-run"),
        ((*RUN, "--protocol", "papre"), "(did you mean 'paper'?)"),
        ((*RUN, "--start", "./no/adapter"), "--start is ./no/adapter; allowed: a folder with"),
        (
            (*RUN, "--model-dir", "no/model"),
            "--model-dir is no/model; allowed: an existing folder",
        ),
        ((*RUN, "--data-dir", "no/data"), "--data-dir is no/data; allowed: an existing folder"),
        ((*RUN, "--tokens-dir", "no/t"), "--tokens-dir is no/t; allowed: an existing folder"),
    ],
)
def test_an_argument_that_no_run_can_have_is_refused(refused, tmp_path, arguments, message):
    assert message in refused(*arguments, "--output-dir", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_output_folder_that_is_a_file_is_refused(refused, tmp_path):
    (tmp_path / "file").write_text("mine")
    text = refused(*RUN, "--output-dir", tmp_path / "file/out", names=[tmp_path / "file"])
    assert "file/out;" in text and (tmp_path / "file").read_text() == "mine"


def test_all_problems_are_in_one_message(refused, tmp_path):
    arguments = ("train", "--task", "sst-9", "--weights", "vq", "--rank", 0, "--seed", -1)
    text = refused(*arguments, "--micro-batch", -1, "--model", "no", "--output-dir", tmp_path)
    for part in (
        "--seed is -1",
        "--micro-batch is -1",
        "task: got 'sst-9'; allowed: cola, mnli",
        "no model 'no' in config/sources.csv",
        "weights is 'vq'; allowed: letters of 'qkvo'",
        "rank is 0",
    ):
        assert part in text


def test_a_tracker_without_its_library_is_refused_before_training(refused, tmp_path, monkeypatch):
    monkeypatch.setitem(tracking.LIBRARIES, "mlflow", ("not_installed",))
    text = refused(*RUN, "--tracking", "mlflow", "--output-dir", tmp_path / "out")
    assert "tracking with mlflow needs not_installed" in text and "pip install" in text
