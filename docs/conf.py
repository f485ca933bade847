"""The site of `docs/`: `make docs`. It needs no network, neither to be built nor to be read.

The pages stay plain Markdown. What a site needs more is added: the lists of links in `pages.CONTENTS` are the table
of contents; a link out of `docs/` leads to a stored table or to a copy of the file; `<!-- gallery -->` and `<!-- stored
-->` stand for what is made of the heads and of `results/`.
"""

import os
import re
import sys
from logging import WARNING, getLogger
from pathlib import Path
from typing import Any

from docutils import nodes
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.application import Sphinx
from sphinx.domains.python import PyObject
from sphinx.util import logging

DOCS = Path(__file__).parent
ROOT = DOCS.parent
sys.path[:0] = [str(ROOT / "src"), str(DOCS)]
os.environ.setdefault("OMP_NUM_THREADS", "1")
getLogger("traitlets").setLevel(WARNING)

KERNEL = ROOT / "build" / "ipython"  # the notebook's: it says errors alone, and leaves the user's folders as they are
os.environ["IPYTHONDIR"] = str(KERNEL)
(KERNEL / "profile_default").mkdir(parents=True, exist_ok=True)
(KERNEL / "profile_default" / "ipython_kernel_config.py").write_text("get_config().IPKernelApp.log_level = 40\n")

import gallery  # noqa: E402
import offline  # noqa: E402
import pages  # noqa: E402

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
nb_merge_streams = True
nb_render_markdown_format = "myst"
nb_execution_timeout = 120
nb_execution_show_tb = True
default_role = "py:obj"
autodoc_typehints_format = "short"
autodoc_member_order = "bysource"
autodoc_inherit_docstrings = False
python_maximum_signature_line_length = 88
napoleon_custom_sections = ["Shape", "Cost", "Reference"]
napoleon_use_ivar = True


def _prepared(app: Sphinx, name: str, source: list[str]) -> None:
    """A page of Markdown as the site has it."""
    path = Path(app.env.doc2path(name))
    if path.suffix == ".md":
        source[0] = pages.with_links(source[0], path.parent)
        if path.relative_to(DOCS).as_posix() in pages.CONTENTS:
            source[0] += "".join(map(pages.toctree, pages.chapters(source[0])))
        if "<!-- gallery -->" in source[0]:
            app.env.note_dependency(gallery.__file__)
            source[0] = source[0].replace("<!-- gallery -->", gallery.cards(DOCS))
        source[0] = source[0].replace("<!-- stored -->", pages.with_links(pages.sections(), DOCS))
        source[0] = source[0].replace("≈ ", "≈\N{NO-BREAK SPACE}")  # one line of a table's cell


def _plain(app: Sphinx, what: str, name: str, thing: Any, options: Any, lines: list[str]) -> None:
    """Docstrings write shapes as (*, D), a star that begins no emphasis, and names as E. Grave, which is no list."""
    shapes = (re.sub(r"(?<!`)\(\*(?=[,)])", r"(\\*", line) for line in lines)
    lines[:] = [re.sub(r"^(\s*[A-Z])\. ", r"\1\\. ", line) for line in shapes]


def _skipped(app: Sphinx, what: str, name: str, thing: Any, skip: bool, options: Any) -> bool | None:
    """The fields of a tuple stand in its signature."""
    return True if (getattr(thing, "__doc__", None) or "").startswith("Alias for field number") else None


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
    for field in PyObject.doc_field_types:
        if field.name == "variable":
            field.label = "Attributes"
    app.add_html_math_renderer("mathml", (_inline_math, None), (_block_math, None))
    app.connect("source-read", _prepared)
    app.connect("autodoc-process-docstring", _plain)
    app.connect("autodoc-skip-member", _skipped)
    app.connect("build-finished", _offline)
