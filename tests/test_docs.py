"""The pages say what is there: every head has one, every link leads somewhere, every command can be typed."""

import re
import shlex
from pathlib import Path

import pytest

from softmaxes.lab.cli import app
from softmaxes.lab.heads import HEADS

ROOT = Path(__file__).parents[1]
PAGES = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")]


def test_every_head_of_the_lab_is_on_a_page() -> None:
    text = "".join(page.read_text() for page in (ROOT / "docs" / "heads").glob("*.md"))
    for name, entry in HEADS.items():
        assert f"`{name}`" in text, name
        assert entry.summary.endswith(".")


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


def test_the_readme_s_table_is_that_of_the_stored_results() -> None:
    readme = (ROOT / "README.md").read_text()
    tables = re.findall(r"<!-- table: (\S+) -->\n(.*?)<!-- /table -->", readme, re.DOTALL)
    assert len(tables) == readme.count("<!-- table") > 0
    for folder, table in tables:
        assert table == (ROOT / folder / "table.md").read_text(), folder
