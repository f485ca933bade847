"""Results from elsewhere, set beside ours: read from a stranger's CSV file."""

import csv
import io
import shutil
from pathlib import Path

import pytest
from rich.console import Console

from reports import print_table, whole_study
from softmaxes.files import InputError
from softmaxes.lab.cli.main import main
from softmaxes.lab.comparison.finished import Comparison
from softmaxes.lab.elsewhere import read_elsewhere
from softmaxes.lab.records import Elsewhere
from softmaxes.lab.report import page, table
from softmaxes.lab.report.summary import summarise

FIRST = "head,accuracy,source\n"


def written(folder: Path, text: str | bytes) -> Path:
    path = folder / "papers.csv"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def test_scores_are_shares_or_percent(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        "\ufeffSource, head ,accuracy,nll,epoch_seconds,top5\r\n"
        '"Liu, 2019",resnet,81.3%,1.25,,\r\n\r\nours,other,0.5,,12,90 %\r\n',
    )
    assert read_elsewhere(path) == (
        Elsewhere(head="resnet", source="Liu, 2019", accuracy=0.813, nll=1.25),
        Elsewhere(head="other", source="ours", accuracy=0.5, epoch_seconds=12, top5=0.9),
    )
    assert read_elsewhere(written(tmp_path, FIRST)) == ()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", ": expected a first line of names among head,source,accuracy,top5,"),
        ("head,accuracy\na,1\n", "with head, accuracy and source, got 'head,accuracy'."),
        ("head,accuracy,source,acc\n", "got 'head,accuracy,source,acc'."),
        ("head,accuracy,source,head\n", "got 'head,accuracy,source,head'."),
        (f"{FIRST}a,81.3,b\n", ", line 2: expected a share as 0.813 or 81.3% as accuracy, got '81.3'."),
        (f"{FIRST}a,nan,b\n", ", line 2: expected a share as 0.813 or 81.3% as accuracy, got 'nan'."),
        (f"{FIRST}a,-0.1,b\n", ", line 2: expected a share"),
        (f"{FIRST}a,1_0%,b\n", ", line 2: expected a share"),
        (f"{FIRST}a,\x1b[31m,b\n", "as accuracy, got '\ufffd[31m'."),
        (f"{FIRST}a,0.5,b\n,0.5,b\n", ", line 3: expected a head, got none."),
        (f"{FIRST}a,0.5,\n", ", line 2: expected a source, got none."),
        (f"{FIRST}a,0.5\n", ", line 2: expected 3 cells, as in the first, got 2."),
        ("head,accuracy,source,nll\na,0.5,b,inf\n", ", line 2: expected a number of at least 0 as nll, got 'inf'."),
        (f'{FIRST}"a"b,0.5,c\n', ": expected a CSV file in UTF-8, got another."),
        (b"\xff\xfe", ": expected a CSV file in UTF-8, got another."),
        (FIRST + "a,0.5,b\n" * 1000, ": expected at most 1,000 lines, got 1,001."),
    ],
)
def test_a_file_that_is_none_is_refused(tmp_path: Path, text: str | bytes, said: str) -> None:
    path = written(tmp_path, text)
    with pytest.raises(InputError) as caught:
        read_elsewhere(path)
    assert str(caught.value).startswith(str(path))
    assert said in str(caught.value)
    assert str(caught.value).isprintable()


def test_rows_from_elsewhere_are_marked_as_such_everywhere(tmp_path: Path) -> None:
    """A stranger's words are no HTML, no formula, no cell of Markdown, no command of LaTeX or of a terminal."""
    path = written(
        tmp_path,
        'head,accuracy,nll,source\n<b>best</b>,99.9%,0.001,"a|b ""c"""\n=1+1,,2,\\input{x}\nred\x1b[31m,0.1,,x\n',
    )
    study, card, results = whole_study()
    study = study.model_copy(update={"elsewhere": read_elsewhere(path)})
    summary = summarise(study, card, results)
    assert {row.label for row in summary.marked(summary.measures[0], "best")} == {"softmax"}
    shown = page.render(summary)
    body = shown[shown.index("<body>") :].partition("<script")[0]
    assert '<th scope="rowgroup" colspan="9"><bdi>Published elsewhere</bdi></th>' in body
    assert "&lt;b&gt;best&lt;/b&gt; (published elsewhere, a|b &#34;c&#34;)" in body
    assert "<b>best" not in shown
    assert "none is marked, and no difference to them is tested" in body
    grid = table.comparison(summary)
    lines = list(csv.DictReader(io.StringIO(grid.csv())))
    assert [(line["head"], line["accuracy"], line["nll"]) for line in lines[3:]] == [
        ("<b>best</b>", "0.9990000000000001", "0.001"),
        ("'=1+1", "", "2.0"),
        ("red\ufffd[31m", "0.1", ""),
    ]
    assert [line["published_elsewhere"] for line in lines] == ["", "", "", 'a|b "c"', "\\input{x}", "x"]
    assert '| `<b>best</b> (published elsewhere, a\\|b "c")` | 99.9 | – |' in grid.markdown()
    assert r"\textbackslash{}input\{x\}" in grid.latex()
    console = Console(width=200, file=io.StringIO(), record=True)
    print_table(study, card, results, console)
    said = console.export_text()
    assert "red\ufffd[31m (published elsewhere, x)" in said
    assert "\x1b" not in said


@pytest.mark.usefixtures("undrawn")
def test_what_is_set_beside_a_comparison_stays(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = shutil.copytree(finished, tmp_path / "mine")
    assert main(["report", str(folder), "--elsewhere", str(written(tmp_path, f"{FIRST}a,0.5,b\n"))]) == 0
    assert "published" in capsys.readouterr().out
    assert main(["report", str(folder)]) == 0
    assert "a (published elsewhere, b)" in (folder / "table.md").read_text("utf-8")
    assert Comparison.read(folder).rows[-1]["accuracy"] == 0.5
    assert main(["report", str(folder), "--elsewhere", str(written(tmp_path, FIRST))]) == 0
    assert "elsewhere" not in (folder / "table.md").read_text("utf-8")
    before = (folder / "study.json").read_bytes()
    for words in ([], [str(finished)]):
        capsys.readouterr()
        bad = written(tmp_path, "no\n")
        assert main(["report", str(folder), *words, "--elsewhere", str(bad)]) == 2
        said = capsys.readouterr()
        assert said.err.startswith("softmaxes: --elsewhere: expected none with" if words else f"softmaxes: {bad}: ")
        assert said.err.count("\n") == 1
    assert main(["compare", "--elsewhere", str(tmp_path / "nothing.csv"), "--out", str(tmp_path / "x")]) == 2
    assert (folder / "study.json").read_bytes() == before
    assert not (tmp_path / "x").exists()
