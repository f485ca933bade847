"""The pages say what is there: every head has one, every link leads somewhere, every command can be typed."""

import csv
import re
import shlex
from pathlib import Path

import pytest
from tables import MARKED, with_tables

from cases import public_heads
from softmaxes.lab.cli.main import app
from softmaxes.lab.heads.registry import HEADS
from softmaxes.testing import LAWS

ROOT = Path(__file__).parents[1]
PAGES = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")]


def test_every_head_of_the_lab_is_on_a_page() -> None:
    text = "".join(page.read_text() for page in (ROOT / "docs" / "heads").glob("*.md"))
    for name, entry in HEADS.items():
        assert f"`{name}`" in text, name
        assert entry.summary.endswith(".")


def test_every_public_head_is_on_a_page_of_its_own_and_in_the_table_of_heads() -> None:
    pages = [page.read_text() for page in (ROOT / "docs" / "heads").glob("*.md")]
    table = (ROOT / "docs" / "heads.md").read_text()
    for head in public_heads():
        assert any(f"\n\n`{head.__name__}(" in page for page in pages), head.__name__
        assert f"| `{head.__name__}` |" in table, head.__name__


def test_what_the_pages_name_as_a_test_is_one() -> None:
    written = "".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))
    names = {name for page in PAGES for name in re.findall(r"`(test_\w+)`", page.read_text())}
    assert len(names) > 10
    for name in names:
        assert f"def {name}(" in written, name


def test_each_of_the_traps_is_kept_out_by_a_law_or_a_test() -> None:
    rows = re.findall(r"^\| (\d+) \|(.*)\|$", (ROOT / "docs" / "traps.md").read_text(), re.MULTILINE)
    assert [int(number) for number, _ in rows] == list(range(1, len(rows) + 1))
    assert len(rows) >= 26
    laws = {law.__name__ for law in LAWS}
    for number, row in rows:
        named = re.findall(r"`(\w+)`", row.rpartition("|")[2])
        assert all(name in laws or name.startswith("test_") for name in named), named
        assert named or number == "5"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)", page.read_text()):
        if not target.startswith("http"):
            assert (page.parent / target).exists(), target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_can_be_typed(page: Path) -> None:
    commands = [
        line
        for block in re.findall(r"```sh\n(.*?)```", page.read_text(), re.DOTALL)
        for line in block.splitlines()
        if line.startswith("softmaxes ")
    ]
    for command in commands:
        app.parse_args(shlex.split(command, comments=True)[1:], exit_on_error=False, print_error=False)


def test_the_pages_tables_are_those_of_the_stored_results() -> None:
    shown = set()
    for page in PAGES:
        text = page.read_text()
        assert text == with_tables(text), f"{page}: run docs/tables.py"
        found = MARKED.findall(text)
        assert len(found) == len(re.findall(r"<!-- (?:\w+: results/|readme: )", text)), page
        shown |= {(page.name, kind, folder) for _, kind, folder, _, _ in found}
    assert shown >= {
        ("README.md", "table", "results/glyphs"),
        ("README.md", "table", "results/seed-cifar100"),
        ("closing-the-gap.md", "table", "results/fair-cifar100"),
        ("closing-the-gap.md", "differences", "results/fair-cifar100"),
        ("closing-the-gap.md", "elsewhere", "results/fair-cifar100 results/fair-standin-100"),
        ("closing-the-gap.md", "differences", "results/fair-seconds-standin-100"),
        ("closing-the-gap.md", "table", "results/fair-resnet-standin-100"),
        ("closing-the-gap.md", "differences", "results/fair-resnet-standin-100"),
        ("long-tail.md", "table", "results/fair-tail-standin-100"),
        ("long-tail.md", "frequency", "results/fair-tail-standin-100"),
        ("long-tail.md", "differences", "results/fair-tail-standin-100"),
        ("original-study.md", "nearest", "results/forensics"),
        ("scale.md", "table", "results/budget-glyphs"),
        ("scale.md", "table", "results/budget-tuned-glyphs"),
        ("scale.md", "table", "results/scale"),
    }


def test_the_readme_is_read_in_minutes_and_its_figures_are_stored_ones() -> None:
    """Fewer than 120 lines; a difference that stands in a sentence, as ```head` −1.5 ± 1.1``, is that of the study."""
    text = (ROOT / "README.md").read_text()
    assert len(text.splitlines()) < 120
    with (ROOT / "results" / "fair-cifar100" / "differences.csv").open() as file:
        rows = {row["head"]: row for row in csv.DictReader(file)}
    for page in (text, (ROOT / "docs" / "closing-the-gap.md").read_text()):
        told = re.findall(r"`([a-z0-9-]+)`\)?(?: is| are)? ([+−]\d+\.\d) ± (\d+\.\d)", page)
        assert told
        for head, mean, half in told:
            known = 100 * float(rows[head]["difference"]), 100 * float(rows[head]["high"])
            assert mean == f"{known[0]:+.1f}".replace("-", "−"), head
            assert half == f"{known[1] - known[0]:.1f}", head


def test_the_published_figures_are_those_of_the_page() -> None:
    from softmaxes.lab.studies.seed import PUBLISHED

    page = (ROOT / "docs" / "original-study.md").read_text()
    rows = re.findall(
        r"^\|[^|\n]*softmax[^|\n]*\| (\.\d+) \| (\.\d+) \| (\.\d+) \| (\.\d+) \| ([\d.]+|not published) \|$", page, re.M
    )
    told = [
        (one.accuracy, one.precision, one.recall, one.f1, one.epoch_seconds or "not published") for one in PUBLISHED
    ]
    assert [(*map(float, row[:4]), row[4] if row[4][0] == "n" else float(row[4])) for row in rows] == told
