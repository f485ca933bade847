"""The pages say what is there: every head has one, every link leads somewhere, every command can be typed."""

import csv
import os
import re
import shlex
from pathlib import Path

import pytest
from tables import FIGURE, MARKED, with_tables, wrong

from cases import public_heads
from softmaxes.lab.cli.main import app
from softmaxes.lab.heads.registry import HEADS
from softmaxes.testing import LAWS

ROOT = Path(__file__).parents[1]
PAGES = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")]
HEAD_PAGES = [ROOT / "docs" / "heads.md", *ROOT.glob("docs/heads/*.md")]
DIFFERENCE = re.compile(r"`([a-z0-9-]+)`\)?(?: is| are)?\s([+−]\d+\.\d) ± (\d+\.\d)")
MEASURED = re.compile(r"\d[\d.,]*\s(?:%|ms|µs|s|seconds|points|KiB|MiB|GiB|MB|GB)(?!\w)")


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
        assert named, number


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
        assert len(found) == len(re.findall(r"<!-- (?:(?!from)\w+: results/|readme: )", text)), page
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
        ("hierarchical.md", "search", "results/benchmarks"),
        ("hierarchical.md", "steps", "results/benchmarks"),
        ("original-study.md", "nearest", "results/forensics"),
        ("scale.md", "table", "results/budget-glyphs"),
        ("scale.md", "table", "results/budget-tuned-glyphs"),
        ("scale.md", "table", "results/scale"),
        ("scale.md", "table", "results/scale-adamw"),
    }


def test_the_figures_in_sentences_are_those_of_the_stored_results() -> None:
    for page in PAGES:
        text = page.read_text()
        assert wrong(text) == [], page
        assert len(FIGURE.findall(text)) == text.count("<!-- from: "), page
        for _, path, _, _ in FIGURE.findall(text):
            assert f"]({os.path.relpath(ROOT / path, page.parent).rpartition('/')[0]}/" in text, (
                f"{page} links no {path}"
            )


def test_a_figure_that_is_not_the_stored_one_is_told() -> None:
    at = "<!-- from: results/benchmarks/step.csv classes=1000000,method=flat median×1000 -->"
    for right in ("7,240", "7,241", "7,200", "7,240.7"):
        assert wrong(f"It takes {right}{at} ms.") == []
    for other in ("7,242", "7,300", "7,000", "7.2", "−7,200"):
        assert wrong(f"It takes {other}{at} ms.") == [
            f"{other}: results/benchmarks/step.csv has 7240.73 for classes=1000000,method=flat median×1000"
        ]
    with pytest.raises(ValueError, match="not enough values"):
        wrong("It takes 1<!-- from: results/benchmarks/step.csv classes=7,method=flat median --> ms.")


@pytest.mark.parametrize("page", HEAD_PAGES, ids=lambda page: page.name)
def test_a_page_of_a_head_tells_no_measured_figure_without_its_table(page: Path) -> None:
    """What is left without the figures that are compared with stored ones is arithmetic, or says "not stored"."""
    arithmetic = {
        "cosine.md": {"7 %"},  # 1 / (1 + 99 exp(-2)), asserted below on the page
        # a tree made up to explain the search, and the tree that is drawn
        "hierarchical.md": {"40 %", "93 %", "10 %", "20 %", "25 %", "50 %", "60 %", "75 %", "80 %"},
        "softmax.md": {"488 MiB"},  # 256 x 500,000 x 4 bytes
    }
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
    for known in (MARKED, FIGURE, DIFFERENCE):
        text = known.sub("", text)
    for paragraph in text.split("\n\n"):
        told = set(MEASURED.findall(paragraph)) - arithmetic.get(page.name, set())
        assert not told or "not stored" in paragraph, told


def test_the_readme_is_read_in_minutes_and_its_figures_are_stored_ones() -> None:
    """Fewer than 120 lines; a difference that stands in a sentence, as ```head` −1.5 ± 1.1``, is that of the study."""
    text = (ROOT / "README.md").read_text()
    assert len(text.splitlines()) < 120
    with (ROOT / "results" / "fair-cifar100" / "differences.csv").open() as file:
        rows = {row["head"]: row for row in csv.DictReader(file)}
    told_on = [ROOT / "README.md", ROOT / "docs" / "closing-the-gap.md", ROOT / "docs" / "heads" / "tree-sampled.md"]
    assert all(page in told_on for page in HEAD_PAGES if DIFFERENCE.search(page.read_text()))
    for page in told_on:
        told = DIFFERENCE.findall(page.read_text())
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
