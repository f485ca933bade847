"""Characters drawn with fonts: from 2 to some 4,000 classes with those that matplotlib ships, and nothing to download.

With fonts that a user names there may be ten times as many. A class is a character; its group is its Unicode block.
Each image shows it in a random face, size, slant, position, weight and pair of colours, blurred and noisy, and is a
pure function of (seed, part, character, index) and of what the font files hold: the number of classes, of images and of
processes never changes it, nor what the files are called. It is computed in integers and exact binary fractions, so the
same versions of Pillow and FreeType draw the same bytes from the same fonts on every machine.
"""

import hashlib
import io
import json
import multiprocessing
import signal
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack
from functools import cache, lru_cache, partial
from importlib.metadata import version
from math import isqrt
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import torch
from fontTools import unicodedata as unicode_blocks
from PIL import Image, ImageDraw, ImageFilter, features
from rich.console import Console
from rich.progress import Progress
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from softmaxes.files import InputError, check_regular, read_whole, write_whole
from softmaxes.lab.data.cache import cache_dir
from softmaxes.lab.data.dataset import Data, check_memory
from softmaxes.lab.data.folder import report_unreadable
from softmaxes.lab.data.fonts import CODES, EM, Face, Fonts, find_fonts, open_face, read_faces, shipped_fonts
from softmaxes.lab.machine import usable_cores
from softmaxes.lab.starting import without_script
from softmaxes.lab.stopping import follow_parent, held_back

Pixels = npt.NDArray[np.uint8]
Pairs = npt.NDArray[np.int64]
Drawn = TypeVar("Drawn")

RECIPE = 1  # of the images and of the choice of classes: raise it with every change that changes a byte
SIDE = 32  # pixels
PIXELS = 3 * SIDE * SIDE  # bytes of an image
MOST_PICTURED = 1000  # classes that the report has pictures of
LARGEST = 16 * EM  # pixels: a larger glyph is a fault of the font, and would take the memory of a picture
ALIKE = 200  # squared distance of two 16 x 16 pictures in 16 greys, at and below which they show one shape
MOST_IMAGES = 10**6  # of a class
MOST_CHARACTERS = 2**22  # that all faces hold together
LARGEST_ALPHABET = 2**26  # bytes of the file in which one is kept
HANGUL = range(0xAC00, 0xD7A4)  # syllables, which Unicode defines by their parts
ONE_PROCESS = 100_000  # pictures; for fewer, starting other processes takes longer than it saves
LOOK_ALIKES = Path(__file__).with_name("look_alikes.json")  # those of the shipped fonts
SOFTENING = ImageFilter.Kernel((3, 3), (1, 2, 1, 2, 4, 2, 1, 2, 1), scale=16)


def alphabet(fonts: Fonts | None = None, jobs: int | None = None) -> dict[str, tuple[Face, ...]]:
    """Every character that can be a class, in code point order, with the faces that hold it.

    These are the letters, numbers, punctuation marks and symbols that some face draws and that Unicode does not define
    as another character with an accent, in another style or in another position. Of characters that look alike in some
    face once they are brought to one size, as Latin A, Greek Alpha and Cyrillic A do, the first is kept.

    Args:
        fonts: what to draw with; by default DejaVu and STIX, as matplotlib ships them. For these the package has a list
            of the characters that look alike. For other fonts they are found by drawing, once, and kept in `cache_dir`.
        jobs: processes to look at the fonts in; by default one a usable core, or only this one for few characters.

    Raises:
        InputError: the fonts hold fewer than two characters.
    """
    return _alphabet(fonts or shipped_fonts(), 1 if fonts is None else jobs)


@cache
def _alphabet(fonts: Fonts, jobs: int | None) -> dict[str, tuple[Face, ...]]:
    kept = _stored_alphabet(fonts)
    if kept is None:
        kept = _find_alphabet(fonts, jobs)
        _write_alphabet(fonts, kept)
    faces: dict[str, list[Face]] = defaultdict(list)
    for face, characters in kept.items():
        for character in characters:
            faces[character].append(face)
    return {character: tuple(faces[character]) for character in sorted(faces)}


