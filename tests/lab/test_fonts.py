"""Fonts of a user's own: which files and faces are found, that their bytes alone decide, and what is refused."""

import json
import os
import shutil
import struct
from collections import Counter
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
import torch
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from fontTools.ttLib import TTCollection, TTFont
from fontTools.ttLib.tables.DefaultTable import DefaultTable
from PIL import Image, features

from softmaxes.lab import InputError
from softmaxes.lab.cli.main import main
from softmaxes.lab.data import fonts as fonts_module
from softmaxes.lab.data import glyphs
from softmaxes.lab.data.dataset import Data
from softmaxes.lab.data.fonts import PLACEHOLDER, Face, find_fonts, shipped_fonts
from softmaxes.lab.data.glyphs import alphabet, choose_characters, load_glyphs
from softmaxes.lab.machine import free_memory
from softmaxes.lab.records import DRAWN, Source

RESULTS = Path(__file__).parents[2] / "results"
LATIN, GREEK, HANGUL = "ABCDEFGH", "ΓΔΘΛΞΠΣΦ", "가각간갇"


@pytest.fixture(autouse=True)
def cache_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SOFTMAXES_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "glyphs"


def build_font(characters: str, cell: int = 250, units: int = 1000, shared: str = "") -> TTFont:
    """A font that draws each character as squares in a grid of 4 x 4, and those in `shared` as one glyph."""
    builder = FontBuilder(units, isTTF=True)
    names = {ord(character): f"u{ord(character):04X}" for character in characters}
    order = [".notdef", *names.values(), *(["shared"] if shared else [])]
    builder.setupGlyphOrder(order)
    builder.setupCharacterMap(names | {ord(character): "shared" for character in shared})
    outlines = {".notdef": TTGlyphPen(None).glyph(), "shared": squares(0xFFF, cell)}
    outlines |= {name: squares(code % 4096, cell) for code, name in names.items()}
    builder.setupGlyf({name: outlines[name] for name in order})
    builder.setupHorizontalMetrics(dict.fromkeys(order, (1000, 0)))
    builder.setupHorizontalHeader(ascent=800, descent=-200)
    builder.setupNameTable({"familyName": "Squares", "styleName": "Regular"})
    builder.setupOS2()
    builder.setupPost()
    return builder.font


def squares(bits: int, cell: int) -> object:
    pen = TTGlyphPen(None)
    corners = (0, 3, 12, 15)
    inner = [place for place in range(16) if place not in corners]
    for place in [*corners, *(inner[bit] for bit in range(12) if bits >> bit & 1)]:
        left, bottom = place % 4 * 250, place // 4 * 250
        pen.moveTo((left, bottom))
        for point in ((left, bottom + cell), (left + cell, bottom + cell), (left + cell, bottom)):
            pen.lineTo(point)
        pen.closePath()
    return pen.glyph()


