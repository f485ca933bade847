"""Characters drawn with the fonts that matplotlib ships: from 2 to some 4,000 classes, and nothing to download.

A class is a character; its group is its Unicode block. Each image shows it in a random face, size, slant, position,
weight and pair of colours, blurred and noisy, and is a pure function of (seed, part, character, index): the number of
classes, of images and of processes never changes it. It is computed in integers and exact binary fractions, so the
same versions of Pillow, FreeType and matplotlib draw the same bytes on every machine.
"""

import hashlib
import multiprocessing
import unicodedata
from collections import defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from functools import cache, lru_cache, partial
from importlib.metadata import version
from math import isqrt
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from fontTools import unicodedata as unicode_blocks
from fontTools.ttLib import TTFont
from PIL import Image, ImageDraw, ImageFilter, ImageFont, features
from rich.console import Console
from rich.progress import Progress
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from softmaxes.lab import InputError
from softmaxes.lab.data import Data, cache_dir, usable_cores
from softmaxes.write_whole import write_whole

Pixels = npt.NDArray[np.uint8]

RECIPE = 1  # of the images and of the choice of classes: raise it with every change that changes a byte
SIDE = 32  # pixels
PIXELS = 3 * SIDE * SIDE  # bytes of an image
EM = 96  # pixels: the size at which the fonts draw, before an image is brought to its own size
ALIKE = 200  # squared distance of two 16 x 16 pictures in 16 greys, at and below which they show one shape
SOFTENING = ImageFilter.Kernel((3, 3), (1, 2, 1, 2, 4, 2, 1, 2, 1), scale=16)


@cache
def alphabet() -> dict[str, tuple[Path, ...]]:
    """Every character that can be a class, in code point order, with the font files that hold it.

    These are the letters, numbers, punctuation marks and symbols that a DejaVu or STIX face draws and that Unicode does
    not define as another character with an accent, in another style or in another position. Of characters that look
    alike in some face once they are brought to one size, as Latin A, Greek Alpha and Cyrillic A do, the first is kept.
    """
    pictures = {face: _pictures(face) for face in _faces()}
    first: dict[str, Pixels] = {}  # each character in the first face that holds it: compares those that share no face
    for of_face in pictures.values():
        first = of_face | first
    alike: set[tuple[str, str]] = set()
    for sheet in (first, *pictures.values()):
        alike |= _alike(sheet)
    dropped: set[str] = set()
    for one, other in sorted(alike):
        if one not in dropped:
            dropped.add(other)
    return {
        character: tuple(face for face, of_face in pictures.items() if character in of_face)
        for character in sorted(first.keys() - dropped)
    }


def choose_characters(num_classes: int) -> list[str]:
    """The characters that are the classes, in code point order.

    For 100 classes: five from each of the 20 blocks that the fonts draw most often, counting a character once for each
    face, spread evenly over the block. For any other number: spread evenly over the whole alphabet.

    Raises:
        InputError: there are fewer characters, or `num_classes` is below 2.
    """
    characters = list(alphabet())
    if not 2 <= num_classes <= len(characters):
        raise InputError(f"glyphs: expected 2 to {len(characters)} classes, got {num_classes}.")
    if num_classes != 100:
        return _spread(characters, num_classes)
    blocks: dict[str, list[str]] = defaultdict(list)
    for character in characters:
        blocks[unicode_blocks.block(character)].append(character)
    drawings = {block: sum(len(alphabet()[character]) for character in members) for block, members in blocks.items()}
    chosen = sorted(blocks, key=lambda block: (-drawings[block], block))[:20]
    return sorted(character for block in chosen for character in _spread(blocks[block], 5))