def choose_characters(num_classes: int | None, fonts: Fonts | None = None, jobs: int | None = None) -> list[str]:
    """The characters that are the classes, in code point order.

    For 100 classes: five from each of the 20 blocks that the fonts draw most often, counting a character once for each
    face, spread evenly over the block. For any other number, and for fonts without such blocks: spread evenly over the
    whole alphabet. For none: the whole alphabet.

    Raises:
        InputError: there are fewer characters, or `num_classes` is below 2.
    """
    if num_classes is None:
        return list(alphabet(fonts, jobs))
    _check_number(num_classes)
    if _stored_alphabet(fonts or shipped_fonts()) is None:
        held, _ = _held(fonts or shipped_fonts())
        most = len({character for characters in held.values() for character in characters})
        if num_classes > most >= 2:  # before each of them is drawn
            raise InputError(
                f"glyphs: expected at most {most:,} classes, as the fonts have characters, got {num_classes:,}."
            )
    faces = alphabet(fonts, jobs)
    characters = list(faces)
    if num_classes > len(characters):
        raise InputError(f"glyphs: expected 2 to {len(characters)} classes, got {num_classes}.")
    if num_classes != 100:
        return _spread(characters, num_classes)
    blocks: dict[str, list[str]] = defaultdict(list)
    for character in characters:
        blocks[unicode_blocks.block(character)].append(character)
    drawings = {
        block: sum(len(faces[character]) for character in members)
        for block, members in blocks.items()
        if len(members) >= 5
    }
    if len(drawings) < 20:
        return _spread(characters, num_classes)
    chosen = sorted(drawings, key=lambda block: (-drawings[block], block))[:20]
    return sorted(character for block in chosen for character in _spread(blocks[block], 5))


def _check_number(num_classes: int) -> None:
    """What no font can serve is refused before any is read."""
    if num_classes < 2:
        raise InputError(f"glyphs: expected 2 classes or more, got {num_classes}.")
    if num_classes > CODES:
        raise InputError(f"glyphs: expected at most {CODES:,} classes, as Unicode has characters, got {num_classes:,}.")


def load_glyphs(
    num_classes: int | None = 100,
    *,
    train_per_class: int = 100,
    test_per_class: int = 25,
    seed: int = 0,
    jobs: int | None = None,
    fonts: Path | None = None,
) -> Data:
    """Draws the data set, or reads it from `cache_dir` if it was drawn before.

    Args:
        num_classes: 2 to the size of `alphabet`, or none for all of it; 100 gives 20 groups of 5, see
            `choose_characters`.
        train_per_class: training images of each class.
        test_per_class: test images of each class.
        seed: of the images; the classes do not depend on it.
        jobs: processes to draw in; by default one a usable core, or only this one where there is little to draw.
        fonts: a font file, or a folder with fonts in it and below it, to draw with; by default what matplotlib ships.

    Raises:
        InputError: a number is out of range, the fonts cannot be used, the images do not fit in memory, or the cache
            folder cannot be made.
    """
    if num_classes is not None:
        _check_number(num_classes)
    for what, value, least, most in (
        ("training images a class", train_per_class, 1, MOST_IMAGES),
        ("test images a class", test_per_class, 1, MOST_IMAGES),
        ("seed", seed, 0, 2**64),
        ("processes", 1 if jobs is None else jobs, 1, 2**10),
    ):
        if value < least:
            raise InputError(f"glyphs: expected {least} or more as {what}, got {value}.")
        if value > most:
            raise InputError(f"glyphs: expected {most:,} or less as {what}, got {value}.")
    named = None if fonts is None else find_fonts(fonts)
    count = "all" if num_classes is None else str(num_classes)
    images = f"{count} classes with {train_per_class:,} training and {test_per_class:,} test images each"
    each = train_per_class + test_per_class
    if num_classes is not None:
        _check_memory(num_classes * each * PIXELS, images)
    versions = f"pillow{version('pillow')}-freetype{features.version('freetype2')}-"
    versions += f"matplotlib{version('matplotlib')}" if named is None else _of_fonts(named)
    drawing = f"{count}x{train_per_class}+{test_per_class}-seed{seed}-recipe{RECIPE}"
    path = cache_dir() / "glyphs" / f"{drawing}-{versions}.safetensors"
    stored = None
    if path.exists():
        _check_memory(check_regular(path), images)
        stored = _read(path, train_per_class, test_per_class)
    if stored is None:
        characters = choose_characters(num_classes, named, jobs)
        _check_memory(len(characters) * each * PIXELS, images)
        _make_folder(path.parent)
        faces = [alphabet(named, jobs)[character] for character in characters]
        stored = characters, *_draw_all(characters, faces, train_per_class, test_per_class, seed, jobs)
        _write(path, *stored)
    characters, train, test = stored
    blocks = [unicode_blocks.block(character) for character in characters]
    group_names = list(dict.fromkeys(blocks))
    number = {block: place for place, block in enumerate(group_names)}
    labels = torch.arange(len(characters))
    used = named or shipped_fonts()
    return Data(
        name="-".join(filter(None, ("glyphs" if num_classes == 100 else f"glyphs:{count}", used.name))),
        description=(
            f"Characters grouped by Unicode block, drawn in random faces of {used}, sizes, "
            "rotations, shears, positions, stroke widths, colours, blur and noise."
        ),
        source="rendered" if named is None else f"rendered with {named.name}",
        train_inputs=train,
        train_labels=labels.repeat_interleave(train_per_class),
        test_inputs=test,
        test_labels=labels.repeat_interleave(test_per_class),
        class_names=[f"{character} {_name(character)}" for character in characters],
        group_names=group_names,
        group_of_class=[number[block] for block in blocks],
        class_pictures=_plain_pictures(characters, used),
    )


