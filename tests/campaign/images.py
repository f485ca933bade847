"""Bad folders of images, and bad fonts."""

import io
import struct
import zlib
from collections.abc import Callable

from campaign import bases, mutate
from campaign.bases import Bases
from campaign.case import Case, Command, Ended, Place

FORMATS = ("PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "PPM", "ICO", "TGA", "PCX", "SGI", "JPEG2000", "DDS", "ICNS")


def images(place: Place, known: Bases, number: int) -> Case:
    """A folder of images, some of them bad."""
    random = place.random
    if number < len(SPLITS):
        return _split(place, *SPLITS[number])
    number -= len(SPLITS)
    grouped, split = random.random() < 0.5, random.random() < 0.4
    files = bases.photos(grouped, split, each=3)
    if number < len(SPECIALS):
        content, about = SPECIALS[number]()
        bad = [name for name in files if name.endswith("1.png")][:2]
        for name in bad:
            files[name] = content.replace(b"CANARY", str(place.canary).encode())
    elif random.random() < 0.7:
        told = []
        for name in random.sample(list(files), random.randint(1, len(files) // 2)):
            kind = random.choice(FORMATS)
            files[name], what = mutate.change_bytes(random, bases.picture(kind))
            told.append(f"{kind} with {what}")
        about = "; ".join(told)[:200]
    else:
        files, about = _moved(place, files)
    bases.lay(place.work / "photos", files)
    words = ["data", "photos", "--image-size", "16", "--out", "sheet.png"]
    return Case(f"photos: {about}", Command(words), writes=("sheet.png",))


def _moved(place: Place, files: dict[str, bytes]) -> tuple[dict[str, bytes], str]:
    random = place.random
    what = random.choice(("drop a class", "drop", "rename", "lift", "sink", "odd", "text"))
    name = random.choice(list(files))
    folder = name.rpartition("/")[0]
    if what == "drop a class":
        return {other: data for other, data in files.items() if not other.startswith(folder)}, f"no {folder}"
    if what == "drop":
        return {other: data for other, data in files.items() if random.random() < 0.3}, "few of them"
    if what == "rename":
        return {other.replace(folder, folder.upper()): data for other, data in files.items()}, "another case"
    if what == "lift":
        files[name.rpartition("/")[2]] = files.pop(name)
        return files, "an image above all classes"
    if what == "sink":
        files[f"{folder}/a/b/c/d.png"] = files.pop(name)
        return files, "an image far below"
    if what == "odd":
        odd = random.choice([name for name in mutate.IN_FILES if "/" not in name])
        return {
            other.replace(folder, f"{folder}{odd}"[:250]): data for other, data in files.items()
        }, f"called {odd[:20]!a}"
    files[name] = b"no image"
    return files, "a text for an image"


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def _png(width: int, height: int, *chunks: bytes) -> bytes:
    head = _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + b"".join(chunks) + _chunk(b"IEND", b"")


def _text_bomb() -> bytes:
    return _png(
        16,
        16,
        _chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(200 * 2**20))),
        _chunk(b"IDAT", zlib.compress(bytes(784))),
    )


def _pixels_bomb(side: int) -> bytes:
    return _png(side, side, _chunk(b"IDAT", zlib.compress(bytes(min(side * (3 * side + 1), 2**26)), 9)))


def _gif_bomb() -> bytes:
    return b"GIF89a\xff\xff\xff\xff\xf0\0\0" + bytes(6) + b",\0\0\0\0\xff\xff\xff\xff\0\x02\x02D\x01\0;"


def _tiff(entries: list[tuple[int, int, int, int]]) -> bytes:
    rows = b"".join(struct.pack("<HHII", *entry) for entry in entries)
    return b"II*\0\x08\0\0\0" + struct.pack("<H", len(entries)) + rows + struct.pack("<I", 8)


SPECIALS: tuple[Callable[[], tuple[bytes, str]], ...] = (
    lambda: (_text_bomb(), "a PNG whose text unfolds to 200 MB"),
    lambda: (_pixels_bomb(20_000), "a PNG of 20,000 x 20,000 pixels"),
    lambda: (_pixels_bomb(9_000), "a PNG of 9,000 x 9,000 pixels"),
    lambda: (_png(2**31 - 1, 1, _chunk(b"IDAT", b"")), "a PNG of 2^31 columns"),
    lambda: (_png(0, 0, _chunk(b"IDAT", b"")), "a PNG of no pixels"),
    lambda: (_gif_bomb(), "a GIF of 65,535 x 65,535 pixels"),
    lambda: (
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(CANARY) (w) file closefile\nshowpage\n",
        "an EPS that writes",
    ),
    lambda: (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(%pipe%touch CANARY) (w) file\n", "an EPS that calls"),
    lambda: (_tiff([(256, 4, 1, 2**31), (257, 4, 1, 2**31)]), "a TIFF that goes round"),
    lambda: (_tiff([(256, 3, 1, 9), (257, 3, 1, 9), (273, 4, 2**30, 8)]), "a TIFF with 2^30 strips"),
    lambda: (b"P6\n99999999 99999999\n255\n", "a PPM of 10^16 pixels"),
    lambda: (b"P6\n" + b"9" * 5000 + b" 1\n255\n", "a PPM of 5,000 digits"),
    lambda: (b"P5 8000 8000 255 ", "a PPM of nothing"),
    lambda: (
        b"BM" + struct.pack("<IHHIIiiHHIIiiII", 54, 0, 0, 54, 40, 2**31 - 1, -(2**31), 1, 24, 0, 0, 0, 0, 0, 0),
        "a BMP",
    ),
    lambda: (b"#define a_width 9999999\n#define a_height 9999999\nstatic char a_bits[] = {", "an XBM"),
    lambda: (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "an SVG"),
    lambda: (b"icns" + struct.pack(">I", 2**31) + b"ic09" + struct.pack(">I", 0), "an ICNS that goes nowhere"),
)

SPLITS = (
    ("Training", "Testing"),
    ("TRAIN", "TEST"),
    ("Train", "Val"),
    ("train", "Validation"),
    ("training", "testing"),
    ("train", "eval"),
    ("train", "dev"),
    ("seg_train", "seg_test"),
)


def _split(place: Place, train: str, test: str) -> Case:
    """Training and test images under other names than usual: they are no groups."""
    for part in (train, test):
        for name, content in bases.photos(grouped=False, each=3).items():
            path = place.work / "photos" / part / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)

    def check(_: Place, ended: Ended) -> str:
        return "silently taken: training and test images became groups" if "8 classes" in ended.out else ""

    words = ["data", "photos", "--image-size", "16", "--out", "sheet.png"]
    return Case(f"photos: {train} beside {test}", Command(words), writes=("sheet.png",), check=check)


# Fonts


def fonts(place: Place, known: Bases, number: int) -> Case:
    """A font, or a folder of fonts."""
    random = place.random
    good = known.font
    if number < 10:
        content, about = _special_font(good, number)
    elif random.random() < 0.5:
        content, about = mutate.change_bytes(random, good)
    else:
        content, about = _table_changed(place, good)
    name = random.choice(("font.ttf", "font.otf", "font.ttc", "fonts/a.ttf"))
    bases.lay(place.work, {name: content} | ({"fonts/b.ttf": good} if "/" in name else {}))
    words = ["data", "glyphs:4", "--fonts", name.partition("/")[0], "--train-per-class", "2", "--test-per-class", "2"]
    return Case(f"{name}: {about}", Command([*words, "--out", "sheet.png"]), writes=("sheet.png",))


def _table_changed(place: Place, good: bytes) -> tuple[bytes, str]:
    """A font in which one table is changed, and all others are whole."""
    count = int.from_bytes(good[4:6], "big")
    row = place.random.randrange(count)
    entry = 12 + 16 * row
    name = good[entry : entry + 4].decode("latin-1")
    start, size = (int.from_bytes(good[entry + at : entry + at + 4], "big") for at in (8, 12))
    table, about = mutate.change_bytes(place.random, good[start : start + size])
    changed = good + bytes(-len(good) % 4)
    place_of = len(changed).to_bytes(4, "big") + len(table).to_bytes(4, "big")
    return changed[: entry + 8] + place_of + changed[entry + 16 :] + table, f"{name}: {about}"


def _special_font(good: bytes, number: int) -> tuple[bytes, str]:
    from fontTools.ttLib import TTFont

    if number == 0:
        return b"ttcf" + struct.pack(">III", 0x10000, 2**32 - 1, 16) + good, "a collection of 2^32 fonts"
    if number == 1:
        return b"ttcf" + struct.pack(">III", 0x10000, 100_000, 16) + struct.pack(">I", 12) * 100_000, "100,000 fonts"
    if number == 2:
        return good[:4] + b"\xff\xff" + good[6:], "65,535 tables"
    if number == 3:
        return b"wOF2" + bytes(60), "a WOFF2"
    if number == 4:
        return b"OTTO" + good[4:], "another outline announced"
    file = io.BytesIO()
    with TTFont(io.BytesIO(good)) as font:
        if number == 5:
            font["head"].unitsPerEm = 1
            about = "one unit for an em"
        elif number == 6:
            font["head"].unitsPerEm = 65535
            about = "65,535 units for an em"
        elif number == 7:
            for table in font["cmap"].tables:
                table.cmap = {}
            about = "no characters"
        elif number == 8:
            glyph = font.getBestCmap()[ord("A")]
            for table in font["cmap"].tables:
                table.cmap = dict.fromkeys(table.cmap, glyph)
            about = "one glyph for all characters"
        else:
            for glyph in font["glyf"].glyphs.values():
                glyph.expand(font["glyf"])
                if glyph.numberOfContours > 0:
                    glyph.coordinates.scale((12, 12))
            about = "glyphs 12 times as large"
        font.save(file)
    return file.getvalue(), about
