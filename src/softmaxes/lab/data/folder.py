"""The user's own images: one folder a class, of any size and any format that Pillow reads."""

import multiprocessing
import os
import re
import unicodedata
import warnings
from collections import defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import cache, partial
from itertools import islice
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from rich.console import Console
from rich.progress import Progress

from softmaxes.files import InputError, open_regular
from softmaxes.lab.data.dataset import Data, check_memory, clip
from softmaxes.lab.machine import usable_cores
from softmaxes.lab.starting import without_script
from softmaxes.names import plural

SPLIT = {  # words in the names of folders that are no classes, in the order in which one to test on is chosen
    "train": "train|training|trn|trainval",
    "test": "test|testing|tst|holdout|heldout",
    "validation": "val|valid|validate|validation|dev|devel|development|eval|evaluation",
    "unlabelled": "pred|predict|prediction|unlabelled|unlabeled",
}
BESIDE = "set|data|images?|imgs?|pictures?|photos?|samples?|examples?|split|part"  # what else such a name may say
_OF_SPLIT = re.compile(
    f"(?:{BESIDE})?(?:{'|'.join(f'(?P<{part}>{words})' for part, words in SPLIT.items())})(?:{BESIDE})*"
)
_OF_NOTHING = re.compile(f"(?:{BESIDE})*")
_MARKER = re.compile(rb"\xff([\x02-\xcf\xd8-\xfe])")  # of a part of a JPEG; within a scan there is none
IN_PROCESS_LIMIT = 2000  # images; for fewer, starting other processes takes longer than it saves
LISTED = 20
NAMED = 5  # classes without a test image, in the description
RUNS_A_PROGRAM = {"EPS"}  # formats that Pillow hands to another program to draw
MOST_FILES = 2**21  # files and folders in a folder
MOST_DEPTH = 64  # folders within folders
MOST_PIXELS = 61_000_000  # of an image: the largest cameras'; each may take 16 bytes
MOST_SCANS = 100  # of a JPEG: each goes over all its pixels, and a progressive one has some ten
LARGEST_FILE = 2**28  # bytes of an image

Pixels = npt.NDArray[np.uint8]


