"""The site of `docs/`: `make docs`. It needs no network, neither to be built nor to be read.

The pages stay plain Markdown. What a forge has and a site has not is added here: the table of contents is the lists of
links in the pages of `CONTENTS`; a link out of `docs/` leads to a stored table or to a copy of the file; `<!-- gallery
-->` and `<!-- stored -->` stand for what is made of the heads and of `results/`.
"""

import os
import re
import sys
from pathlib import Path
from typing import Any

from docutils import nodes
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.application import Sphinx
from sphinx.util import logging

DOCS = Path(__file__).parent
ROOT = DOCS.parent
sys.path[:0] = [str(ROOT / "src"), str(DOCS)]
os.environ.setdefault("OMP_NUM_THREADS", "1")

KERNEL = ROOT / "build" / "ipython"  # the notebook's: it says errors alone, and leaves the user's folders as they are
os.environ["IPYTHONDIR"] = str(KERNEL)
(KERNEL / "profile_default").mkdir(parents=True, exist_ok=True)
(KERNEL / "profile_default" / "ipython_kernel_config.py").write_text("get_config().IPKernelApp.log_level = 40\n")

import gallery  # noqa: E402
import offline  # noqa: E402
import stored  # noqa: E402

from softmaxes import __version__  # noqa: E402

project, author, version, release = "softmaxes", "The softmaxes authors", __version__, __version__
project_copyright = author
extensions = ["sphinx.ext.autodoc", "sphinx.ext.napoleon", "myst_nb"]
source_suffix = {".rst": "restructuredtext", ".md": "myst-nb", ".ipynb": "myst-nb"}
html_theme = "furo"
html_title = "softmaxes"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sphinx = False
html_math_renderer = "mathml"
myst_heading_anchors = 3
nb_execution_mode = "force"
nb_execution_timeout = 120
nb_execution_raise_on_error = True
default_role = "py:obj"
autodoc_typehints_format = "short"
autodoc_member_order = "bysource"
autodoc_inherit_docstrings = False
python_maximum_signature_line_length = 88
napoleon_custom_sections = ["Shape", "Cost"]
napoleon_use_ivar = True

CONTENTS = ("index.md", "heads.md")
LINK = re.compile(r"(?<!!)(\[[^\]]*)\]\((?!https?:)([^)#\s]+)(#[^)]*)?\)")


def _prepared(app: Sphinx, name: str, source: list[str]) -> None:
    """A page of Markdown as the site has it."""
    path = Path(app.env.doc2path(name))
    if path.suffix == ".md":
        source[0] = with_links(source[0], path.parent)
        if path.relative_to(DOCS).as_posix() in CONTENTS:
            source[0] += "".join(map(toctree, chapters(source[0])))
        if "<!-- gallery -->" in source[0]:
            app.env.note_dependency(gallery.__file__)
            source[0] = source[0].replace("<!-- gallery -->", gallery.cards(DOCS))
        source[0] = source[0].replace("<!-- stored -->", with_links(stored.sections(), DOCS))


def chapters(text: str) -> list[tuple[str, list[str]]]:
    """The headings of a page, and under each the first link of each row of its lists and tables."""
    found = []
    for part in re.split(r"^## ", f"\n{text}", flags=re.MULTILINE):
        pages = re.findall(r"^[-|] .*?\]\(([\w/-]+\.(?:md|rst|ipynb))\)", part, re.MULTILINE)
        if pages:
            found.append((part.partition("\n")[0], pages))
    return found


def toctree(chapter: tuple[str, list[str]]) -> str:
    """A chapter as Sphinx has it."""
    caption, pages = chapter
    return "\n".join(["", "```{toctree}", ":hidden:", f":caption: {caption}" if caption else "", *pages, "```", ""])


def with_links(text: str, folder: Path) -> str:
    """A page's text, its links out of `docs/` leading to where the site has what they name."""

    def moved(link: re.Match[str]) -> str:
        target = (folder / link[2]).resolve()
        if target.is_relative_to(DOCS) or not target.exists():
            return link[0]
        if (place := stored.anchor(target)) is not None:
            return f"{link[1]}]({Path(os.path.relpath(DOCS / 'stored.md', folder)).as_posix()}{place})"
        return f"{link[1]}](<path:{link[2]}>)"

    return LINK.sub(moved, text)


def _plain(app: Sphinx, what: str, name: str, thing: Any, options: Any, lines: list[str]) -> None:
    """Docstrings write shapes as (*, D): a star that begins no emphasis."""
    lines[:] = [re.sub(r"(?<!`)\(\*(?=[,)])", r"(\\*", line) for line in lines]


def _inline_math(self: Any, node: nodes.math) -> None:
    self.body.append(tex2mathml(node.astext()))
    raise nodes.SkipNode


def _block_math(self: Any, node: nodes.math_block) -> None:
    parts = (tex2mathml(part, as_block=True) for part in node.astext().split(r"\qquad"))
    self.body.append(f'<div class="equation">{"".join(parts)}</div>')
    raise nodes.SkipNode


def _offline(app: Sphinx, exception: Exception | None) -> None:
    """No page may load anything from elsewhere."""
    reads = {".html": offline.loaded_from_elsewhere, ".css": offline.in_style}
    for page in () if exception else sorted(Path(app.outdir).rglob("*.*")):
        for address in reads[page.suffix](page.read_text("utf-8")) if page.suffix in reads else ():
            logging.getLogger(__name__).warning("%s: expected a page that loads its own files, got %s", page, address)


def setup(app: Sphinx) -> None:
    """Called by Sphinx."""
    app.add_html_math_renderer("mathml", (_inline_math, None), (_block_math, None))
    app.connect("source-read", _prepared)
    app.connect("autodoc-process-docstring", _plain)
    app.connect("build-finished", _offline)
