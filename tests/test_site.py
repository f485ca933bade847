"""The site of the docs, but for its building, which `make docs` does: warnings are errors there."""

import csv
import json
import re
import shutil
from pathlib import Path

import gallery
import pages
import pytest
import torch
from offline import in_style, loaded_from_elsewhere

from cases import public_heads
from softmaxes import HierarchicalSoftmax, NeighborSampledSoftmax, Softmax, Sparsemax

DOCS = Path(__file__).parents[1] / "docs"
MARKDOWN = sorted(DOCS.rglob("*.md"))


def test_every_public_head_has_a_picture() -> None:
    assert gallery.DRAWN.keys() == public_heads()


def test_every_public_head_has_a_card(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gallery, "picture", lambda head: f"<p>picture of {head.__name__}</p>")
    cards = re.split(r"^## ", gallery.cards(DOCS), flags=re.MULTILINE)[1:]
    assert {card.partition("\n")[0] for card in cards} == {head.__name__ for head in public_heads()}
    for card in cards:
        name = card.partition("\n")[0]
        told = "```{math}", f"picture of {name}<", "**When to use it.**", "**When not.**", "**Cost.**", "](https://"
        for part in told:
            assert card.count(part) >= 1, (name, part)
        for page in re.findall(r"\]\(([\w./-]+\.md)", card):
            assert (DOCS / page).exists(), (name, page)
    assert sum("](stored.md#" in card for card in cards) >= len(cards) - 1


