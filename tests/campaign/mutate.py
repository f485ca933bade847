"""Seeded changes of bytes, of JSON, of numbers and of names."""

import json
import random
from collections.abc import Callable
from typing import Any

NUMBERS = (  # as they are typed, and as JSON holds them
    "0",
    "-1",
    "nan",
    "inf",
    "-inf",
    "1e308",
    "-1e308",
    "1" + "0" * 18,
    "1" + "0" * 400,
    "9223372036854775808",
    "-9223372036854775809",
    "4294967296",
    "2147483648",
    "5e-324",
    "٣",
    "9" * 5000,
    "1.5",
    "1e400",
    "-0.0",
    "0x10",
    "1_000",
    "",
    " ",
    "१२",
    "²",
    "1e6",
    "true",
    "None",
)
IN_JSON = (
    "0",
    "-1",
    "NaN",
    "Infinity",
    "-Infinity",
    "1e308",
    "-1e308",
    "1" + "0" * 18,
    "1" + "0" * 400,
    "9223372036854775808",
    "4294967296",
    "2147483647",
    "5e-324",
    '"٣"',
    "9" * 5000,
    "1.5",
    "1e400",
    "-0.0",
    '"1"',
    "true",
    "false",
    "null",
    '""',
    "[]",
    "{}",
    "[[]]",
    '"NaN"',
    '"Infinity"',
    '"-Infinity"',
    "20000000",
)
NAMES = (
    "two\nlines",
    "an\x1b[31mescape",
    '=HYPERLINK("http://example.org";"a")',
    "+1+cmd|' /C calc'!A0",
    "@SUM(1)",
    "</script><script>canary",
    "<img src=x onerror=canary>",
    "back`tick",
    "``two`` ticks",
    "pi|pe",
    "right‮left",
    "zero​width",
    "x" * 250,
    "..",
    ".",
    "-",
    "--help",
    "$(touch canary)",
    "; touch canary",
    "[bold]rich[/bold]",
    "[/]",
    ":smile:",
    "%s%n{0}",
    "a\tb",
    " ",
    "ﬀ ǆ İ",
    "CON",
    "Ä",
    "Ä",
    "日本語",
    "\u2028line",
    "\ud800",
    "nul\0l",
    "e\rf",
    "*",
    "~",
    "'; DROP TABLE runs; --",
    "\x7f",
    "\x85",
)
IN_FILES = (  # that a file may be called; the last are bytes that are no UTF-8
    *(name for name in NAMES if "\0" not in name and "\ud800" not in name and name not in ("..", ".")),
    "no\udcffutf8",
    "\udc80",
)


def change_bytes(random: random.Random, content: bytes) -> tuple[bytes, str]:
    """The content with one to three changes, and what was done."""
    told = []
    for _ in range(random.choice((1, 1, 1, 2, 3))):
        name, change = random.choice(CHANGES)
        content = change(random, content)
        told.append(name)
    return content, ", ".join(told)


def flip(random: random.Random, content: bytes) -> bytes:
    """One bit is another."""
    if not content:
        return b"\0"
    changed = bytearray(content)
    changed[random.randrange(len(changed))] ^= 1 << random.randrange(8)
    return bytes(changed)


def _flip_some(random: random.Random, content: bytes) -> bytes:
    for _ in range(random.randint(2, 32)):
        content = flip(random, content)
    return content


def _span(random: random.Random, content: bytes) -> tuple[int, int]:
    start = random.randrange(len(content) + 1)
    return start, min(len(content), start + int(2 ** random.uniform(0, 12)))


def _cut(random: random.Random, content: bytes) -> bytes:
    return content[: random.randrange(len(content) + 1)]


def _behead(random: random.Random, content: bytes) -> bytes:
    return content[random.randrange(min(len(content), 64) + 1) :]


def _remove(random: random.Random, content: bytes) -> bytes:
    start, stop = _span(random, content)
    return content[:start] + content[stop:]


def _insert(random: random.Random, content: bytes) -> bytes:
    start, _ = _span(random, content)
    return content[:start] + random.randbytes(random.randint(1, 64)) + content[start:]


def _double(random: random.Random, content: bytes) -> bytes:
    start, stop = _span(random, content)
    return content[:stop] + content[start:stop] * random.randint(1, 4) + content[stop:]


def _zero(random: random.Random, content: bytes) -> bytes:
    start, stop = _span(random, content)
    return content[:start] + bytes(stop - start) + content[stop:]


def _fill(random: random.Random, content: bytes) -> bytes:
    start, stop = _span(random, content)
    return content[:start] + b"\xff" * (stop - start) + content[stop:]


def _swap(random: random.Random, content: bytes) -> bytes:
    places = sorted(random.randrange(len(content) + 1) for _ in range(4))
    first, second, third, fourth = places
    return content[:first] + content[third:fourth] + content[second:third] + content[first:second] + content[fourth:]


def _append(random: random.Random, content: bytes) -> bytes:
    return content + random.randbytes(random.randint(1, 5000))