def load_folder(
    data_dir: Path, *, image_size: int = 32, test_share: float = 0.2, seed: int = 0, jobs: int | None = None
) -> Data:
    """Reads images from folders named after their classes.

    Three ways to lay the folders out are known: ``class/image``, where images may also lie in folders further down;
    ``group/class/image``, where no image lies directly in a group and no two groups have a class of one name; and
    ``class/only-folder/image``. Hidden files are ignored. Classes are sorted by character code: capitals first, ``10``
    before ``9``.

    Above them may be a folder to train on and one to test on, or to validate on if there is none to test on. They are
    known by their names, such as ``train`` and ``test``, ``Training`` and ``Testing``, ``train2017`` and ``val2017``,
    ``seg_train`` and ``seg_test``; see `SPLIT`.

    An image is turned as its EXIF orientation says, laid on white where it is transparent, scaled so that its shorter
    side fits and cropped to the square in its centre. Of an animation the first frame counts. Files that are no image,
    are cut off, or are so large that they look like an attack are skipped and listed on stderr.

    Args:
        data_dir: the folder of folders.
        image_size: width and height of the images in pixels.
        test_share: share of each class that is held out for the test, if the folders do not say; at least one image.
        seed: of the choice of these test images.
        jobs: how many processes decode; by default one a core, and for small sets none but this one.

    Raises:
        InputError: the folders fit none of the layouts, a class lacks training images, or a test class is unknown.
    """
    if not data_dir.is_dir():
        raise InputError(f"{data_dir}: expected a folder of folders of images, got no folder of that name.")
    if image_size < 1:
        raise InputError(f"image_size: expected at least 1 pixel, got {image_size}.")
    if not 0 < test_share < 1:
        raise InputError(f"test_share: expected a share between 0 and 1, got {test_share}.")
    if seed < 0:
        raise InputError(f"seed: expected 0 or more, got {seed}.")
    train_dir, *others = _find_parts(data_dir)
    parts = [folder.relative_to(data_dir).as_posix() for folder in (train_dir, *others)]
    if not all(map(str.isprintable, parts)):
        raise InputError(f"{data_dir}: expected folder names of printable characters, got {' and '.join(parts)!a}.")
    train_files, grouped = _list_classes(train_dir)
    class_names = sorted(train_files)
    files = [path for name in class_names for path in train_files[name]]
    labels = [label for label, name in enumerate(class_names) for _ in train_files[name]]
    part_of_file = [0] * len(files)
    for part, other in enumerate(others, 1):
        other_files, _ = _list_classes(other, grouped, may_lack=True)
        if unknown := sorted(set(other_files) - set(train_files)):
            raise InputError(f"{other}: expected the classes of {train_dir}, got {unknown[0]}, which it lacks.")
        files += [path for name in class_names for path in other_files.get(name, ())]
        labels += [label for label, name in enumerate(class_names) for _ in other_files.get(name, ())]
        part_of_file += [part] * (len(files) - len(part_of_file))
    check_memory(
        len(files) * 3 * image_size**2,
        str(data_dir),
        f"{len(files):,} images of {image_size}x{image_size} pixels",
    )

    images, reasons = _decode_all(files, image_size, jobs)
    if reasons:
        report_unreadable([(files[index].relative_to(data_dir), reason) for index, reason in reasons.items()])
    readable = np.array([index not in reasons for index in range(len(files))])
    label_of_file = np.array(labels, dtype=np.int64)
    part_of = np.array(part_of_file)
    if not others:
        in_test = _choose_test(label_of_file, readable, class_names, data_dir, test_share, seed)
        split = f"a share of {test_share:g} of each class held out as test images at seed {seed}"
    else:
        in_test = part_of == 1
        split = f"split as in {', '.join(f'{part}/' for part in parts[:-1])} and {parts[-1]}/"
    train, test = np.flatnonzero(readable & ~in_test), np.flatnonzero(readable & in_test)
    validation = part_of[train] == 2
    if len(others) > 1 and not validation.any():
        raise InputError(f"{others[1]}: expected a validation image, got none that can be read.")
    without = [
        np.flatnonzero(np.bincount(label_of_file[rows], minlength=len(class_names)) == 0)
        for rows in (train[~validation], test)
    ]
    for label in without[0]:
        raise InputError(
            f"{train_dir}: expected a training image of class {class_names[label]}, got none that can be read."
        )
    if len(test) == 0:
        raise InputError(f"{others[0] if others else data_dir}: expected a test image, got none that can be read.")
    if len(without[1]):
        split += (
            f"; {plural(len(without[1]), 'class', 'classes')} without a test image: {_some(without[1], class_names)}"
        )

    group_names = sorted({name.partition("/")[0] for name in class_names}) if grouped else None
    number = {group: place for place, group in enumerate(group_names or ())}
    title = data_dir.resolve().name or "images"
    return Data(
        name=title,
        description=(
            f"Images from folders, scaled and cropped to {image_size}x{image_size} pixels in colour, {split}."
        ),
        source=str(data_dir),
        train_inputs=torch.from_numpy(images[train]),
        train_labels=torch.from_numpy(label_of_file[train]),
        test_inputs=torch.from_numpy(images[test]),
        test_labels=torch.from_numpy(label_of_file[test]),
        class_names=class_names,
        group_names=group_names,
        group_of_class=[number[name.partition("/")[0]] for name in class_names] if grouped else None,
        validation=torch.from_numpy(validation) if validation.any() else None,
    )


# Finding the images


def _find_parts(data_dir: Path) -> tuple[Path, ...]:
    """The folders with the training, the test and the validation classes, as many as are apart."""
    place = data_dir
    for _ in range(MOST_DEPTH):
        folders = _subfolders(place)
        if parts := _split(place, folders):
            return tuple(map(_unwrapped, parts))
        if len(folders) != 1 or _holds_images(place):
            break
        place = folders[0]  # an archive often unpacks to a folder that holds what matters
    return (data_dir,)