def load_glyphs(
    num_classes: int = 100,
    *,
    train_per_class: int = 100,
    test_per_class: int = 25,
    seed: int = 0,
    jobs: int | None = None,
) -> Data:
    """Draws the data set, or reads it from `cache_dir` if it was drawn before.

    A script that lets it start processes needs ``if __name__ == "__main__":``.

    Args:
        num_classes: 2 to the size of `alphabet`; 100 gives 20 groups of 5, see `choose_characters`.
        train_per_class: training images of each class.
        test_per_class: test images of each class.
        seed: of the images; the classes do not depend on it.
        jobs: processes to draw in; by default one a usable core, or only this one where there is little to draw.

    Raises:
        InputError: a number is out of range, or the cache folder cannot be made.
    """
    for what, value, least in (
        ("training images a class", train_per_class, 1),
        ("test images a class", test_per_class, 1),
        ("seed", seed, 0),
        ("processes", 1 if jobs is None else jobs, 1),
    ):
        if value < least:
            raise InputError(f"glyphs: expected {least} or more as {what}, got {value}.")
    versions = f"pillow{version('pillow')}-freetype{features.version('freetype2')}-matplotlib{version('matplotlib')}"
    counts = f"{num_classes}x{train_per_class}+{test_per_class}"
    path = cache_dir() / "glyphs" / f"{counts}-seed{seed}-recipe{RECIPE}-{versions}.safetensors"
    stored = _read(path)
    if stored is None:
        characters = choose_characters(num_classes)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"{path.parent}: expected a folder that can be made, got {error.strerror}.") from error
        stored = characters, *_draw_all(characters, train_per_class, test_per_class, seed, jobs)
        _write(path, *stored)
    characters, train, test = stored
    blocks = [unicode_blocks.block(character) for character in characters]
    group_names = list(dict.fromkeys(blocks))
    labels = torch.arange(num_classes)
    return Data(
        name="glyphs" if num_classes == 100 else f"glyphs:{num_classes}",
        description=(
            "Characters grouped by Unicode block, drawn in random faces of the DejaVu and STIX fonts, sizes, "
            "rotations, shears, positions, stroke widths, colours, blur and noise."
        ),
        source="rendered",
        train_inputs=train,
        train_labels=labels.repeat_interleave(train_per_class),
        test_inputs=test,
        test_labels=labels.repeat_interleave(test_per_class),
        class_names=[f"{character} {unicodedata.name(character).capitalize()}" for character in characters],
        group_names=group_names,
        group_of_class=[group_names.index(block) for block in blocks],
    )


