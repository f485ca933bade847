"""The drawn characters: which classes there are, that each image depends only on its own address, and the cache."""

import hashlib
import io
import multiprocessing
import os
import re
import time
import unicodedata
from collections import Counter, defaultdict
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import pytest
import torch
from fontTools import unicodedata as unicode_blocks
from fontTools.pens.recordingPen import DecomposingRecordingPen
from fontTools.ttLib import TTFont
from PIL import Image, features
from torch import Tensor

from softmaxes.lab import InputError
from softmaxes.lab.data import glyphs
from softmaxes.lab.data.dataset import Data
from softmaxes.lab.data.fonts import Face, shipped_fonts
from softmaxes.lab.data.glyphs import alphabet, choose_characters, load_glyphs


@pytest.fixture(autouse=True)
def cache_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SOFTMAXES_CACHE", str(tmp_path))
    return tmp_path / "glyphs"


@pytest.mark.slow
def test_processes_that_draw_end_when_nobody_waits() -> None:
    drawn = glyphs._side_by_side(time.sleep, [0.0, 600.0, 600.0], jobs=2, description="Sleeping")
    assert next(drawn) is None
    drawn.close()  # type: ignore[attr-defined]
    assert multiprocessing.active_children() == []


def images(data: Data) -> tuple[Tensor, Tensor]:
    """Training and test images by class: (C, images a class, 3, 32, 32)."""
    shape = (data.num_classes, -1)
    return data.train_inputs.unflatten(0, shape), data.test_inputs.unflatten(0, shape)


def same(one: Data, other: Data) -> bool:
    return torch.equal(one.train_inputs, other.train_inputs) and torch.equal(one.test_inputs, other.test_inputs)


def outlines(face: Face, characters: list[str]) -> list[object]:
    """The curves of each glyph in font units, moved to the origin: an oracle without pixels."""
    with TTFont(face.file, lazy=True) as font:
        glyph_set, names = font.getGlyphSet(), font.getBestCmap()
        found: list[object] = []
        for character in characters:
            pen = DecomposingRecordingPen(glyph_set)
            glyph_set[names[ord(character)]].draw(pen)
            points = [point for _, arguments in pen.value for point in arguments if point is not None]
            left, bottom = min(x for x, _ in points), min(y for _, y in points)
            found.append(
                tuple(
                    (command, *((point[0] - left, point[1] - bottom) if point else None for point in arguments))
                    for command, arguments in pen.value
                )
            )
    return found


def test_a_hundred_classes_are_five_characters_from_each_of_twenty_unicode_blocks() -> None:
    data = load_glyphs(train_per_class=1, test_per_class=1)
    characters = [name[0] for name in data.class_names]
    assert data.name == "glyphs"
    assert data.num_classes == len(set(characters)) == 100
    assert data.group_names is not None
    assert data.group_of_class is not None
    assert len(set(data.group_names)) == 20
    assert set(Counter(data.group_of_class).values()) == {5}
    for character, name, group in zip(characters, data.class_names, data.group_of_class, strict=True):
        assert data.group_names[group] == unicode_blocks.block(character)
        assert name == f"{character} {unicodedata.name(character).capitalize()}"
    assert data.train_labels.tolist() == data.test_labels.tolist() == list(range(100))
    assert data.train_inputs.shape == data.test_inputs.shape == (100, 3, 32, 32)


def test_any_other_number_of_classes_is_spread_over_the_blocks() -> None:
    data = load_glyphs(1000, train_per_class=1, test_per_class=1, jobs=1)
    assert data.name == "glyphs:1000"
    assert data.num_classes == len(set(data.class_names)) == 1000
    assert data.group_names is not None
    assert data.group_of_class is not None
    assert len(data.group_names) > 40
    assert len(set(Counter(data.group_of_class).values())) > 5  # ragged
    assert len(choose_characters(2)) == 2


