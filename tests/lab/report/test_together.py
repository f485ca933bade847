import csv
import io
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest

from browsing import cells
from reports import make_card, make_result, make_run, make_study
from softmaxes.lab.cli.main import main
from softmaxes.lab.comparison.finished import Comparison
from softmaxes.lab.records import DataCard
from softmaxes.lab.report import together
from softmaxes.lab.report.page import Link
from softmaxes.lab.report.summary import summarise
from softmaxes.lab.report.together import SECONDS, Group


def group(
    name: str, heads: Sequence[str] = ("softmax", "gumbel"), card: DataCard | None = None, **setting: object
) -> Group:
    card = card or make_card(num_classes=10, samples=0)
    runs = [make_run(head, seed, fingerprint=card.fingerprint, **setting) for head in heads for seed in (0, 1)]
    results = [make_result(run, card) for run in runs]
    return Group(name, summarise(make_study(runs, published=()), card, results))


def test_every_row_stands_under_its_folder() -> None:
    groups = [group("short", epochs=2), group("long", ("softmax",), epochs=20)]
    grid = together.comparison(groups)
    assert [(head.group, head.text) for head in grid.heads] == [
        ("short", "short: softmax"),
        ("short", "short: gumbel"),
        ("long", "long: softmax"),
    ]
    lines = list(csv.DictReader(io.StringIO(grid.csv())))
    assert [(line["folder"], line["head"]) for line in lines] == [
        ("short", "softmax"),
        ("short", "gumbel"),
        ("long", "softmax"),
    ]
    of_all = [row.scores["accuracy"].mean for one in groups for row in one.summary.rows]
    assert [float(line["accuracy"]) for line in lines] == of_all
    assert [row.position for row in together.merged(groups).rows] == [0, 1, 2]  # no two of one colour
    assert [head.row and head.row.position for head in grid.heads] == [0, 1, 2]
    assert "| `long: softmax` |" in grid.markdown()
    assert r"\texttt{long: softmax}" in grid.latex()


def test_what_one_folder_alone_has_is_a_dash_in_the_others() -> None:
    card = make_card(num_classes=10, samples=0)
    run = make_run()
    plain = make_result(run, card)
    epoch = plain.epochs[-1]
    assert epoch.scores is not None
    scores = epoch.scores.model_copy(update={"precision_at_1": 0.5})
    several = plain.model_copy(update={"epochs": (*plain.epochs[:-1], epoch.model_copy(update={"scores": scores}))})
    groups = [
        Group(name, summarise(make_study([run], published=()), card, [result]))
        for name, result in (("one", plain), ("several", several))
    ]
    grid = together.comparison(groups)
    (column,) = [column for column in grid.columns if column.markdown == "Precision@1, %"]
    assert [cell.text for cell in column.cells] == ["–", "50.0"]
    lines = list(csv.DictReader(io.StringIO(grid.csv())))
    assert [line["precision_at_1"] for line in lines] == ["", "0.5"]


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ({}, "Data, training, seeds and machine are the same in every folder."),
        ({"epochs": 3, "lr": 0.5}, "The training differs in epochs and lr: a difference between folders"),
        ({"card": make_card(10, samples=0, fingerprint="beef")}, "The data differ: compare heads within a folder"),
    ],
)
def test_what_differs_is_said(other: dict[str, object], said: str) -> None:
    groups = [group("one"), group("other", **other)]  # type: ignore[arg-type]
    (note,) = together.warnings(groups)
    assert note.startswith(said)
    assert (together.what_differs(groups) is None) == (not other)
    if "lr" in other:
        assert together.differing(groups) == {"epochs": ["10", "3"], "lr": ["0.1", "0.5"]}


def test_other_seeds_and_machines_are_said() -> None:
    one, card = group("one"), make_card(num_classes=10, samples=0)
    result = make_result(make_run(), card)
    result = result.model_copy(update={"machine": result.machine.model_copy(update={"jobs": 9})})
    groups = [one, Group("other", summarise(make_study([result.run], published=()), card, [result]))]
    seeds, machine = together.warnings(groups)
    assert seeds.startswith("The seeds differ")
    assert machine.endswith("do not compare seconds between folders.")
    assert list(together.differing(groups)) == ["seeds", SECONDS]


@pytest.mark.parametrize("width", [1280, 390])
def test_the_page_of_several_folders(tmp_path: Path, open_page, width: int) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright")
    name = "<script>alert('a')</script>"
    groups = [group(name, epochs=2), group("long", ("softmax",), epochs=20)]
    path = together.write(groups, [Link(one.name, "x/report.html") for one in groups], tmp_path)
    page = open_page(path, width=width)
    shown = [line[0] for line in cells(page, "#comparison-table")]
    assert shown == [name, "softmax", "gumbel", "long", "softmax"]
    assert page.locator(".note li").all_inner_texts() == together.warnings(groups)
    assert cells(page, "#setting-table") == [[name, "2"], ["long", "20"]]
    assert page.evaluate("document.documentElement.scrollWidth") == width
    assert [one["id"] for one in axe.Axe().run(page).response["violations"]] == []


@pytest.mark.usefixtures("undrawn")
def test_the_command_shows_several_folders(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("a", "b", "c/a"):
        shutil.copytree(finished, tmp_path / name)
    assert main(["report", "a", "b"]) == 0
    assert capsys.readouterr().out.endswith("\nreport: runs/a-and-b/report.html\n")
    out = tmp_path / "runs" / "a-and-b"
    assert {path.name for path in out.iterdir()} == {
        "report.html", "table.csv", "table.md", "table.tex", "together.json",
    }  # fmt: skip
    page = (out / "report.html").read_text("utf-8")
    assert '<a href="../../a/report.html">a</a>, <a href="../../b/report.html">b</a>.' in page
    assert "are the same in every folder" in page
    assert main(["report", "b", "a"]) == 0  # the same ones
    assert main(["report", "a", "c/a", "--out", "both"]) == 0
    assert "| `c/a: softmax` |" in (tmp_path / "both" / "table.md").read_text("utf-8")
    capsys.readouterr()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    for words, said in (
        (["a", "b", "--out", "both"], "both: expected the page of these folders, got that of ../a and ../c/a."),
        (["a", "./a"], "expected each folder once, got a a."),
        (["a", "b", "--out", "a"], "a: expected an empty folder or one that this command made, got one with"),
        (["a", "b", "--out", "mine"], "mine: expected an empty folder or one that this command made, got one with"),
        (["a", "--out", "x"], "--out: expected none with one folder, whose page is written in it, got x."),
        (["a", "nothing"], "nothing/study.json: expected the folder of a comparison"),
    ):
        assert main(["report", *words]) == 2
        assert capsys.readouterr().err.startswith(f"softmaxes: {said}")
    assert Comparison.read("a").page.exists()
