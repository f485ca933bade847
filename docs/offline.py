"""What a page makes a browser load from elsewhere. Links are not loaded."""

import re
from html.parser import HTMLParser

LOADS = {
    "script": ("src",),
    "img": ("src", "srcset"),
    "source": ("src", "srcset"),
    "iframe": ("src",),
    "embed": ("src",),
    "object": ("data",),
    "audio": ("src",),
    "video": ("src", "poster"),
    "track": ("src",),
    "input": ("src",),
    "image": ("href", "xlink:href"),
    "use": ("href", "xlink:href"),
}
RELATIONS = {"stylesheet", "icon", "preload", "prefetch", "modulepreload", "preconnect", "dns-prefetch", "manifest"}
ELSEWHERE = re.compile(r"^\s*(?:https?:)?//", re.IGNORECASE)
IN_STYLE = re.compile(r"(?:url\(|@import)\s*[\"']?\s*((?:https?:)?//[^\"')\s;]+)", re.IGNORECASE)


def in_style(text: str) -> list[str]:
    """The addresses elsewhere that a style sheet loads."""
    return IN_STYLE.findall(text)


def loaded_from_elsewhere(page: str) -> list[str]:
    """The addresses elsewhere that a page of HTML loads: scripts, styles, fonts, images, frames."""
    found: list[str] = []

    class Reader(HTMLParser):
        inside = ""

        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            given = {name: value or "" for name, value in attrs}
            names = LOADS.get(tag, ())
            if tag == "link" and RELATIONS & set(given.get("rel", "").lower().split()):
                names = ("href",)
            addresses = [part for name in names for part in given.get(name, "").split(",")]
            found.extend(part.strip() for part in addresses if ELSEWHERE.match(part))
            found.extend(in_style(given.get("style", "")))
            self.inside = tag

        def handle_data(self, data: str) -> None:
            if self.inside == "style":
                found.extend(in_style(data))

    Reader().feed(page)
    return found