def _split(place: Path, folders: Sequence[Path]) -> tuple[Path, ...] | None:
    """Of the folders in a place those to train, to test and perhaps to validate on, if their names say so."""
    known: dict[tuple[str, ...], dict[str, list[Path]]] = defaultdict(lambda: defaultdict(list))
    for folder in folders:
        if said := _part_of_split(folder.name):
            part, rest = said
            known[rest][part].append(folder)
    with_train = [parts for parts in known.values() if "train" in parts]
    pairs = [parts for parts in with_train if "test" in parts or "validation" in parts]
    if not pairs:
        if len(with_train) == 1 and len(folders) == sum(map(len, with_train[0].values())):
            train = with_train[0]["train"][0]
            raise InputError(
                f"{place}: expected a folder such as test or val beside {train.name}, got {train.name} alone; "
                f"give {train} to have test images chosen from it."
            )
        return None
    trains = pairs[0]["train"]
    known_tests = [pairs[0][part] for part in ("test", "validation") if part in pairs[0]]
    labelled = [some for some in known_tests if any(map(_subfolders, some))]
    tests, *validations = labelled or known_tests[:1]
    for some, use in ((trains, "test"), (tests, "test"), *((one, "validate") for one in validations)):
        if len(some) > 1:
            raise InputError(
                f"{place}: expected one folder to train on and one to {use} on, got {some[0].name} and {some[1].name}."
            )
    split = {folder.name for some in pairs[0].values() for folder in some}
    for folder in folders:
        if folder.name not in split:
            raise InputError(
                f"{place}: expected folders of classes or {trains[0].name} and {tests[0].name}, not both, "
                f"got {folder.name} beside {trains[0].name}."
            )
    return trains[0], tests[0], *(some[0] for some in validations)


def _part_of_split(name: str) -> tuple[str, tuple[str, ...]] | None:
    """Which part of a split a folder's name says it is, and what else the name says; none if it says no part or two."""
    found, rest = set(), []
    name = re.sub(r"(?i)(hold|held)[\W_]+out", "holdout", name)
    for word in re.split(r"[\W\d_]+|(?<=[a-z])(?=[A-Z])", name):
        if match := _OF_SPLIT.fullmatch(word.lower()):
            found.add(str(match.lastgroup))
        elif not _OF_NOTHING.fullmatch(word.lower()):
            rest.append(word.lower())
    if found == {"train", "validation"}:
        found = {"train"}
    return (found.pop(), tuple(rest)) if len(found) == 1 else None


def _unwrapped(folder: Path) -> Path:
    """The folder with the classes: some archives wrap it in others, of its own name or of none of a class."""
    for _ in range(MOST_DEPTH):
        folders = _subfolders(folder)
        if len(folders) != 1 or _holds_images(folder):
            break
        if not (_part_of_split(folders[0].name) or _OF_NOTHING.fullmatch(folders[0].name.lower())):
            break
        folder = folders[0]
    return folder


def _some(labels: npt.NDArray[np.int64], class_names: Sequence[str]) -> str:
    """The names of some classes, or of the first few of many."""
    more = ", …" if len(labels) > NAMED else ""
    return clip(", ".join(class_names[label] for label in labels[:NAMED].tolist())) + more


def _list_classes(
    root: Path, grouped: bool | None = None, may_lack: bool = False
) -> tuple[dict[str, list[Path]], bool]:
    """The files of each class below `root`, and whether the first level is groups: found out if `grouped` is None.

    Where classes may lack files, an empty folder is one without.
    """
    tops = _subfolders(root)
    if not tops:
        raise InputError(f"{root}: expected a folder for each class, got no folders.")
    if grouped is None:
        grouped = _is_grouped(root, tops)
    classes = [folder for top in tops for folder in _subfolders(top)] if grouped else tops
    if grouped:
        _check_groups(root, classes)
    files: dict[str, list[Path]] = {}
    total = 0
    for folder in classes:
        name = folder.relative_to(root).as_posix()
        if not name.isprintable():
            raise InputError(f"{root}: expected class names of printable characters, got {name!a}.")
        files[name] = sorted(files_below(folder, hidden=False))
        if not files[name] and not may_lack:
            raise InputError(f"{root}: expected an image of class {name}, got an empty folder.")
        total += len(files[name])
        if total > MOST_FILES:
            raise InputError(f"{root}: expected at most {MOST_FILES:,} images, got more.")
    return files, grouped


def _check_groups(root: Path, classes: Sequence[Path]) -> None:
    """Groups with classes of one name are the parts of a split, or one of the names is wrong."""
    first: dict[str, Path] = {}
    for folder in classes:
        name = unicodedata.normalize("NFKC", folder.name).casefold()
        group = first.setdefault(name, folder).parent
        if group != folder.parent:
            raise InputError(
                f"{root}: expected a class in one group alone, or folders with names such as train and test, "
                f"got {first[name].name} in {group.name} and {folder.name} in {folder.parent.name}."
            )