def test_every_character_of_the_alphabet_can_be_a_class() -> None:
    characters = choose_characters(len(alphabet()))
    assert len(characters) > 3500
    assert characters == sorted(set(characters))
    for character in characters:
        assert unicodedata.category(character)[0] in "LNPS"
        assert alphabet()[character]


def test_no_two_classes_share_an_outline() -> None:
    held: dict[Face, list[str]] = defaultdict(list)
    for character in choose_characters(100):
        for face in alphabet()[character]:
            held[face].append(character)
    (sans,) = (face for face in held if face.file.name == "DejaVuSans.ttf")
    held[sans] = [character for character, faces in alphabet().items() if sans in faces]
    assert len(held[sans]) > 3000
    assert len(held) == 16
    for face, characters in held.items():
        found = outlines(face, characters)
        assert len(set(found)) == len(characters), face.file.name


@pytest.mark.slow
def test_the_listed_look_alikes_are_those_that_drawing_finds(monkeypatch: pytest.MonkeyPatch) -> None:
    found = glyphs._find_alphabet(shipped_fonts(), 1)
    assert glyphs._known_alphabet(shipped_fonts()) == found
    monkeypatch.setattr(glyphs, "_find_alphabet", lambda fonts, jobs: found)
    assert glyphs.LOOK_ALIKES.read_text("utf-8") == glyphs.list_look_alikes(), "write it anew: see list_look_alikes"


def test_shipped_fonts_of_another_version_are_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(glyphs, "_shipped_digest", lambda: "another")
    assert glyphs._stored_alphabet(shipped_fonts()) is None


def test_lookalikes_across_scripts_are_one_class() -> None:
    assert [character for character in "AΑАꓮoοоօ" if character in alphabet()] == ["A", "o"]


@pytest.mark.slow
def test_the_same_seed_draws_the_same_bytes_in_one_and_two_processes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = load_glyphs(7, train_per_class=3, test_per_class=2, jobs=1)
    monkeypatch.setenv("SOFTMAXES_CACHE", str(tmp_path / "other"))
    two = load_glyphs(7, train_per_class=3, test_per_class=2, jobs=2)
    assert same(one, two)
    assert one.fingerprint == two.fingerprint


def test_another_seed_and_the_test_part_draw_other_bytes() -> None:
    zero, one = (load_glyphs(3, train_per_class=2, test_per_class=2, seed=seed) for seed in (0, 1))
    assert zero.class_names == one.class_names
    drawn = torch.cat((zero.train_inputs, zero.test_inputs, one.train_inputs, one.test_inputs))
    assert len(drawn.unique(dim=0)) == len(drawn)


def test_an_image_depends_on_its_own_address_alone() -> None:
    few, many = (load_glyphs(5, train_per_class=2 * n, test_per_class=n) for n in (1, 3))
    for less, more in zip(images(few), images(many), strict=True):
        assert torch.equal(less, more[:, : less.shape[1]])
    larger = load_glyphs(15, train_per_class=2, test_per_class=1)  # the middles of thirds of the alphabet's fifths
    assert larger.class_names[1::3] == few.class_names
    for one, other in zip(images(few), images(larger), strict=True):
        assert torch.equal(one, other[1::3])


def test_the_drawn_bytes_are_pinned() -> None:
    data = load_glyphs(50, train_per_class=2, test_per_class=2, seed=5)
    versions = (version("pillow"), features.version("freetype2"), version("matplotlib"))
    if versions == ("13.0.0", "2.14.3", "3.11.2"):
        digest = hashlib.sha256(data.train_inputs.numpy().tobytes() + data.test_inputs.numpy().tobytes())
        assert "".join(name[0] for name in data.class_names) == "IĦȣʇͼгҪԺץڍߚႰᐒᑭᓁᔚᕶᚚ⁑↪⇿≬⋑⌶⎛┷▚◶♋⚜✸➜⟴⡮⣞⤶⦈⧙⨬⪁⫑⬬ⴓ䷌ꙫꞠ𝌠🁉🂥😖"
        assert digest.hexdigest() == "4c78cb286fe1f61cdc20aa64280cce017e80ea6d930293275238194cd74152c8"
    assert data.train_labels.tolist() == data.test_labels.tolist() == [label for label in range(50) for _ in range(2)]
    assert float(data.train_inputs.float().mean()) == pytest.approx(57.8, abs=5)  # of 255


