"""What a reader of an open page sees of it."""

import re


def cells(page, selector: str) -> list[list[str]]:
    """A table's rows as a reader sees them."""
    rows = page.locator(f"{selector} tbody tr").all()
    return [[re.sub(r"\s+", " ", cell).strip() for cell in row.locator("th, td").all_inner_texts()] for row in rows]


SHOWN = "selector => [...document.querySelectorAll(selector)].filter(element => element.offsetParent !== null)"


def shown(page, selector: str) -> list[str]:
    """What a reader sees of these elements: their first lines."""
    found = page.evaluate(f"selector => ({SHOWN})(selector).map(element => element.innerText)", selector)
    return [text.strip().splitlines()[0] for text in found]
