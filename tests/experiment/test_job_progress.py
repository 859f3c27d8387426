"""The progress file of a running job: written whole, read or ignored."""

import time

import pytest

from lora.experiment import job_progress
from lora.experiment.job_progress import JobProgress


def test_what_is_written_is_read_while_it_is_new(tmp_path):
    path = tmp_path / job_progress.NAME
    found = JobProgress("sst2 q r2", "epoch 1/2", 50, 100, 10.0, time.time())
    job_progress.write(path, found)
    assert job_progress.read(path) == found and found.left_s == 5.0
    job_progress.write(path, JobProgress("a", "b", 1, 2, 3.0, time.time() - job_progress.STALE_S))
    assert job_progress.read(path) is None
    assert [one.name for one in tmp_path.iterdir()] == [job_progress.NAME]


@pytest.mark.parametrize("text", ["", "{", "[]", '{"label": 1}', '{"updated": "now"}'])
def test_a_damaged_progress_file_counts_as_none(tmp_path, text):
    (tmp_path / job_progress.NAME).write_text(text)
    assert job_progress.read(tmp_path / job_progress.NAME) is None


def test_a_folder_that_cannot_be_written_does_not_stop_a_job(tmp_path):
    found = JobProgress("a", "b", 1, 2, 3.0, 4.0)
    job_progress.write(tmp_path / "missing" / job_progress.NAME, found)
    assert list(tmp_path.iterdir()) == []
