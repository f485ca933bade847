"""Bring the tables of the pages up to date with the stored results: `python docs/tables.py`.

A table stands between `<!-- table: results/glyphs -->` and `<!-- /table -->`, or `differences`, `frequency` or
`nearest` in place of `table`: the file of that name, `.md`, in that folder.
"""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
MARKED = re.compile(r"(<!-- (table|differences|frequency|nearest): (\S+) -->\n)(.*?)(<!-- /\2 -->)", re.DOTALL)


def with_tables(text: str) -> str:
    """A page's text with the tables as they are stored now."""
    return MARKED.sub(lambda found: f"{found[1]}{(ROOT / found[3] / f'{found[2]}.md').read_text()}{found[5]}", text)


if __name__ == "__main__":
    for page in (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))):
        text = page.read_text()
        if (new := with_tables(text)) != text:
            page.write_text(new)
            print(page.relative_to(ROOT))