def _is_grouped(root: Path, tops: Sequence[Path]) -> bool:
    """Whether the folders at the top are groups of classes."""
    flat = [top for top in tops if _holds_images(top) or not _subfolders(top)]
    nested = [top for top in tops if top not in flat]
    if flat and nested:
        raise InputError(
            f"{root}: expected either classes or groups of classes in every folder, "
            f"got images in {flat[0].name} and only folders in {nested[0].name}."
        )
    return any(len(_subfolders(top)) > 1 for top in nested)


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    with os.scandir(folder) as entries:
        found = list(islice(entries, MOST_FILES + 1))
    if len(found) > MOST_FILES:
        raise InputError(f"{folder}: expected a folder of at most {MOST_FILES:,} files, got more.")
    return found


def _subfolders(folder: Path) -> list[Path]:
    return sorted(
        Path(entry)
        for entry in _entries(folder)
        if not entry.name.startswith(".") and (Path(entry).is_dir() if entry.is_symlink() else entry.is_dir())
    )


def _is_file(entry: os.DirEntry[str]) -> bool:
    return Path(entry).is_file() if entry.is_symlink() else entry.is_file()  # a link may lead to itself


def _holds_images(folder: Path) -> bool:
    """Whether a file directly in `folder` is named like an image."""
    known = Image.registered_extensions()
    return any(
        not entry.name.startswith(".") and Path(entry.name).suffix.lower() in known and _is_file(entry)
        for entry in _entries(folder)
    )


def files_below(folder: Path, *, hidden: bool) -> Iterator[Path]:
    """The files in a folder and in those below it, in no order; links to folders are not followed.

    Args:
        folder: the folder.
        hidden: whether what is hidden counts too.

    Raises:
        InputError: the folders are too many, or too deep within one another.
    """
    waiting, count = [(folder, 0)], 0
    while waiting:
        parent, depth = waiting.pop()
        for entry in _entries(parent):
            count += 1
            if count > MOST_FILES:
                raise InputError(f"{folder}: expected at most {MOST_FILES:,} files and folders below it, got more.")
            if not hidden and entry.name.startswith("."):
                continue
            if not entry.is_dir(follow_symlinks=False):
                if _is_file(entry):
                    yield Path(entry)
            elif depth < MOST_DEPTH:
                waiting.append((Path(entry), depth + 1))
            else:
                raise InputError(f"{folder}: expected folders within folders up to {MOST_DEPTH} times, got more.")


def _choose_test(
    labels: npt.NDArray[np.int64],
    readable: npt.NDArray[np.bool_],
    class_names: Sequence[str],
    data_dir: Path,
    test_share: float,
    seed: int,
) -> npt.NDArray[np.bool_]:
    """Which files are held out: the same share of every class, at least one image for either side."""
    generator = np.random.default_rng(seed)
    in_test = np.zeros(len(labels), dtype=bool)
    usable = np.flatnonzero(readable)
    usable = usable[labels[usable].argsort(kind="stable")]
    counts = np.bincount(labels[usable], minlength=len(class_names))
    for name, rows in zip(class_names, np.split(usable, counts.cumsum()[:-1]), strict=True):
        if len(rows) < 2:
            raise InputError(
                f"{data_dir}: expected at least 2 readable images of class {name}, one to train on and one to test, "
                f"got {len(rows)}."
            )
        held_out = min(max(round(len(rows) * test_share), 1), len(rows) - 1)
        in_test[generator.permutation(rows)[:held_out]] = True
    return in_test


# Decoding


def _decode_all(files: Sequence[Path], image_size: int, jobs: int | None) -> tuple[Pixels, dict[int, str]]:
    """All images, (N, 3, size, size), and why the unreadable ones are, by index; their pixels are zero."""
    images = np.zeros((len(files), 3, image_size, image_size), dtype=np.uint8)
    reasons = {}
    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("Reading images", total=len(files))
        for index, decoded in enumerate(decoded_images(files, (image_size, image_size), jobs)):
            if isinstance(decoded, str):
                reasons[index] = decoded
            else:
                images[index] = decoded
            progress.advance(task)
    return images, reasons


