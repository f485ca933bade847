"""A test that starts a Python is marked as slow, or fails: `conftest.py` sees to it."""

import multiprocessing
import subprocess
import sys

import pytest

REFUSED = "expected no new Python in a test that is not marked with pytest.mark.slow"


def test_a_test_that_is_not_slow_starts_no_python() -> None:
    with pytest.raises(pytest.fail.Exception, match=REFUSED):
        subprocess.run([sys.executable, "-c", ""], check=True)
    for method in {"spawn", "forkserver"} & set(multiprocessing.get_all_start_methods()):
        process = multiprocessing.get_context(method).Process(target=int)  # type: ignore[attr-defined]
        with pytest.raises(pytest.fail.Exception, match=REFUSED):
            process.start()


@pytest.mark.slow
def test_a_slow_one_may() -> None:
    assert subprocess.run([sys.executable, "-c", "print(1)"], check=True, capture_output=True).stdout.split() == [b"1"]