def _empty(random: random.Random, content: bytes) -> bytes:
    return b""


def _number(random: random.Random, content: bytes) -> bytes:
    """A word of 1 to 8 bytes is an extreme one."""
    width = random.choice((1, 2, 4, 8))
    start = random.randrange(max(1, len(content) - width + 1))
    value = random.choice((0, 1, 2 ** (8 * width) - 1, 2 ** (8 * width - 1), 2 ** (8 * width - 1) - 1))
    return content[:start] + value.to_bytes(width, random.choice(("little", "big"))) + content[start + width :]


CHANGES: tuple[tuple[str, Callable[[random.Random, bytes], bytes]], ...] = (
    ("a bit flipped", flip),
    ("bits flipped", _flip_some),
    ("cut off", _cut),
    ("its beginning cut", _behead),
    ("a block removed", _remove),
    ("bytes inserted", _insert),
    ("a block doubled", _double),
    ("a block zeroed", _zero),
    ("a block of ones", _fill),
    ("blocks swapped", _swap),
    ("bytes appended", _append),
    ("emptied", _empty),
    ("an extreme word", _number),
)


def change_json(random: random.Random, text: str) -> tuple[str, str]:
    """The JSON with one to three changes of its values or its structure, and what was done."""
    root = [json.loads(text)]
    raw: dict[str, str] = {}
    told = [_change_value(random, root, raw) for _ in range(random.choice((1, 1, 1, 2, 3)))]
    text = json.dumps(root[0], ensure_ascii=False)
    for mark, value in raw.items():
        text = text.replace(f'"{mark}"', value)
    return text, ", ".join(told)


def _place(random: random.Random, root: list[Any]) -> tuple[Any, Any, str]:
    """A place in nested lists and dictionaries: what holds it, its key, and its path."""
    holder: Any = root
    key: Any = 0
    path = ""
    while True:
        value = holder[key]
        if not isinstance(value, dict | list) or not value or (path and random.random() < 0.15):
            return holder, key, path or "the whole"
        holder = value
        key = random.choice(list(value)) if isinstance(value, dict) else random.randrange(len(value))
        path = f"{path}.{key}" if path else str(key)


def _change_value(random: random.Random, root: list[Any], raw: dict[str, str]) -> str:
    holder, key, path = _place(random, root)
    value = holder[key]
    what = random.choice(("number", "number", "number", "type", "drop", "rename", "double", "nest", "deep", "name"))
    mark = f"@@{len(raw)}@@"
    if what == "drop" and path != "the whole":
        del holder[key]
        return f"{path} dropped"
    if what == "rename" and isinstance(holder, dict):
        new = random.choice(NAMES).replace("\ud800", "?")
        holder[new] = holder.pop(key)
        return f"{path} renamed"
    if what == "double":
        if isinstance(holder, list) and path != "the whole":
            holder.insert(key, value)
            return f"{path} doubled"
        if isinstance(holder, dict):
            holder[mark] = value
            raw[mark] = json.dumps(key)
            return f"{path} twice"
    if what == "nest":
        holder[key] = random.choice(([value], {"a": value}, [value, value]))
        return f"{path} nested"
    if what == "deep":
        depth = random.choice((500, 5000, 200_000))
        raw[mark] = random.choice(("[" * depth + "]" * depth, '{"a":' * depth + "1" + "}" * depth, "[" * depth))
        holder[key] = mark
        return f"{path} nested {depth} deep"
    if what == "name" and isinstance(value, str):
        name = random.choice(NAMES)
        raw[mark] = json.dumps(name)
        holder[key] = mark
        return f"{path} is {name[:20]!a}"
    raw[mark] = random.choice(IN_JSON)
    holder[key] = mark
    return f"{path} is {raw[mark][:24]}"


def change_text(random: random.Random, text: str) -> tuple[str, str]:
    """The lines of a text changed: cells, lines, numbers; and what was done."""
    lines = text.split("\n")
    told = []
    for _ in range(random.choice((1, 1, 2))):
        place = random.randrange(len(lines))
        separator = next((mark for mark in (",", "/", " ") if mark in lines[place]), ",")
        cells = lines[place].split(separator)
        cell = random.randrange(len(cells))
        what = random.choice(("number", "number", "name", "drop", "double", "empty", "long", "quote", "many"))
        if what == "number":
            cells[cell] = random.choice(NUMBERS)
        elif what == "name":
            cells[cell] = random.choice(NAMES).replace("\ud800", "?")
        elif what == "drop":
            cells.pop(cell)
        elif what == "double":
            lines.insert(place, lines[place])
        elif what == "empty":
            cells = []
        elif what == "long":
            cells[cell] = "y" * random.choice((1000, 200_000))
        elif what == "quote":
            cells[cell] = '"' + cells[cell]
        else:
            cells *= random.choice((2, 5000))
        lines[place] = separator.join(cells)
        told.append(f"line {place + 1}: {what}")
    return "\n".join(lines), ", ".join(told)
