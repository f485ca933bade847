"""A study that is trained once for all tests that only read one, and the browser that opens pages."""

import os
import shutil
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


CHROMIUM_FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@pytest.fixture(scope="session")
def browser():
    """A headless Chromium, for the tests that open the page as its readers do."""
    sync_api = pytest.importorskip("playwright.sync_api")
    path = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if path is None:
        reason = "no chromium, chromium-browser or google-chrome on the path: the page is not opened"
        if os.environ.get("SOFTMAXES_REQUIRE_CHROMIUM") == "1":
            pytest.fail(reason)
        pytest.skip(reason)
    with sync_api.sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=path, args=CHROMIUM_FLAGS)
        yield running
        running.close()