def _spread(characters: Sequence[str], count: int) -> list[str]:
    return [characters[(2 * place + 1) * len(characters) // (2 * count)] for place in range(count)]


# The alphabet


@cache
def _faces() -> tuple[Path, ...]:
    """The upright, slanted, light and bold faces of DejaVu and STIX, without those for display sizes."""
    import matplotlib

    folder = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    found = [*folder.glob("DejaVu*.ttf"), *folder.glob("STIXGeneral*.ttf")]
    return tuple(sorted(face for face in found if "Display" not in face.stem))


def _pictures(face: Path) -> dict[str, Pixels]:
    """Each character of its own that the face draws, as large as fits in 16 x 16 pixels of 16 greys."""
    with TTFont(face, lazy=True) as font:
        held = sorted(chr(code) for code, glyph in font.getBestCmap().items() if glyph != ".notdef")
    pictures = {}
    for character in held:
        own = unicodedata.category(character)[0] in "LNPS" and unicodedata.normalize("NFKD", character) == character
        if own and (ink := _ink(character, face, 0)).getbbox():
            pictures[character] = np.asarray(_placed(ink, size=60).reduce(4)) // np.uint8(16)
    return pictures


def _alike(pictures: dict[str, Pixels]) -> set[tuple[str, str]]:
    """The pairs of characters, first one first, that show one shape."""
    characters = sorted(pictures)
    rows = np.stack([pictures[character].ravel() for character in characters])
    rows = rows.astype(np.float32)  # whole numbers, and their products too: exact
    squares = (rows * rows).sum(axis=1)
    pairs = set()
    for one in range(0, len(rows), 512):
        part = slice(one, one + 512)
        distances = squares[part, None] + squares - 2 * rows[part] @ rows.T
        for row, column in np.argwhere(distances <= ALIKE):
            if one + row < column:
                pairs.add((characters[one + row], characters[column]))
    return pairs


# The images


@lru_cache(maxsize=32)
def _font(face: Path) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(str(face), EM, layout_engine=ImageFont.Layout.BASIC)


@lru_cache(maxsize=128)
def _ink(character: str, face: Path, stroke: int) -> Image.Image:
    """The character in white on black, cropped to a margin of one pixel; all black where the face leaves it blank."""
    left, top, right, bottom = (int(edge) for edge in _font(face).getbbox(character, stroke_width=stroke))
    canvas = Image.new("L", (max(right - left, 0) + 4, max(bottom - top, 0) + 4))
    ImageDraw.Draw(canvas).text((2 - left, 2 - top), character, fill=255, font=_font(face), stroke_width=stroke)
    box = canvas.getbbox()
    return canvas.crop((box[0] - 1, box[1] - 1, box[2] + 1, box[3] + 1)) if box else canvas


def _placed(
    ink: Image.Image, *, size: int, sine: int = 0, shear: int = 0, right: int = 0, down: int = 0
) -> Image.Image:
    """The ink on 64 x 64 pixels, its longer side `size` of them long, sheared, rotated, shifted from the middle.

    `sine` (of the angle) and `shear` are in 1/1024. The matrix takes a point of the result to one of `ink`, in 1/1024
    too, a unit that floating point holds exactly: the interpolation then gives the same bytes everywhere.
    """
    scale = max(ink.size) * 1024 // size
    cosine = isqrt(1024 * 1024 - sine * sine)
    a, b = scale * cosine >> 10, scale * ((cosine * shear >> 10) - sine) >> 10
    c, d = scale * sine >> 10, scale * ((sine * shear >> 10) + cosine) >> 10
    x, y = 32 + right, 32 + down
    matrix = (a, b, ink.width * 512 - a * x - b * y, c, d, ink.height * 512 - c * x - d * y)
    return ink.transform(
        (64, 64), Image.Transform.AFFINE, [entry / 1024 for entry in matrix], Image.Resampling.BILINEAR
    )


def _draw(character: str, faces: Sequence[Path], seed: int, part: int, index: int) -> Pixels:
    """One image, (3, SIDE, SIDE); `part` is 0 for training and 1 for the test."""
    words = np.random.PCG64(np.random.SeedSequence([seed, part, ord(character), index])).random_raw(16 + PIXELS // 8)
    unused = iter(words[:16].tolist())

    def pick(low: int, high: int) -> int:  # both included
        return int(low + next(unused) % (high - low + 1))

    ink = _ink(character, faces[pick(0, len(faces) - 1)], stroke=pick(0, 2))
    size = pick(36, 60)
    room = (64 - size) // 2
    sine, shear, right, down = pick(-260, 260), pick(-260, 260), pick(-room, room), pick(-room, room)
    small = _placed(ink, size=size, sine=sine, shear=shear, right=right, down=down).reduce(2)
    for _ in range(pick(0, 2)):
        small = small.filter(SOFTENING)
    ground = np.array([pick(0, 40) for _ in range(3)])[:, None, None]
    chalk = np.array([pick(160, 255) for _ in range(3)])[:, None, None]
    noise = words[16:].astype("<u8").view(np.uint8).reshape(3, SIDE, SIDE).astype(np.int64) - 128
    image = ground + (chalk - ground) * np.asarray(small, dtype=np.int64) // 255 + (noise * pick(0, 64) >> 7)
    drawn: Pixels = image.clip(0, 255).astype(np.uint8)
    return drawn


def _draw_class(
    character: str, faces: Sequence[Path], train_per_class: int, test_per_class: int, seed: int
) -> tuple[Pixels, Pixels]:
    train = [_draw(character, faces, seed, 0, index) for index in range(train_per_class)]
    test = [_draw(character, faces, seed, 1, index) for index in range(test_per_class)]
    return np.stack(train), np.stack(test)


def _draw_all(
    characters: Sequence[str], train_per_class: int, test_per_class: int, seed: int, jobs: int | None
) -> tuple[Tensor, Tensor]:
    """Training and test images, class after class."""
    if jobs is None:
        little = len(characters) * (train_per_class + test_per_class) < 5000
        jobs = 1 if little else usable_cores()
    train = np.empty((len(characters), train_per_class, 3, SIDE, SIDE), dtype=np.uint8)
    test = np.empty((len(characters), test_per_class, 3, SIDE, SIDE), dtype=np.uint8)
    draw_class = partial(_draw_class, train_per_class=train_per_class, test_per_class=test_per_class, seed=seed)
    faces = [alphabet()[character] for character in characters]
    with ExitStack() as stack:
        console = Console(stderr=True)
        progress = stack.enter_context(Progress(console=console, transient=True, disable=not console.is_terminal))
        drawn: Iterator[tuple[Pixels, Pixels]] = map(draw_class, characters, faces)
        if jobs > 1:
            pool = ProcessPoolExecutor(jobs, mp_context=multiprocessing.get_context("spawn"))
            stack.callback(pool.shutdown, cancel_futures=True)
            drawn = pool.map(draw_class, characters, faces, chunksize=len(characters) // (8 * jobs) + 1)
        drawn = iter(progress.track(drawn, total=len(characters), description="Drawing glyphs"))
        for label, (train_images, test_images) in enumerate(drawn):
            train[label], test[label] = train_images, test_images
    return torch.from_numpy(train).flatten(0, 1), torch.from_numpy(test).flatten(0, 1)


# The cache


def _digest(characters: Sequence[str], train: Tensor, test: Tensor) -> str:
    digest = hashlib.sha256("".join(characters).encode())
    digest.update(train.numpy().data)
    digest.update(test.numpy().data)
    return digest.hexdigest()


def _read(path: Path) -> tuple[list[str], Tensor, Tensor] | None:
    """What `_write` stored, or none if there is no such file or it was damaged."""
    if not path.is_file():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            stored = dict(file.metadata() or {})
            train, test = file.get_tensor("train"), file.get_tensor("test")
    except SafetensorError:
        return None
    characters = list(stored.get("characters", ""))
    return (characters, train, test) if stored.get("sha256") == _digest(characters, train, test) else None


def _write(path: Path, characters: Sequence[str], train: Tensor, test: Tensor) -> None:
    metadata = {"characters": "".join(characters), "sha256": _digest(characters, train, test)}
    write_whole(path, lambda part: save_file({"train": train, "test": test}, part, metadata))