def decoded_images(files: Sequence[Path], size: tuple[int, int], jobs: int | None = None) -> Iterator[Pixels | str]:
    """Each image as (3, height, width), or in words why there is none; turned, laid on white, scaled and cropped.

    Args:
        files: what to read.
        size: height and width.
        jobs: how many processes decode; by default one a core, and for few images none but this one.
    """
    if jobs is None:
        jobs = usable_cores() if len(files) > IN_PROCESS_LIMIT else 1
    decode = partial(_decode, size=size)
    if jobs <= 1:
        yield from map(decode, files)
        return
    try:
        with ProcessPoolExecutor(jobs, mp_context=multiprocessing.get_context("spawn")) as pool:
            with without_script():
                decoded = pool.map(decode, files, chunksize=64)
            yield from decoded
    except BrokenProcessPool as error:
        raise InputError(
            f"{jobs} jobs: expected the processes that decode images to finish, got one that died; decode with one job."
        ) from error


@cache
def _formats() -> list[str]:
    """The formats that Pillow reads by itself."""
    Image.init()
    return sorted(set(Image.ID) - RUNS_A_PROGRAM)


def _decode(path: Path, size: tuple[int, int]) -> Pixels | str:
    """The image of a file as (3, height, width), or in words why there is none."""
    try:
        with open_regular(path, LARGEST_FILE) as file:
            return decoded(file, size)
    except (OSError, InputError) as error:
        return _reason(error, f"{path}: ")


def decoded(file: BinaryIO, size: tuple[int, int]) -> Pixels | str:
    """An image as (3, height, width), or in words why there is none; turned, laid on white, scaled and cropped.

    Args:
        file: its bytes, which may be a stranger's.
        size: height and width.
    """
    height, width = size
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        try:
            with Image.open(file, formats=_formats()) as opened:
                opened.draft(None, (4 * width, 4 * height))  # lets a JPEG skip detail nobody will see
                if opened.width * opened.height > MOST_PIXELS:
                    raise ValueError(f"{opened.width} x {opened.height} pixels, which are more than {MOST_PIXELS:,}")
                if opened.format in ("JPEG", "MPO") and _scans(file) > MOST_SCANS:
                    raise ValueError(f"more than {MOST_SCANS} scans")
                ImageOps.exif_transpose(opened, in_place=True)
                fitted = ImageOps.fit(_to_rgb(opened), (width, height), Image.Resampling.LANCZOS)
                return np.asarray(fitted).transpose(2, 0, 1)
        except UnidentifiedImageError:
            return "no image, or of an unknown format"
        except Exception as error:  # a broken image can raise anything
            return _reason(error)


def _reason(error: Exception, place: str = "") -> str:
    said = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return clip(" ".join(said.removeprefix(place).split()).rstrip(".")) or type(error).__name__


def _scans(file: BinaryIO) -> int:
    """How many scans a JPEG has, as far as it matters."""
    file.seek(0)  # Pillow looks for what it needs by itself
    content, scans, place = file.read(), 0, 0
    while scans <= MOST_SCANS and (marker := _MARKER.search(content, place)) and marker[1] != b"\xd9":  # its end
        scans += marker[1] == b"\xda"
        place = marker.end()
        if marker[1] != b"\xd8":  # its start, the only one without a length, which counts itself
            place += int.from_bytes(content[place : place + 2], "big")
    return scans


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):  # grey, 0..65535
        grey = np.array(image, dtype=np.float64)
        grey.clip(0, 65535, out=grey)
        grey /= 257
        return Image.fromarray(np.rint(grey, out=grey).astype(np.uint8)).convert("RGB")
    if image.mode == "F":
        raise ValueError("floating-point pixels, of which white is unknown")
    if image.has_transparency_data:
        opaque = image if image.mode == "RGBA" else image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", opaque.size, "white"), opaque).convert("RGB")
    return image if image.mode == "RGB" else image.convert("RGB")


def report_unreadable(unreadable: Sequence[tuple[Path, str]]) -> None:
    """List on stderr what was skipped, and why."""
    lines = [f"{len(unreadable)} unreadable {'file' if len(unreadable) == 1 else 'files'} skipped:"]
    lines += [f"{path.as_posix()}: {reason}" for path, reason in unreadable[:LISTED]]
    if len(unreadable) > LISTED:
        lines.append(f"and {len(unreadable) - LISTED} more")
    console = Console(stderr=True)
    for line in lines:
        shown = "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in line)
        console.print(shown, markup=False, highlight=False, soft_wrap=True, emoji=False)