def test_a_second_load_reads_the_cache(monkeypatch: pytest.MonkeyPatch, cache_folder: Path) -> None:
    first = load_glyphs(4, train_per_class=2, test_per_class=1)
    (file,) = cache_folder.iterdir()
    for part in ("4x2+1", "seed0", f"recipe{glyphs.RECIPE}", f"pillow{version('pillow')}", version("matplotlib")):
        assert part in file.name
    monkeypatch.setattr(glyphs, "_draw_all", None)
    monkeypatch.setattr(glyphs, "alphabet", None)
    second = load_glyphs(4, train_per_class=2, test_per_class=1)
    assert same(first, second)
    assert first.fingerprint == second.fingerprint
    assert first.class_names == second.class_names


def rewritten(content: bytes, old: str, new: str) -> bytes:
    """The cache file with another header."""
    size = int.from_bytes(content[:8], "little")
    header = content[8 : 8 + size].decode().strip().replace(old, new, 1).encode()
    return len(header).to_bytes(8, "little") + header + content[8 + size :]


HEADERS = {
    "shape": ("[8,3,32,32]", "[3,8,32,32]"),
    "type": ("U8", "I8"),
    "small type": ("U8", "F8_E4M3"),
    "name": ("train", "trail"),
    "characters": ('"characters"', '"charactera"'),
    "digest": ('"sha256"', '"sha255"'),
    "metadata": ("__metadata__", "__metadatu__"),
}


@pytest.mark.parametrize("damage", ["empty", "cut", "flipped", "foreign", *HEADERS])
def test_a_damaged_cache_file_is_made_again(cache_folder: Path, monkeypatch: pytest.MonkeyPatch, damage: str) -> None:
    first = load_glyphs(4, train_per_class=2, test_per_class=1)
    (file,) = cache_folder.iterdir()
    good = file.read_bytes()
    bad = {"empty": b"", "cut": good[:-100], "flipped": good[:-1] + bytes([good[-1] ^ 1]), "foreign": b"GIF89a" * 99}
    bad |= {name: rewritten(good, *change) for name, change in HEADERS.items()}
    assert bad[damage] != good
    file.write_bytes(bad[damage])
    assert same(first, load_glyphs(4, train_per_class=2, test_per_class=1))
    assert list(cache_folder.iterdir()) == [file]
    monkeypatch.setattr(glyphs, "_draw_all", None)
    assert same(first, load_glyphs(4, train_per_class=2, test_per_class=1))


