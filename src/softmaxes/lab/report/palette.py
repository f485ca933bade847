"""One colour, marker and dash a setting, the same in every figure, and the page's colours in light and in dark."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Style:
    """How a setting is drawn. Markers and dashes tell settings apart where colours cannot."""

    token: str  # name of the colour on the page
    light: str
    dark: str
    dash: str  # in plotly's words
    line_style: str  # in matplotlib's
    symbol: str  # in plotly's words
    marker: str  # in matplotlib's
    outline: str  # an SVG path in a box of 12


# Chosen so that every pair stays apart under simulated protanopia, deuteranopia and tritanopia, and each stands out
# from its ground by a contrast of at least 3.
LIGHT = ("#0b62a8", "#d55e00", "#08a496", "#933d5c", "#7b74ce", "#3b5d06", "#68195c", "#362ba5")
DARK = ("#58a9f0", "#f59a5c", "#71f3e1", "#d65a7c", "#8879c5", "#b5e36f", "#cc8cbb", "#b6b9fd")
LIGHT_PAGE = {
    "ground": "#fbfbfa",
    "surface": "#ffffff",
    "ink": "#1b1f25",
    "ink-soft": "#4e5661",
    "line": "#d9dde2",
    "tint": "#f0f2f4",
    "grid": "#e6e9ec",
    "axis": "#b4bbc4",
    "separator": "#cdd3da",
    "accent": "#0b5a9c",
    "shade": "#b4bbc4",
    "heat-0": "#ffffff",
    "heat-1": "#c9dcef",
    "heat-2": "#7fb0d9",
    "heat-3": "#2f74b2",
    "heat-4": "#0a2f5a",
}
DARK_PAGE = {
    "ground": "#111418",
    "surface": "#171b20",
    "ink": "#e8eaed",
    "ink-soft": "#aab2bd",
    "line": "#303740",
    "tint": "#1f252c",
    "grid": "#272d35",
    "axis": "#4b545f",
    "separator": "#343c46",
    "accent": "#7fbdf5",
    "shade": "#6b7684",
    "heat-0": "#171b20",
    "heat-1": "#1d3f63",
    "heat-2": "#2f74b2",
    "heat-3": "#7fb8ea",
    "heat-4": "#eaf4ff",
}
DASHES = (("solid", "-"), ("dash", "--"), ("dot", ":"), ("dashdot", "-."))
MARKERS = (
    ("circle", "o", "M6 1.2a4.8 4.8 0 1 0 0 9.6a4.8 4.8 0 1 0 0-9.6z"),
    ("square", "s", "M1.7 1.7h8.6v8.6h-8.6z"),
    ("diamond", "D", "M6 .4l5.6 5.6-5.6 5.6L.4 6z"),
    ("triangle-up", "^", "M6 .8l5.6 10H.4z"),
    ("triangle-down", "v", "M6 11.2L.4 1.2h11.2z"),
    ("cross", "P", "M4.3.6h3.4v3.7h3.7v3.4H7.7v3.7H4.3V7.7H.6V4.3h3.7z"),
    ("x", "X", "M3 .6l3 3 3-3L11.4 3l-3 3 3 3L9 11.4l-3-3-3 3L.6 9l3-3-3-3z"),
    ("pentagon", "p", "M6 .6l5.7 4.1-2.2 6.7H2.5L.3 4.7z"),
)


def style(position: int) -> Style:
    """The style of the setting at this position of the study: dashes move on each time the colours are used up."""
    turn, colour = divmod(position, len(LIGHT))
    dash, line_style = DASHES[(turn + colour) % len(DASHES)]
    symbol, marker, outline = MARKERS[(turn + colour) % len(MARKERS)]
    return Style(f"--head-{colour}", LIGHT[colour], DARK[colour], dash, line_style, symbol, marker, outline)


def translucent(colour: str, opacity: float) -> str:
    """A hexadecimal colour as CSS with an opacity."""
    red, green, blue = (int(colour[start : start + 2], 16) for start in (1, 3, 5))
    return f"rgba({red}, {green}, {blue}, {opacity})"


def variables(scheme: str, heads: tuple[str, ...], page: dict[str, str]) -> dict[str, str]:
    """The CSS variables of a scheme: the page's colours, each head's colour, and the band drawn behind its line."""
    named = {"color-scheme": scheme} | {f"--{name}": colour for name, colour in page.items()}
    for position, colour in enumerate(heads):
        named[f"--head-{position}"] = colour
        named[f"--head-{position}-band"] = translucent(colour, 0.16)
    return named
