"""A study that is trained once for all tests that only read one."""

from pathlib import Path

import pytest

from softmaxes.lab.cli.main import main
from toy import FINISHED_DATA, FINISHED_TRAINING


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of softmax at two seeds, as the command line leaves it. A test that alters it copies it first."""
    folder = tmp_path_factory.mktemp("finished") / "kept"
    words = [*FINISHED_DATA, *FINISHED_TRAINING, "--heads", "softmax", "--seeds", "2", "--jobs", "1"]
    assert main(["compare", *words, "--out", str(folder)]) == 0
    return folder
