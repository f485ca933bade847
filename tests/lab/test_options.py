"""Numbers on the command line: whole ones are whole, and none is beyond what is made of it."""

from pathlib import Path

import numpy as np
import pytest

from softmaxes.lab.bounds import number
from softmaxes.lab.cli.main import main

TRAINING = ["train", "--data", "mine.npz"]
WHOLE = {
    "--seed": TRAINING,
    "--epochs": TRAINING,
    "--batch-size": TRAINING,
    "--hidden-units": TRAINING,
    "--channels": TRAINING,
    "--width": TRAINING,
    "--blocks": TRAINING,
    "--padding": TRAINING,
    "--crops": TRAINING,
    "--image-size": TRAINING,
    "--seeds": ["compare", "--data", "mine.npz"],
    "--tune": ["compare", "--data", "mine.npz"],
    "--jobs": ["compare", "--data", "mine.npz"],
    "--train-per-class": ["data", "glyphs"],
    "--test-per-class": ["data", "glyphs"],
    "--classes": ["tree", "build", "balanced", "--out", "tree.json"],
    "--arity": ["tree", "build", "balanced", "--classes", "9", "--out", "tree.json"],
    "--lines": ["tree", "show", "tree.json"],
    "--features": ["advise", "--classes", "1000"],
}
REAL = ["--lr", "--momentum", "--weight-decay", "--label-smoothing", "--validation", "--long-tail"]


@pytest.fixture(autouse=True)
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some vectors; nothing is trained on them."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("softmaxes.lab.comparison.compare.run_study", lambda *_, **__: pytest.fail("executed"))
    labels = np.arange(40) % 4
    np.savez("mine.npz", features=np.arange(80, dtype=np.float32).reshape(40, 2), labels=labels)


def refused(words: list[str], option: str, value: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*words, f"{option}={value}"]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.count("\n") == 1
    assert option in said.err
    assert [path.name for path in Path().iterdir()] == ["mine.npz"]


@pytest.mark.parametrize("option", WHOLE)
@pytest.mark.parametrize("value", ["2.5", "1e3", "nan", "inf", "1e308", "5e-324", "two", "", "-1e400"])
def test_what_is_no_whole_number_is_refused(option: str, value: str, capsys: pytest.CaptureFixture[str]) -> None:
    refused(WHOLE[option], option, value, capsys)


@pytest.mark.parametrize(
    "option", [option for option in WHOLE if option not in ("--arity", "--lines", "--jobs", "--seeds")]
)
@pytest.mark.parametrize("value", [-1, 2**63, 10**20])
def test_a_whole_number_has_bounds(option: str, value: int, capsys: pytest.CaptureFixture[str]) -> None:
    if option != "--tune" or value < 0:
        refused(WHOLE[option], option, str(value), capsys)


@pytest.mark.parametrize("option", REAL)
@pytest.mark.parametrize("value", ["nan", "inf", "-inf", "-1", "1e308", "1e39"])
def test_a_number_is_one_that_training_can_take(option: str, value: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Of 1e39 and more torch says that float32 cannot hold it, and says it in a traceback."""
    if option != "--long-tail" or not value.startswith("1e"):
        refused(TRAINING, option, value, capsys)


def test_a_number_of_any_size_is_told() -> None:
    told = [number(value) for value in (-1234567, 10**20 - 1, 10**20, -(10**20), 10**5000)]
    assert told[:2] == ["-1,234,567", "99,999,999,999,999,999,999"]
    assert told[2:] == ["more than 10^20", "less than -10^20", "more than 10^20"]