def write_collection(path: Path, *fonts: TTFont) -> None:
    collection = TTCollection()
    collection.fonts = list(fonts)
    collection.save(path)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Fonts in folders within folders, one of them a collection of two faces."""
    root = tmp_path / "squares"
    (root / "one" / "two").mkdir(parents=True)
    build_font(LATIN).save(root / "one" / "latin.TTF")
    write_collection(root / "one" / "two" / "pair.ttc", build_font(LATIN + GREEK, 200), build_font(HANGUL))
    (root / "readme.txt").write_text("no font")
    return root


def draw(fonts: Path, num_classes: int | None = None, jobs: int = 1) -> Data:
    return load_glyphs(num_classes, train_per_class=3, test_per_class=2, jobs=jobs, fonts=fonts)


def characters(data: Data) -> str:
    return "".join(name[0] for name in data.class_names)


def forget() -> None:
    glyphs._alphabet.cache_clear()
    glyphs._held.cache_clear()


# The shipped fonts


@pytest.mark.slow
def test_all_is_the_whole_alphabet_of_the_shipped_fonts() -> None:
    data = load_glyphs(None, train_per_class=1, test_per_class=1, jobs=1)
    assert characters(data) == "".join(alphabet())
    assert data.name == "glyphs:all"
    if version("matplotlib") == "3.11.2":
        assert data.num_classes == 4008


@pytest.mark.slow
def test_the_data_of_the_stored_results_are_drawn_to_the_byte() -> None:
    stored = json.loads((RESULTS / "glyphs" / "data.json").read_text())
    data = load_glyphs(jobs=1)
    card = data.card()
    assert (card.name, card.source, card.description) == (stored["name"], stored["source"], stored["description"])
    assert card.class_names == tuple(stored["class_names"])
    if (version("pillow"), features.version("freetype2"), version("matplotlib")) == ("13.0.0", "2.14.3", "3.11.2"):
        assert card.fingerprint == stored["fingerprint"]


# Finding fonts


def test_fonts_are_found_in_folders_within_folders(folder: Path) -> None:
    data = draw(folder)
    assert characters(data) == "".join(sorted(LATIN + GREEK + HANGUL))
    assert data.name == "glyphs:all-squares"
    assert data.source == "rendered with squares"
    assert "fonts of the user's own (latin.TTF, pair.ttc)" in data.description
    assert data.class_names[0] == "A Latin capital letter a"
    assert data.group_names == ["Basic Latin", "Greek and Coptic", "Hangul Syllables"]


def test_a_collection_gives_each_of_its_faces(folder: Path) -> None:
    held = alphabet(find_fonts(folder))
    faces = {character: {(face.file.name, face.number) for face in of_it} for character, of_it in held.items()}
    assert faces["A"] == {("latin.TTF", 0), ("pair.ttc", 0)}
    assert faces["Ξ"] == {("pair.ttc", 0)}
    assert faces["각"] == {("pair.ttc", 1)}


def test_each_face_of_a_collection_draws_its_own_shape(tmp_path: Path) -> None:
    thin, thick = build_font(LATIN, 100), build_font(LATIN, 250)
    write_collection(tmp_path / "both.ttc", thin, thick)
    one, other = (np.asarray(glyphs._ink("A", Face(tmp_path / "both.ttc", number, ""), 0)).mean() for number in (0, 1))
    assert one * 2 < other


def test_a_single_file_serves_too(folder: Path) -> None:
    data = draw(folder / "one" / "latin.TTF")
    assert characters(data) == LATIN
    assert data.name == "glyphs:all-latin"


@pytest.mark.slow
def test_real_fonts_in_a_folder_of_ones_own_serve(tmp_path: Path) -> None:
    stix = [file for file in shipped_fonts().files if file.name.startswith("STIX")]
    for file in stix:
        shutil.copy(file, tmp_path / f"my-{file.name}")
    held = alphabet(find_fonts(tmp_path))
    assert 1000 < len(held) < len(alphabet())
    assert sorted(face.file.name for face in held["A"]) == [f"my-{file.name}" for file in stix]


def test_a_folder_without_fonts_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty" / "deeper").mkdir(parents=True)
    (tmp_path / "empty" / "page.txt").touch()
    with pytest.raises(InputError, match=r"/empty: expected a folder with font files \(\.ttf, .*\), got none in it\.$"):
        draw(tmp_path / "empty")
    with pytest.raises(InputError, match=r"/none: expected a font file or a folder with fonts, got nothing of that"):
        draw(tmp_path / "none")


# What decides


def test_what_files_are_called_and_where_they_lie_changes_no_image(folder: Path, tmp_path: Path) -> None:
    moved = tmp_path / "moved"
    moved.mkdir()
    shutil.copy(folder / "one" / "latin.TTF", moved / "z.ttf")
    shutil.copy(folder / "one" / "latin.TTF", moved / "again.ttf")  # the same content counts once
    shutil.copy(folder / "one" / "two" / "pair.ttc", moved / "a.otc")
    one, other = draw(folder), draw(moved)
    assert other.name == "glyphs:all-moved"
    assert one.fingerprint == other.fingerprint


@pytest.mark.slow
def test_one_and_two_processes_draw_the_same(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = draw(folder, jobs=1)
    monkeypatch.setenv("SOFTMAXES_CACHE", str(tmp_path / "other"))
    forget()
    assert draw(folder, jobs=2).fingerprint == one.fingerprint


def test_an_image_depends_on_its_own_address_alone(folder: Path) -> None:
    every = draw(folder)
    few = load_glyphs(4, train_per_class=1, test_per_class=1, seed=0, fonts=folder)
    assert few.name == "glyphs:4-squares"
    for label, name in enumerate(few.class_names):
        assert torch.equal(few.train_inputs[label], every.train_inputs[3 * every.class_names.index(name)])


@pytest.mark.slow
def test_pairs_that_look_alike_are_those_that_a_plain_loop_finds() -> None:
    generator = np.random.default_rng(0)
    shapes = generator.integers(0, 16, (40, 16, 16), dtype=np.uint8)
    codes = [*range(0x4E00, 0x4E00 + 1100), ord("A")]  # more than a block of rows
    pictures = shapes[generator.integers(40, size=len(codes))]
    for picture in pictures:
        picture[generator.integers(16), generator.integers(16)] = generator.integers(16)
    rows = dict(zip(codes, pictures.reshape(-1, 256).astype(int), strict=True))
    naive = [
        (one, other)
        for one in sorted(rows)
        for other in rows
        if one < other and int(((rows[one] - rows[other]) ** 2).sum()) <= glyphs.ALIKE
    ]
    assert len(naive) > 100
    found = glyphs._alike("".join(map(chr, codes)), pictures.reshape(-1, 256))
    assert len(found) == len(naive)
    assert {divmod(pair, glyphs.CODES) for pair in found.tolist()} == set(naive)


def test_of_characters_that_look_alike_in_some_face_the_first_is_kept(tmp_path: Path) -> None:
    latin, greek = "A", chr(ord("A") + 4096)  # one shape: 4096 apart
    build_font(LATIN + greek).save(tmp_path / "alike.ttf")
    held = alphabet(find_fonts(tmp_path / "alike.ttf"))
    assert latin in held
    assert greek not in held


@pytest.mark.slow
def test_a_hundred_classes_of_few_blocks_are_spread_over_all(tmp_path: Path) -> None:
    some = "".join(map(chr, range(0x4E00, 0x4E00 + 1100)))
    build_font(some).save(tmp_path / "cjk.ttf")
    chosen = choose_characters(100, find_fonts(tmp_path / "cjk.ttf"))
    assert chosen == sorted(set(chosen))
    assert len(chosen) == 100
    assert chosen[0] == some[5]
    assert chosen[-1] == some[-6]
    assert draw(tmp_path / "cjk.ttf", 100).class_names[0] == f"{chosen[0]} CJK unified ideograph-4e05"


def test_a_glyph_that_stands_for_many_characters_stands_for_none(tmp_path: Path) -> None:
    many = "".join(map(chr, range(0x4E00, 0x4E00 + PLACEHOLDER + 1)))
    build_font(LATIN, shared=many).save(tmp_path / "many.ttf")
    build_font(LATIN, shared=many[1:]).save(tmp_path / "fewer.ttf")
    assert "".join(alphabet(find_fonts(tmp_path / "many.ttf"))) == LATIN
    assert "".join(alphabet(find_fonts(tmp_path / "fewer.ttf"))) == LATIN + many[1]  # the others look like it


# Strangers' files


def test_a_font_that_cannot_be_read_is_left_out_and_named(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good = (folder / "one" / "latin.TTF").read_bytes()
    (folder / "cut.ttf").write_bytes(good[: len(good) // 2])
    (folder / "noise.otf").write_bytes(b"\x1b[31mGIF89a" * 99)
    (folder / "hollow.ttc").write_bytes(b"ttcf\0\1\0\0\xff\xff\xff\xff")
    assert characters(draw(folder)) == "".join(sorted(LATIN + GREEK + HANGUL))
    printed = capsys.readouterr().err
    assert printed.startswith("3 unreadable files skipped:\n")
    assert printed.count("\n") == 4
    for name in ("cut.ttf", "noise.otf", "hollow.ttc"):
        assert f"\n{name}: " in printed


def test_a_face_that_cannot_be_read_is_named_by_its_number(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    broken = build_font(GREEK)
    del broken["cmap"]
    write_collection(folder / "half.ttc", build_font("XYZ"), broken)
    assert set("XYZ") < set(characters(draw(folder)))
    assert "half.ttc: face 1: no table of Unicode characters\n" in capsys.readouterr().err


def test_when_no_font_can_be_read_one_line_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "noise.ttf").write_bytes(b"GIF89a" * 99)
    assert main(["data", "glyphs:all", "--fonts", str(tmp_path / "noise.ttf"), "--out", str(tmp_path / "x.png")]) == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith(f"softmaxes: {tmp_path}/noise.ttf: expected fonts with two characters or more")
    assert not (tmp_path / "x.png").exists()


def test_a_font_that_is_no_file_is_named_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.ttf")
    for path in (tmp_path / "pipe.ttf", Path("/dev/zero")):
        with pytest.raises(InputError, match=f"{path}: expected a regular file, got a (pipe|device)"):
            draw(path)
    with pytest.raises(InputError, match=r"expected a folder with font files .*, got none in it"):
        draw(tmp_path)
    (tmp_path / "large.ttf").touch()
    os.truncate(tmp_path / "large.ttf", 2**40)
    with pytest.raises(InputError, match=r"large\.ttf: expected a file of at most 268,435,456 bytes, got 1,099"):
        draw(tmp_path)


def test_folders_of_fonts_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(3):
        (tmp_path / "some" / str(number)).mkdir(parents=True)
        build_font(LATIN[number:]).save(tmp_path / "some" / str(number) / "font.ttf")
    monkeypatch.setattr(fonts_module, "MOST_BYTES", 2000)
    with pytest.raises(InputError, match=r"some: expected fonts of at most 2,000 bytes, got more\.$"):
        draw(tmp_path / "some")
    deep = tmp_path / "deep"
    for _ in range(70):
        deep.mkdir()
        deep = deep / "d"
    with pytest.raises(InputError, match=r"deep: expected folders within folders up to 64 times, got more\.$"):
        draw(tmp_path / "deep")


def test_the_characters_of_faces_together_are_bounded(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(glyphs, "MOST_CHARACTERS", 20)
    with pytest.raises(InputError, match="expected faces with at most 20 characters together, got 28"):
        draw(folder)


@pytest.mark.slow
def test_characters_are_those_that_font_tools_finds() -> None:
    for file in shipped_fonts().files:
        with TTFont(file, lazy=True) as font:
            glyph_names = font.getBestCmap()
        uses = Counter(glyph_names.values())
        expected = [chr(code) for code, name in sorted(glyph_names.items()) if uses[name] <= PLACEHOLDER]
        assert fonts_module._characters(Face(file, 0, "")) == "".join(expected)


def character_map(kind: int, body: bytes) -> bytes:
    """A table with one map of characters, of a format, for all of Unicode."""
    wide = kind in (12, 13)
    head = struct.pack(">HHLL", kind, 0, 12 + len(body), 0) if wide else struct.pack(">HHH", kind, 6 + len(body), 0)
    return struct.pack(">HHHHL", 0, 1, 3, 10 if wide else 1, 12) + head + body


def segments(*rows: tuple[int, int, int, int], numbers: bytes = b"") -> bytes:
    firsts, lasts, deltas, offsets = zip(*rows, (0xFFFF, 0xFFFF, 1, 0), strict=True)
    count = len(firsts)
    return struct.pack(f">4H{count}HH{3 * count}H", 2 * count, 0, 0, 0, *lasts, 0, *firsts, *deltas, *offsets) + numbers


def groups(*rows: tuple[int, int, int]) -> bytes:
    return struct.pack(">L", len(rows)) + b"".join(struct.pack(">LLL", *row) for row in rows)


def held(path: Path, table: bytes) -> tuple[str, str]:
    """What a font with this table of characters holds, here and as fontTools finds it; its glyphs are 0 to 8."""
    font, raw = build_font(LATIN), DefaultTable("cmap")
    raw.data = table
    font["cmap"] = raw
    font.save(path)
    with TTFont(path, lazy=True) as written:
        expected = written.getBestCmap()
        order = written.getGlyphOrder()
    kept = (chr(code) for code, name in sorted(expected.items()) if name in order[1:])
    return fonts_module._characters(Face(path, 0, "")), "".join(kept)


@pytest.mark.parametrize(
    ("kind", "body", "expected"),
    [
        (0, bytes([0] * 66 + [1, 2, 9, 8] + [0] * 186), "BCE"),
        (4, segments((65, 72, 65536 - 64, 0)), "ABCDEFGH"),
        (4, segments((65, 67, 0, 4), numbers=b"\0\3\0\0\0\5"), "AC"),
        (4, segments((65, 67, 1, 4), numbers=b"\0\3\0\0\0\7"), "AC"),
        (4, segments((70, 60, 0, 0), (65, 66, 65536 - 64, 0)), "AB"),
        (6, struct.pack(">HH3H", 97, 3, 1, 0, 2), "ac"),
        (12, groups((65, 70, 1), (0x20000, 0x20001, 7)), "ABCDEF\U00020000\U00020001"),
        (12, groups((65, 90, 1), (68, 70, 1), (80, 75, 1)), "ABCDEFGH"),  # one overlaps, one is turned round
        (13, groups((65, 70, 3)), "ABCDEF"),
    ],
)
def test_every_kind_of_table_is_read(tmp_path: Path, kind: int, body: bytes, expected: str) -> None:
    assert held(tmp_path / "some.ttf", character_map(kind, body)) == (expected, expected)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (character_map(4, segments(*[(0, 0xFFFE, 1, 0)] * 8000)), "more characters than Unicode has room for"),
        (character_map(4, segments((65, 67, 0, 400), numbers=b"\0\3")), "a table of characters that leads out"),
        (character_map(12, groups((0, 0xFFFFFFFF, 1), (0x10FFFF, 0xFFFFFFFF, 1))), "more characters than Unicode"),
        (character_map(12, groups((65, 70, 1))[:-1]), "face 0: "),
        (character_map(12, b"\xff\xff\xff\xff"), "fonts with two characters or more"),
        (character_map(2, bytes(520)), "a table of characters in format 2"),
        (character_map(14, bytes(520)), "a table of characters"),
        (character_map(4, b"")[:-2], "a table of characters that is cut off"),
        (struct.pack(">HH", 0, 0), "no table of Unicode characters"),
        (struct.pack(">HH", 0, 65535), "a table of characters that is cut off"),
        (struct.pack(">HHHHL", 0, 1, 3, 1, 2**31), "fonts with two characters or more"),
        (bytes(2**22 + 2), "a table of characters of 4,194,306 bytes, which are more than 4,194,304"),
    ],
)
def test_a_table_of_characters_costs_no_more_than_unicode_has(tmp_path: Path, table: bytes, message: str) -> None:
    font, raw = build_font(LATIN), DefaultTable("cmap")
    raw.data = table
    font["cmap"] = raw
    font.save(tmp_path / "some.ttf")
    with pytest.raises(InputError, match=message) as caught:
        draw(tmp_path / "some.ttf")
    assert "\n" not in str(caught.value)


def test_characters_of_glyphs_that_a_font_lacks_are_not_drawn(tmp_path: Path) -> None:
    font, raw = build_font(LATIN), DefaultTable("cmap")
    raw.data = character_map(12, groups((0x4E00, 0x9FFF, 1)))
    font["cmap"] = raw
    font.save(tmp_path / "some.ttf")
    assert len(fonts_module._characters(Face(tmp_path / "some.ttf", 0, ""))) == 8


@pytest.mark.slow
def test_no_broken_font_ends_in_another_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    generator = np.random.default_rng(0)
    build_font(LATIN).save(tmp_path / "good.ttf")
    write_collection(tmp_path / "good.ttc", build_font(LATIN), build_font(HANGUL))
    written = [(tmp_path / "good.ttf").read_bytes(), (tmp_path / "good.ttc").read_bytes()]
    extremes = [b"\xff" * 4, b"\x80\0\0\0", b"\x7f\xff\xff\xff", b"\0" * 4, b"\xff\xff", b"\x7f\xff"]
    for place in range(60):
        broken = bytearray(written[place % 2])
        for _ in range(generator.integers(1, 5)):
            at = generator.integers(len(broken))
            extreme = extremes[generator.integers(len(extremes))]
            broken[at : at + len(extreme)] = extreme
        (tmp_path / "broken.ttf").write_bytes(broken)
        forget()
        try:
            draw(tmp_path / "broken.ttf")
        except InputError as error:
            said = str(error)
        else:
            said = ""
        assert "\n" not in said
    capsys.readouterr()


def test_a_face_that_raises_anything_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Odd:
        def getbbox(self, character: str, **_: object) -> None:
            raise SystemError(f"no {character}\nat all")

    monkeypatch.setattr(glyphs, "open_face", lambda _: Odd())
    with pytest.raises(OSError, match=r"^no A at all$"):
        glyphs._ink("A", Face(tmp_path / "odd.ttf", 0, ""), 0)


def test_a_glyph_too_large_to_draw_is_left_out(tmp_path: Path) -> None:
    build_font(LATIN, units=40).save(tmp_path / "large.ttf")  # 25 ems wide
    face = Face(tmp_path / "large.ttf", 0, "")
    with pytest.raises(OSError, match=r"^a glyph of 2400 x 2400 pixels$"):
        glyphs._ink("A", face, 0)
    with pytest.raises(InputError, match=r"large\.ttf: expected fonts with two characters or more .*, got 0\.$"):
        draw(tmp_path / "large.ttf")


# The cache


def test_a_second_load_reads_the_cache(
    folder: Path, cache_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = draw(folder)
    kept = {file.suffix: file.name for file in cache_folder.iterdir()}
    assert kept.keys() == {".json", ".safetensors"}
    assert all(find_fonts(folder).digest in name for name in kept.values())
    forget()
    monkeypatch.setattr(glyphs, "_draw_all", None)
    monkeypatch.setattr(glyphs, "read_faces", None)
    assert draw(folder).fingerprint == first.fingerprint


def test_a_changed_font_is_drawn_anew(folder: Path, cache_folder: Path) -> None:
    first = draw(folder)
    build_font(LATIN, 220).save(folder / "one" / "latin.TTF")
    second = draw(folder)
    assert second.class_names == first.class_names
    assert second.fingerprint != first.fingerprint
    assert len(list(cache_folder.iterdir())) == 4


def test_the_alphabet_is_kept_for_other_numbers_of_classes(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    draw(folder, 4)
    forget()
    monkeypatch.setattr(glyphs, "read_faces", None)
    assert draw(folder).num_classes == 20


@pytest.mark.parametrize(
    "damage",
    [
        "",
        "{",
        "[]",
        "[" * 10**5,
        "9" * 5000,
        '{"faces": 1}',
        '{"sha256": "0", "faces": [[0, 0, "AB"]]}',
        '{"sha256": "0"}',
        "é",
    ],
)
def test_a_damaged_alphabet_is_made_again(folder: Path, cache_folder: Path, damage: str) -> None:
    first = draw(folder)
    (kept,) = cache_folder.glob("alphabet*.json")
    good = kept.read_bytes()
    kept.write_bytes(damage.encode("latin-1"))
    forget()
    assert draw(folder, 20).class_names == first.class_names
    assert kept.read_bytes() == good


# Memory


@pytest.mark.slow
def test_images_that_do_not_fit_in_memory_are_refused_before_they_are_drawn(
    folder: Path, cache_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = 2 * 20 * (100 + 25) * 3072
    monkeypatch.setattr("softmaxes.lab.data.dataset.free_memory", lambda: size - 1)
    message = (
        r"^glyphs: expected 0\.0 GiB of free memory for all classes with 100 training and 25 test images each, "
        r"got 0\.0 GiB; take fewer classes or fewer images a class\.$"
    )
    with pytest.raises(InputError, match=message):
        load_glyphs(None, fonts=folder, jobs=1)
    assert not list(cache_folder.glob("all*"))
    for free in (size, None):
        monkeypatch.setattr("softmaxes.lab.data.dataset.free_memory", lambda free=free: free)
        assert load_glyphs(None, fonts=folder, jobs=1).num_classes == 20
        shutil.rmtree(cache_folder)


def test_images_that_are_kept_must_fit_too(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    draw(folder)
    monkeypatch.setattr("softmaxes.lab.data.dataset.free_memory", lambda: 1000)
    with pytest.raises(InputError, match="of free memory for all classes"):
        draw(folder)


def test_free_memory_is_a_number_of_bytes_where_the_system_says() -> None:
    free = free_memory()
    assert free is None or 2**20 < free < 2**50


# The command line


def test_data_draws_a_sheet_of_ones_own_fonts(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sheet = tmp_path / "sheet.png"
    command = ["data", "glyphs:all", "--fonts", str(folder), "--train-per-class", "3", "--test-per-class", "2"]
    assert main([*command, "--out", str(sheet)]) == 0
    printed = capsys.readouterr()
    assert printed.err == ""
    assert printed.out.startswith("glyphs:all-squares: Characters grouped by Unicode block, drawn in random faces of")
    assert "train: 60 images, 3 to 3 a class\ntest: 40 images, 2 to 2 a class\n20 classes, 3 groups" in printed.out
    with Image.open(sheet) as image:
        assert image.height > 20 * 48


def test_the_command_line_draws_as_many_by_default_as_the_function() -> None:
    assert Source().model_dump(include=set(DRAWN)) == {name: load_glyphs.__kwdefaults__[name] for name in DRAWN}