@pytest.mark.parametrize(
    ("page", "change", "said"),
    [
        ("heads.md", ("| `Sigsoftmax` |", "| Sigsoftmax |"), "row for each public head, got .'Sigsoftmax'"),
        ("heads/taylor.md", ("**When not.**", "**Never.**"), "heads/taylor.md: expected a paragraph '..When not...'"),
        ("heads/taylor.md", ("https://arxiv.org", "arxiv.org"), "heads/taylor.md: expected linked papers at the end"),
    ],
)
def test_a_card_that_lacks_something_is_an_error(
    page: str, change: tuple[str, str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gallery, "picture", lambda head: "")
    docs = shutil.copytree(DOCS, tmp_path / "docs")
    text = (docs / page).read_text()
    assert change[0] in text
    (docs / page).write_text(text.replace(*change))
    with pytest.raises(ValueError, match=said):
        gallery.cards(docs)


@pytest.mark.slow
@pytest.mark.parametrize("head", sorted(public_heads(), key=lambda head: head.__name__))
def test_a_picture_begins_with_the_same_logits(head: type, monkeypatch: pytest.MonkeyPatch) -> None:
    """Heads that are softmaxes in use give just the softmax of these logits; a step on B raises B."""
    monkeypatch.setattr(gallery, "DRAWS", 8)
    torch.manual_seed(0)
    made = gallery.DRAWN[head]()
    found = gallery.effect(made)
    torch.testing.assert_close(found.probability.sum(), torch.tensor(1.0))
    torch.testing.assert_close(found.changes.sum(1), torch.zeros(8), atol=1e-5, rtol=0)
    assert found.changes.mean(0)[gallery.TARGET] > 0
    flat = "Softmax Gumbel Sampled Neighbor TreeSampled NCE Cosine"
    if any(head.__name__.startswith(name) for name in flat.split()):
        torch.testing.assert_close(found.probability, gallery.LOGITS.softmax(0))
    assert torch.equal(gallery.effect(made).probability, found.probability)  # the step was taken back


@pytest.mark.slow
def test_the_picture_shows_what_the_page_says_of_it() -> None:
    sparse, tree = (gallery.effect(gallery.DRAWN[head]()) for head in (Sparsemax, HierarchicalSoftmax))
    assert (sparse.probability == 0).sum() == 6
    below = sparse.probability == 0
    below[gallery.TARGET] = False
    assert (sparse.changes[:, below] == 0).all()
    softmax = gallery.effect(gallery.DRAWN[Softmax]())
    assert (tree.changes[0, [2, 3]] < softmax.changes[0, [2, 3]] - 1e-4).all()
    near = gallery.DRAWN[NeighborSampledSoftmax]()._neighbors
    assert sorted(near[gallery.TARGET].tolist()) == [0, 2]


@pytest.mark.slow
def test_a_picture_is_part_of_a_page_in_the_colour_of_its_text() -> None:
    shown = [gallery.picture(head) for head in (Softmax, Sparsemax)]
    for svg in shown:
        assert svg.count("<svg") == 2
        assert 'role="img"' in svg
        assert "currentColor" in svg
        assert "#000000" not in svg
        assert "Probability, %" in svg
        assert loaded_from_elsewhere(svg) == []
    names = [set(re.findall(r'\bid="([^"]+)"', svg)) for svg in shown]
    assert names[0].isdisjoint(names[1])
    assert gallery.picture(Softmax) == shown[0]


def test_a_row_of_the_gallery_is_that_of_the_stored_table() -> None:
    table = (pages.RESULTS / "fair-cifar100" / "table.md").read_text()
    row = gallery._row(HierarchicalSoftmax).splitlines()
    assert [line.split("`")[1] for line in row[-2:]] == ["hierarchical", "hierarchical-grown-10-layers"]
    for line in row[-2:]:
        name, accuracy, top5, nll, error = (cell.strip() for cell in line.strip("|").split("|"))
        (stored,) = [other for other in table.splitlines() if other.startswith(f"| {name} |")]
        cells = [re.sub(r"[*≈★]", "", cell).strip() for cell in stored.strip("|").split("|")]
        assert [cells[1], cells[2], cells[4], cells[5]] == [accuracy, top5, nll, error]
    with (pages.RESULTS / "all-standin-100" / "table.csv").open() as file:
        infinite = {line["head"] for line in csv.DictReader(file) if line["nll"] == "inf"}
    assert "sparsemax" in infinite
    assert "| ∞ |" in gallery._row(Sparsemax)


def test_the_tree_of_hierarchical_softmax_is_drawn_as_it_is_now() -> None:
    assert gallery.DRAWING.read_text() == gallery.drawing(), "run docs/gallery.py"
    text = (DOCS / "heads" / "hierarchical.md").read_text()
    shown = [f"{100 * gallery.SHARES[gallery.ABOVE[name]] * gallery.SHARES[name]:.0f} %" for name in ("cat", "dog")]
    assert all(f"{name} {share}" in text for name, share in zip(("cat has", "dog"), shown, strict=True))


def test_every_page_is_in_the_table_of_contents() -> None:
    listed = [
        (DOCS / page).resolve()
        for contents in pages.CONTENTS
        for _, chapter in pages.chapters((DOCS / contents).read_text())
        for page in chapter
    ]
    assert len(listed) == len(set(listed))
    assert {*listed, DOCS / "index.md"} == {*MARKDOWN, *DOCS.rglob("*.rst"), *DOCS.rglob("*.ipynb")}


def test_a_chapter_is_a_list_of_links() -> None:
    text = "# Home\n\n[no](no.md)\n\n## One\n\n- [a](a.md) and [b](b.md)\n\n## Two\n\n| [c](heads/c.md) |\n\n## None\n"
    assert pages.chapters(text) == [("One", ["a.md"]), ("Two", ["heads/c.md"])]
    assert pages.toctree(("One", ["a.md"])) == "\n```{toctree}\n:hidden:\n:caption: One\na.md\n```\n"


def test_links_out_of_the_docs_lead_to_the_stored_tables_or_to_a_copy() -> None:
    def moved(text: str, folder: Path = DOCS) -> str:
        return pages.with_links(text, folder)

    assert moved("[t](../results/glyphs)") == "[t](stored.md#glyphs)"
    assert moved("[`t`](../results/glyphs/table.md)") == "[`t`](stored.md#glyphs)"
    assert moved("[t](../../results/glyphs)", DOCS / "heads") == "[t](../stored.md#glyphs)"
    assert moved("[t](../results/README.md)") == "[t](<path:../results/README.md>)"
    assert moved("[t](../results/glyphs/table.csv)") == "[t](<path:../results/glyphs/table.csv>)"
    for kept in ("[t](using.md)", "[t](heads/nce.md#x)", "![t](../results/glyphs/table.csv)", "[t](https://a.b/../c)"):
        assert moved(kept) == kept


def test_every_link_out_of_the_docs_arrives() -> None:
    headings = set(re.findall(r"^## (\S+)$", pages.sections(), re.MULTILINE))
    assert len(headings) == len([path for path in pages.RESULTS.iterdir() if path.is_dir()])
    arrived = 0
    for page in MARKDOWN:
        for place in re.findall(r"stored\.md#([^)]+)\)", pages.with_links(page.read_text(), page.parent)):
            assert place in headings, (page, place)
            arrived += 1
    assert arrived > 10


@pytest.mark.parametrize(
    "loads",
    [
        '<script src="https://cdn.example/x.js"></script>',
        '<link href="//fonts.example/a.css" rel="stylesheet">',
        '<link rel="preload" as="font" href="https://fonts.example/a.woff2">',
        '<img alt="" src="http://a.example/x.png">',
        '<img alt="" src="x.png" srcset="x.png 1x, https://a.example/y.png 2x">',
        '<iframe src="https://a.example"></iframe>',
        "<style>@import 'https://a.example/x.css';</style>",
        '<p style="background: url(//a.example/x.png)">',
        '<svg><image href="https://a.example/x.png"/></svg>',
    ],
)
def test_what_a_page_loads_from_elsewhere_is_found(loads: str) -> None:
    assert len(loaded_from_elsewhere(f"<html>{loads}</html>")) == 1


def test_links_and_files_of_its_own_are_not_loaded_from_elsewhere() -> None:
    page = """<link rel="canonical" href="https://a.example/"><link rel="stylesheet" href="_static/a.css">
        <a href="https://a.example">a</a><script src="_static/a.js"></script><img src="data:image/png;base64,AA==">
        <svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"><use xlink:href="#a"/></svg>
        <style>p { background: url("a.png") }</style><code>url(https://a.example)</code>"""
    assert loaded_from_elsewhere(page) == []
    assert in_style("a { src: url('fonts/a.woff2') }") == []
    assert in_style('a { src: url("https://a.example/a.woff2") }') == ["https://a.example/a.woff2"]


def test_the_notebook_is_kept_without_what_it_prints() -> None:
    cells = json.loads((DOCS / "first-ten-minutes.ipynb").read_text())["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert len(code) >= 4
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in code)
