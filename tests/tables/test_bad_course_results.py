"""Course result folders that cannot be imported: names, values and existing runs."""

import re

import pytest
from helpers.course_results import accuracies, read, write_results

from lora.errors import ConfigError


@pytest.mark.parametrize(
    "name, message",
    [
        (
            "mnli/r4_query_mlp",
            "modules query, mlp; allowed: query, key, value, and dense or output, each once",
        ),
        ("mnli/r4_query_query", "modules query, query; allowed"),
        ("mnli/r4_dense_output", "modules dense, output; allowed"),
        ("mnli/r0_query", "rank is 0"),
        (
            "mnli/r4",
            "the folder's name is 'r4'; allowed: <task>_r<rank>_a<alpha>_s<seed>, or r<rank>_",
        ),
        ("mrpc/mrpc_r8_a16", "the folder's name is 'mrpc_r8_a16'; allowed"),
        ("mrpc/sst2_r8_a16_s42", "the folder's name has 'sst2', its parent 'mrpc'"),
        (
            "mrpc/mrpc_r8_a8_s42",
            "alpha is 8 in the folder's name, but 16 in protocol course (config/hparams.csv); both",
        ),
        (
            "cola/cola_r8_a16_s42",
            "the metric of cola is matthews, which the course's code does not record",
        ),
        ("results/mrpc_r8_a16_s42", "task 'results' is unknown; allowed: mnli"),
    ],
)
def test_wrong_folder_names_are_refused(tmp_path, name, message):
    write_results(tmp_path / "results" / name, accuracies(0))
    with pytest.raises(ConfigError, match=re.escape(message)) as caught:
        read(tmp_path / "results", tmp_path / "out", protocol="course")
    assert name in str(caught.value) and not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "change, message",
    [
        (
            lambda text: text.replace("Accuracy", "Acc"),
            "line 1: columns Training Loss, Epoch, Step, Validation Loss, Acc",
        ),
        (lambda text: "", "line 1: columns none; expected Training Loss"),
        (lambda text: re.sub(r"\n,2\.0.*", "", text), "line 3: epoch 3; expected 2"),
        (lambda text: text.replace(",3.0,", ",2.0,"), "line 4: epoch 2; expected 3"),
        (
            lambda text: re.sub(r",3\.0.*\n", "", text),
            "2 epochs; protocol course (config/hparams.csv) has 3",
        ),
        (
            lambda text: text.replace(",3.0,", ",2.9,"),
            "line 4: Epoch is '2.9'; allowed: a whole number",
        ),
        (
            lambda text: text.replace(",690,", ",460,"),
            "line 4: step 460 after 460; expected a higher one",
        ),
        (
            lambda text: text.replace(",0.86,", ",nan,"),
            "line 3: Accuracy is 'nan'; allowed: a finite number",
        ),
        (
            lambda text: text.replace(",0.86,", ",,"),
            "line 3: Accuracy is ''; allowed: a finite number",
        ),
        (
            lambda text: text.replace(",0.86,", ",86.0,"),
            "line 3: Accuracy is 86.0; allowed: a fraction, 0 to 1 (if it is in per cent",
        ),
        (
            lambda text: text.replace(",0.86,", ",-0.1,"),
            "line 3: Accuracy is -0.1; allowed: a fraction, 0 to 1",
        ),
        (
            lambda text: text.replace(",0.86,", ",good,"),
            "line 3: Accuracy is 'good'; allowed: a number",
        ),
        (lambda text: text.replace(",0.86,", ","), "line 3: 7 cells; expected 8"),
    ],
)
def test_wrong_values_are_refused_with_file_and_line(tmp_path, change, message):
    path = write_results(tmp_path / "results/mrpc/mrpc_r8_a16_s42", accuracies(0))
    path.write_text(change(path.read_text(encoding="utf-8")), encoding="utf-8")
    with pytest.raises(ConfigError, match=re.escape(message)) as caught:
        read(tmp_path / "results", tmp_path / "out", protocol="course")
    assert str(path) in str(caught.value) and not (tmp_path / "out").exists()


def test_all_problems_are_in_one_message(tmp_path):
    folder = tmp_path / "results"
    write_results(folder / "mrpc/mrpc_r8_a16_s42", [0.8, 88.0, 0.8])
    write_results(folder / "mrpc/best", [0.8, 88.0, 0.8])
    write_results(folder / "mnli/r4_query_value", accuracies(0))
    write_results(folder / "mnli/r4_value_query", accuracies(1))
    write_results(folder / "results", accuracies(1))
    (folder / "mrpc/mrpc_r8_a16_s43").mkdir()
    with pytest.raises(ConfigError) as caught:
        read(folder, tmp_path / "out", protocol="course")
    message = "\n".join(caught.value.problems)
    assert len(caught.value.problems) == 12, (
        message
    )  # four fractions are per cent in each of the first two
    assert "mnli/r4_value_query/training_results.csv: the same run as" in message
    assert "mrpc/best/training_results.csv: the folder's name is 'best'" in message
    assert "mrpc_r8_a16_s43: no training_results.csv" in message
    assert "results/training_results.csv: not the CSV of a run" in message
    assert not (tmp_path / "out").exists()


def test_seed_and_alpha_are_required_if_folder_names_lack_them(tmp_path):
    write_results(tmp_path / "results/mnli/r4_query", accuracies(0))
    with pytest.raises(ConfigError) as caught:
        read(
            tmp_path / "results",
            tmp_path / "out",
            protocol="course",
            default_seed=None,
            default_alpha=None,
        )
    assert [problem.split(": ")[-1] for problem in caught.value.problems] == [
        f"the folder's name has no {what}; set it with --{what}" for what in ("seed", "alpha")
    ]
    with pytest.raises(ConfigError, match="alpha is 16 as given, but 4 in protocol course"):
        read(tmp_path / "results", tmp_path / "out", protocol="course", default_alpha="16")
    with pytest.raises(ConfigError, match="alpha is 'two'"):
        read(tmp_path / "results", tmp_path / "out", protocol="course", default_alpha="two")


def test_an_existing_run_is_never_replaced(tmp_path):
    write_results(tmp_path / "results/mnli/r4_query", accuracies(0))
    (folder,) = read(tmp_path / "results", tmp_path / "out", protocol="course")
    before = (folder / "metrics.csv").read_bytes()
    with pytest.raises(ConfigError, match="seed42 exists"):
        read(tmp_path / "results", tmp_path / "out", protocol="course")
    assert (folder / "metrics.csv").read_bytes() == before


def test_a_folder_without_results_is_refused(tmp_path):
    with pytest.raises(ValueError, match="no <task>/<run>/training_results.csv under"):
        read(tmp_path, tmp_path / "out")