def _check_memory(size: int, images: str) -> None:
    check_memory(size, "glyphs", images, "; take fewer classes or fewer images a class")


def _name(character: str) -> str:
    name = unicodedata.name(character, "") or f"{unicode_blocks.block(character)}-{ord(character):x}"
    return name.capitalize().replace("Cjk", "CJK")


def _spread(characters: Sequence[str], count: int) -> list[str]:
    return [characters[(2 * place + 1) * len(characters) // (2 * count)] for place in range(count)]


# The alphabet


def list_look_alikes() -> str:
    """The content of the file `LOOK_ALIKES`: all characters of the shipped fonts that look like another one.

    They are found by drawing. Write the file anew when `RECIPE` or the shipped fonts change::

        python -c 'from softmaxes.lab.data import glyphs; glyphs.LOOK_ALIKES.write_text(glyphs.list_look_alikes())'
    """
    fonts = shipped_fonts()
    own, _ = _held(fonts)
    kept = _find_alphabet(fonts, 1)
    left_out = set().union(*own.values()).difference(*kept.values())
    return json.dumps({"recipe": RECIPE, "fonts": _shipped_digest(), "characters": "".join(sorted(left_out))}) + "\n"


def _known_alphabet(fonts: Fonts) -> dict[Face, str] | None:
    """The alphabet of the shipped fonts without drawing them; none for other fonts, and for a newer or older set."""
    known = json.loads(LOOK_ALIKES.read_text("utf-8"))
    if fonts != shipped_fonts() or (known["recipe"], known["fonts"]) != (RECIPE, _shipped_digest()):
        return None
    own, _ = _held(fonts)
    left_out = set(known["characters"])
    return {face: "".join(each for each in some if each not in left_out) for face, some in own.items()}


@cache
def _shipped_digest() -> str:
    digest = hashlib.sha256()
    for file in shipped_fonts().files:
        digest.update(file.read_bytes())
    return digest.hexdigest()


def _find_alphabet(fonts: Fonts, jobs: int | None) -> dict[Face, str]:
    """The alphabet, from the fonts themselves: the characters of each face."""
    own, unreadable = _held(fonts)
    total = sum(map(len, own.values()))
    if total > MOST_CHARACTERS:
        raise InputError(
            f"{fonts}: expected faces with at most {MOST_CHARACTERS:,} characters together, got {total:,}."
        )
    if jobs is None:
        jobs = 1 if total <= ONE_PROCESS else usable_cores()
    chunks = [(face, some[at : at + 1000]) for face, some in own.items() for at in range(0, len(some), 1000)]
    faces, parts = [face for face, _ in chunks], [part for _, part in chunks]
    drawn = _side_by_side(_pictures, faces, parts, jobs=jobs, description="Looking at fonts")
    drawn_by: dict[Face, str] = {}
    alike: list[Pairs] = []
    first: list[tuple[str, Pixels]] = []  # in the first face that holds it: compares those that share no face
    seen: set[str] = set()
    sheet: list[tuple[str, Pixels]] = []
    for face, following, pictures in zip(faces, [*faces, None][1:], drawn, strict=True):
        sheet.append(pictures)
        if face != following:  # the face is complete
            drawn_by[face], rows = "".join(some for some, _ in sheet), np.concatenate([rows for _, rows in sheet])
            alike.append(_alike(drawn_by[face], rows))
            new = [place for place, character in enumerate(drawn_by[face]) if character not in seen]
            first.append(("".join(drawn_by[face][place] for place in new), rows[new]))
            seen.update(drawn_by[face])
            sheet = []
    if seen:
        alike.append(_alike("".join(some for some, _ in first), np.concatenate([rows for _, rows in first])))
    dropped: set[int] = set()
    for pair in sorted({pair for pairs in alike for pair in pairs.tolist()}):
        one, other = divmod(pair, CODES)
        if one not in dropped:
            dropped.add(other)
    if len(seen) - len(dropped) < 2:
        reason = f" ({unreadable[0][1]})" if unreadable else ""
        raise InputError(
            f"{fonts.files[0] if len(fonts.files) == 1 else fonts}: expected fonts with two characters or more "
            f"that can be told apart, got {len(seen) - len(dropped)}{reason}."
        )
    if unreadable:
        report_unreadable([(Path(file.name), reason) for file, reason in unreadable])
    return {face: "".join(each for each in some if ord(each) not in dropped) for face, some in drawn_by.items()}


@lru_cache(maxsize=1)
def _held(fonts: Fonts) -> tuple[dict[Face, list[str]], list[tuple[Path, str]]]:
    """The characters of each face that could be classes, and why other faces cannot be used."""
    held, unreadable = read_faces(fonts)
    return {face: [each for each in characters if _is_own(each)] for face, characters in held.items()}, unreadable


def _is_own(character: str) -> bool:
    """Whether it is a letter, number, mark or symbol that Unicode does not define by another character."""
    if unicodedata.category(character)[0] not in "LNPS":
        return False
    return unicodedata.normalize("NFKD", character) == character or ord(character) in HANGUL


def _pictures(face: Face, characters: Sequence[str]) -> tuple[str, Pixels]:
    """The characters that the face draws, and each of them as large as fits in 16 x 16 pixels of 16 greys: (N, 256)."""
    drawn, pictures = "", [np.empty((0, 256), dtype=np.uint8)]
    for character in characters:
        try:
            ink = _ink(character, face, 0)
        except OSError:  # its outline is broken: the face does not hold it
            continue
        if ink.getbbox():
            drawn += character
            pictures.append(np.asarray(_placed(ink, size=60).reduce(4)).reshape(1, 256) // np.uint8(16))
    return drawn, np.concatenate(pictures)


def _alike(characters: str, pictures: Pixels) -> Pairs:
    """The pairs of characters that show one shape, as `CODES` times the smaller code point plus the other."""
    codes = np.array([ord(character) for character in characters])
    rows = pictures.astype(np.float32)  # whole numbers, and their products and sums too: exact
    squares, ones = (rows * rows).sum(axis=1, keepdims=True), np.ones((len(rows), 1), dtype=np.float32)
    left, right = np.hstack((-2 * rows, squares, ones)), np.hstack((rows, ones, squares))  # their product: distances
    pairs = [np.empty(0, dtype=np.int64)]
    for start in range(0, len(rows), 512):
        one, other = np.nonzero(left[start : start + 512] @ right[start:].T <= ALIKE)
        one, other = codes[start + one[one < other]], codes[start + other[one < other]]
        pairs.append(np.minimum(one, other) * CODES + np.maximum(one, other))
    return np.concatenate(pairs)


# The images


@lru_cache(maxsize=128)
def _ink(character: str, face: Face, stroke: int) -> Image.Image:
    """The character in white on black, cropped to a margin of one pixel; all black where the face leaves it blank.

    Raises:
        OSError: the face cannot draw it.
    """
    try:
        font = open_face(face)
        left, top, right, bottom = (int(edge) for edge in font.getbbox(character, stroke_width=stroke))
        if max(right - left, bottom - top) > LARGEST:
            raise OSError(f"a glyph of {right - left} x {bottom - top} pixels")
        canvas = Image.new("L", (max(right - left, 0) + 4, max(bottom - top, 0) + 4))
        ImageDraw.Draw(canvas).text((2 - left, 2 - top), character, fill=255, font=font, stroke_width=stroke)
    except OSError:
        raise
    except Exception as error:  # a broken outline can lead to anything
        raise OSError(" ".join(str(error).split()) or type(error).__name__) from error
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


def _plain_pictures(characters: Sequence[str], fonts: Fonts) -> list[bytes]:
    """A picture of each character; none of very many, and where the alphabet is not known without drawing it."""
    known = _stored_alphabet(fonts) if len(characters) <= MOST_PICTURED else None
    if known is None:
        return []
    face_of = {character: face for face, some in reversed(known.items()) for character in some}
    return [_picture(character, face_of[character]) for character in characters]


def _picture(character: str, face: Face) -> bytes:
    """The plain character as a PNG file of 16 opacities."""
    shades = bytes(pixel >> 4 for pixel in _placed(_ink(character, face, 0), size=60).reduce(2).tobytes())
    image, file = Image.frombytes("P", (SIDE, SIDE), shades), io.BytesIO()
    image.putpalette([0] * 48)
    image.save(file, "PNG", optimize=True, bits=4, transparency=bytes(range(0, 256, 17)))
    return file.getvalue()


def _draw(character: str, faces: Sequence[Face], seed: int, part: int, index: int) -> Pixels:
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
    character: str, faces: Sequence[Face], train_per_class: int, test_per_class: int, seed: int
) -> tuple[Pixels, Pixels]:
    try:
        train = [_draw(character, faces, seed, 0, index) for index in range(train_per_class)]
        test = [_draw(character, faces, seed, 1, index) for index in range(test_per_class)]
    except OSError as error:
        files = ", ".join(dict.fromkeys(str(face.file) for face in faces))
        raise InputError(f"{files}: expected fonts that draw {character!a}, got {error}.") from None
    return np.stack(train), np.stack(test)


def _draw_all(
    characters: Sequence[str],
    faces: Sequence[Sequence[Face]],
    train_per_class: int,
    test_per_class: int,
    seed: int,
    jobs: int | None,
) -> tuple[Tensor, Tensor]:
    """Training and test images, class after class."""
    if jobs is None:
        little = len(characters) * (train_per_class + test_per_class) < 5000
        jobs = 1 if little else usable_cores()
    train = np.empty((len(characters), train_per_class, 3, SIDE, SIDE), dtype=np.uint8)
    test = np.empty((len(characters), test_per_class, 3, SIDE, SIDE), dtype=np.uint8)
    draw_class = partial(_draw_class, train_per_class=train_per_class, test_per_class=test_per_class, seed=seed)
    drawn = _side_by_side(draw_class, characters, faces, jobs=jobs, description="Drawing glyphs")
    for label, (train_images, test_images) in enumerate(drawn):
        train[label], test[label] = train_images, test_images
    return torch.from_numpy(train).flatten(0, 1), torch.from_numpy(test).flatten(0, 1)


def _side_by_side(
    function: Callable[..., Drawn], *arguments: Sequence[object], jobs: int, description: str
) -> Iterator[Drawn]:
    """As `map`, in `jobs` processes, with a bar."""
    number = len(arguments[0])
    with ExitStack() as stack:
        console = Console(stderr=True)
        progress = stack.enter_context(Progress(console=console, transient=True, disable=not console.is_terminal))
        drawn: Iterator[Drawn] = map(function, *arguments)
        if jobs > 1:
            context = multiprocessing.get_context("spawn")
            alive, end = context.Pipe(duplex=False)
            with held_back((signal.SIGINT,)):  # not SIGTERM: so a pool ends those that are left when one has died
                pool = ProcessPoolExecutor(jobs, context, initializer=follow_parent, initargs=((signal.SIGINT,), alive))
                stack.callback(pool.shutdown, cancel_futures=True)
                stack.callback(end.close)  # or what is begun would be drawn first
                with without_script():
                    drawn = pool.map(function, *arguments, chunksize=min(number // (8 * jobs) + 1, 64))
        try:
            yield from progress.track(drawn, total=number, description=description)
        except BrokenProcessPool as error:
            raise InputError(
                f"{jobs} jobs: expected the processes that draw to finish, got one that died; draw with one job."
            ) from error


# The cache


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{folder}: expected a folder that can be made, got {error.strerror}.") from error


def _of_fonts(fonts: Fonts) -> str:
    """What the alphabet of named fonts depends on besides the recipe and the versions that draw."""
    return f"unicode{unicodedata.unidata_version}-fonts{fonts.digest}"


def _alphabet_file(fonts: Fonts) -> Path:
    versions = f"pillow{version('pillow')}-freetype{features.version('freetype2')}-{_of_fonts(fonts)}"
    return cache_dir() / "glyphs" / f"alphabet-recipe{RECIPE}-{versions}.json"


def _stored_alphabet(fonts: Fonts) -> dict[Face, str] | None:
    """The alphabet without drawing it, or none where that is not known."""
    return _known_alphabet(fonts) or _read_alphabet(fonts)


def _read_alphabet(fonts: Fonts) -> dict[Face, str] | None:
    """What `_write_alphabet` stored, or none if there is no such file or it was damaged."""
    if not fonts.digest:
        return None
    try:
        stored = json.loads(read_whole(_alphabet_file(fonts), LARGEST_ALPHABET))
        if stored["sha256"] != hashlib.sha256(json.dumps(stored["faces"]).encode()).hexdigest():
            return None
        return {
            Face(fonts.files[place], number, fonts.contents[place]): characters
            for place, number, characters in stored["faces"]
        }
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return None


def _write_alphabet(fonts: Fonts, kept: dict[Face, str]) -> None:
    if not fonts.digest:
        return
    faces = [[fonts.files.index(face.file), face.number, characters] for face, characters in kept.items()]
    text = json.dumps({"sha256": hashlib.sha256(json.dumps(faces).encode()).hexdigest(), "faces": faces})
    path = _alphabet_file(fonts)
    _make_folder(path.parent)
    write_whole(path, lambda part: part.write_text(text, "utf-8"))


def _digest(characters: Sequence[str], train: Tensor, test: Tensor) -> str:
    digest = hashlib.sha256("".join(characters).encode())
    digest.update(train.numpy().data)
    digest.update(test.numpy().data)
    return digest.hexdigest()


def _read(path: Path, train_per_class: int, test_per_class: int) -> tuple[list[str], Tensor, Tensor] | None:
    """What `_write` stored, or none if there is no such file or it was damaged."""
    try:
        with safe_open(path, framework="pt") as file:
            stored = dict(file.metadata())
            train, test = file.get_tensor("train"), file.get_tensor("test")
        characters = list(stored["characters"])
        for tensor, each in ((train, train_per_class), (test, test_per_class)):
            if tensor.dtype != torch.uint8 or tensor.shape != (len(characters) * each, 3, SIDE, SIDE):
                return None
        return (characters, train, test) if stored["sha256"] == _digest(characters, train, test) else None
    except Exception:  # a damaged file can raise anything
        return None


def _write(path: Path, characters: Sequence[str], train: Tensor, test: Tensor) -> None:
    metadata = {"characters": "".join(characters), "sha256": _digest(characters, train, test)}
    write_whole(path, lambda part: save_file({"train": train, "test": test}, part, metadata))