@pytest.mark.parametrize(
    ("num_classes", "message"),
    [
        (-1, "2 classes or more, got -1"),
        (0, "2 classes or more, got 0"),
        (1, "2 classes or more, got 1"),
        (1_114_113, "at most 1,114,112 classes, as Unicode has characters, got 1,114,113"),
    ],
)
def test_a_number_of_classes_that_no_font_serves_is_refused_before_one_is_read(
    num_classes: int, message: str, cache_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(glyphs, "alphabet", None)
    monkeypatch.setattr(glyphs, "_held", None)
    for refuse in (load_glyphs, choose_characters):
        with pytest.raises(InputError) as caught:
            refuse(num_classes)
        assert str(caught.value) == f"glyphs: expected {message}."
    assert not cache_folder.exists()


def test_a_number_of_classes_that_these_fonts_do_not_serve_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    most = len(alphabet())
    with pytest.raises(InputError, match=rf"^glyphs: expected 2 to {most} classes, got {most + 1}\.$"):
        load_glyphs(most + 1)
    monkeypatch.setattr(glyphs, "alphabet", None)  # nothing is drawn
    monkeypatch.setattr(glyphs, "_stored_alphabet", lambda fonts: None)
    with pytest.raises(
        InputError, match=r"^glyphs: expected at most [0-9,]+ classes, as the fonts have characters, got"
    ):
        load_glyphs(9999)


def test_images_that_do_not_fit_in_memory_are_refused_before_a_font_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(glyphs, "alphabet", None)
    monkeypatch.setattr(glyphs, "_held", None)
    with pytest.raises(InputError, match="GiB of free memory for 1000 classes with 1,000,000 training"):
        load_glyphs(1000, train_per_class=10**6)


def test_other_numbers_out_of_range_are_refused() -> None:
    with pytest.raises(InputError, match=r"^glyphs: expected 1 or more as training images a class, got 0\.$"):
        load_glyphs(train_per_class=0)
    with pytest.raises(InputError, match=r"^glyphs: expected 1 or more as test images a class, got -2\.$"):
        load_glyphs(test_per_class=-2)
    with pytest.raises(InputError, match=r"^glyphs: expected 1,000,000 or less as test images a class, got 1000001\.$"):
        load_glyphs(test_per_class=1_000_001)
    with pytest.raises(InputError, match="expected 18,446,744,073,709,551,616 or less as seed, got 1000"):
        load_glyphs(seed=10**300)
    with pytest.raises(InputError, match=r"^glyphs: expected 0 or more as seed, got -1\.$"):
        load_glyphs(seed=-1)
    with pytest.raises(InputError, match=r"^glyphs: expected 1 or more as processes, got 0\.$"):
        load_glyphs(jobs=0)


@pytest.mark.parametrize(("kind", "message"), [("pipe", "a pipe"), ("folder", "a folder")])
def test_a_cache_file_that_is_none_is_named_and_nothing_drawn(
    cache_folder: Path, monkeypatch: pytest.MonkeyPatch, kind: str, message: str
) -> None:
    load_glyphs(4, train_per_class=2, test_per_class=1)
    (file,) = cache_folder.iterdir()
    file.unlink()
    os.mkfifo(file) if kind == "pipe" else file.mkdir()
    monkeypatch.setattr(glyphs, "_draw_all", None)
    with pytest.raises(InputError, match=re.escape(f"{file.name}: expected a regular file, got {message}")):
        load_glyphs(4, train_per_class=2, test_per_class=1)


def test_every_character_has_a_name() -> None:
    assert glyphs._name("A") == "Latin capital letter a"
    assert glyphs._name("\u4e05") == "CJK unified ideograph-4e05"
    assert glyphs._name("\U00017000") == "Tangut-17000"  # without a name in Python's tables
    nameless = [code for code in range(0x110000) if glyphs._is_own(chr(code)) and not unicodedata.name(chr(code), "")]
    assert len({glyphs._name(chr(code)) for code in nameless}) == len(nameless) > 1000


def test_a_cache_folder_that_cannot_be_made_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "file"
    file.touch()
    monkeypatch.setenv("SOFTMAXES_CACHE", str(file))
    with pytest.raises(InputError, match=r"file/glyphs: expected a folder that can be made, got Not a directory\.$"):
        load_glyphs(2, train_per_class=1, test_per_class=1)


def test_every_class_has_a_plain_picture_of_its_character() -> None:
    """Drawn or read from the cache; not of more classes than a report can carry."""
    for _ in range(2):
        data = load_glyphs(4, train_per_class=1, test_per_class=1)
        assert len(set(data.class_pictures)) == 4
        for content in data.class_pictures:
            picture = Image.open(io.BytesIO(content)).convert("RGBA")
            opacity = picture.getchannel("A")
            assert picture.size == (32, 32)
            assert opacity.getextrema() == (0, 255)
            assert len(content) < 600
    assert data.card().words_of_class == tuple(name[2:] for name in data.class_names)
    assert replace(data, class_pictures=()).fingerprint == data.fingerprint  # nothing is trained on them
