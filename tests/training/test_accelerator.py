"""Tests on a simulated accelerator (accelerator_steps.py), in a process of their own.

torch's autograd counts the devices when it is first used in a process. A device that is registered
later has no thread there, so these tests must come before all others that compute a gradient.
"""

import subprocess
import sys
from pathlib import Path

import pytest
from helpers import accelerator

TESTS = Path(__file__).with_name("accelerator_steps.py")


@pytest.mark.skipif(bool(accelerator.MISSING), reason=accelerator.MISSING)
def test_steps_on_a_simulated_accelerator():
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-rf", str(TESTS)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=TESTS.parents[2])
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]
    assert " passed" in done.stdout
