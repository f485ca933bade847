"""The user's own images: one folder a class, of any size and any format that Pillow reads."""

import multiprocessing
import os
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import cache, partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from rich.console import Console
from rich.progress import Progress

from softmaxes.lab import InputError
from softmaxes.lab.data import Data, usable_cores

TEST_FOLDERS = ("test", "val", "valid", "validation")
IN_PROCESS_LIMIT = 2000  # up to so many images, starting other processes takes longer than it saves
LISTED = 20
RUNS_A_PROGRAM = {"EPS"}  # formats that Pillow hands to another program to draw

Pixels = npt.NDArray[np.uint8]


def load_folder(
    data_dir: Path, *, image_size: int = 32, test_share: float = 0.2, seed: int = 0, jobs: int | None = None
) -> Data:
    """Reads images from folders named after their classes.

    Three ways to lay the folders out are known, with or without ``train`` and one of ``test``, ``val``, ``valid`` or
    ``validation`` above them (if there are several of these, the first in this order is used): ``class/image``, where
    images may also lie in folders further down; ``group/class/image``, where no image lies directly in a group; and
    ``class/only-folder/image``. Hidden files are ignored. Classes are sorted by character code: capitals first, ``10``
    before ``9``.

    An image is turned as its EXIF orientation says, laid on white where it is transparent, scaled so that its shorter
    side fits and cropped to the square in its centre. Of an animation the first frame counts. Files that are no image,
    are cut off, or are so large that they look like an attack are skipped and listed on stderr.

    Args:
        data_dir: the folder of folders.
        image_size: width and height of the images in pixels.
        test_share: share of each class that is held out for the test, if the folders do not say; at least one image.
        seed: of the choice of these test images.
        jobs: how many processes decode; by default one a core, and for small sets none but this one. A script that
            loads thousands of images needs the usual ``if __name__ == "__main__":``.

    Raises:
        InputError: the folders fit none of the layouts, a class lacks images, or a test class is unknown.
    """
    if not data_dir.is_dir():
        raise InputError(f"{data_dir}: expected a folder of folders of images, got no folder of that name.")
    if image_size < 1:
        raise InputError(f"image_size: expected at least 1 pixel, got {image_size}.")
    if not 0 < test_share < 1:
        raise InputError(f"test_share: expected a share between 0 and 1, got {test_share}.")
    train_dir, test_dir = _find_parts(data_dir)
    train_files, grouped = _list_classes(train_dir)
    class_names = sorted(train_files)
    files = [path for name in class_names for path in train_files[name]]
    labels = [label for label, name in enumerate(class_names) for _ in train_files[name]]
    train_total = len(files)
    if test_dir is not None:
        test_files, _ = _list_classes(test_dir, grouped)
        if unknown := sorted(set(test_files) - set(train_files)):
            raise InputError(f"{test_dir}: expected the classes of {train_dir}, got {unknown[0]}, which it lacks.")
        files += [path for name in class_names for path in test_files.get(name, ())]
        labels += [label for label, name in enumerate(class_names) for _ in test_files.get(name, ())]

    images, reasons = _decode_all(files, image_size, jobs)
    if reasons:
        report_unreadable([(files[index].relative_to(data_dir), reason) for index, reason in reasons.items()])
    readable = np.array([index not in reasons for index in range(len(files))])
    label_of_file = np.array(labels, dtype=np.int64)
    if test_dir is None:
        in_test = _choose_test(label_of_file, readable, class_names, data_dir, test_share, seed)
        split = f"a share of {test_share:g} of each class held out as test images at seed {seed}"
    else:
        in_test = np.arange(len(files)) >= train_total
        split = f"split as in {train_dir.name}/ and {test_dir.name}/"
    train, test = np.flatnonzero(readable & ~in_test), np.flatnonzero(readable & in_test)
    for rows, part, folder in ((train, "training", train_dir), (test, "test", test_dir or data_dir)):
        for label in np.flatnonzero(np.bincount(label_of_file[rows], minlength=len(class_names)) == 0):
            raise InputError(
                f"{folder}: expected a {part} image of class {class_names[label]}, got none that can be read."
            )

    group_names = sorted({name.partition("/")[0] for name in class_names}) if grouped else None
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
        group_of_class=(
            [group_names.index(name.partition("/")[0]) for name in class_names] if group_names is not None else None
        ),
    )


# Finding the images


def _find_parts(data_dir: Path) -> tuple[Path, Path | None]:
    """The folder with the training classes and the one with the test classes, if they are apart."""
    folders = {folder.name for folder in _subfolders(data_dir)}
    tests = [name for name in TEST_FOLDERS if name in folders]
    if "train" not in folders or not (tests or folders == {"train"}):
        return data_dir, None
    if not tests:
        raise InputError(
            f"{data_dir}: expected one of {', '.join(TEST_FOLDERS)} beside train, got train alone; "
            f"give {data_dir / 'train'} to have test images chosen from it."
        )
    if others := sorted(folders - {"train", *TEST_FOLDERS}):
        raise InputError(
            f"{data_dir}: expected folders of classes or train and {tests[0]}, not both, got {others[0]} beside train."
        )
    return data_dir / "train", data_dir / tests[0]


def _list_classes(root: Path, grouped: bool | None = None) -> tuple[dict[str, list[Path]], bool]:
    """The files of each class below `root`, and whether the first level is groups: found out if `grouped` is None."""
    tops = _subfolders(root)
    if not tops:
        raise InputError(f"{root}: expected a folder for each class, got no folders.")
    if grouped is None:
        grouped = _is_grouped(root, tops)
    classes = [folder for top in tops for folder in _subfolders(top)] if grouped else tops
    files = {folder.relative_to(root).as_posix(): sorted(_files_below(folder)) for folder in classes}
    for name, paths in files.items():
        if not name.isprintable():
            raise InputError(f"{root}: expected class names of printable characters, got {name!a}.")
        if not paths:
            raise InputError(f"{root}: expected an image of class {name}, got an empty folder.")
    return files, grouped


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


def _subfolders(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))


def _holds_images(folder: Path) -> bool:
    """Whether a file directly in `folder` is named like an image."""
    known = Image.registered_extensions()
    return any(path.suffix.lower() in known and path.is_file() for path in folder.iterdir() if path.name[0] != ".")


def _files_below(folder: Path) -> Iterator[Path]:
    for parent, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in files:
            path = Path(parent, name)
            if not name.startswith(".") and path.is_file():
                yield path


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
    for label, name in enumerate(class_names):
        rows = np.flatnonzero(readable & (labels == label))
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
    if jobs is None:
        jobs = usable_cores() if len(files) > IN_PROCESS_LIMIT else 1
    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("Reading images", total=len(files))
        for index, decoded in enumerate(_decode_each(files, image_size, jobs)):
            if isinstance(decoded, str):
                reasons[index] = decoded
            else:
                images[index] = decoded
            progress.advance(task)
    return images, reasons


def _decode_each(files: Sequence[Path], image_size: int, jobs: int) -> Iterator[Pixels | str]:
    decode = partial(_decode, image_size=image_size)
    if jobs <= 1:
        yield from map(decode, files)
        return
    try:
        with ProcessPoolExecutor(jobs, mp_context=multiprocessing.get_context("spawn")) as pool:
            yield from pool.map(decode, files, chunksize=64)
    except BrokenProcessPool as error:
        raise InputError(
            f"{jobs} jobs: expected the processes that decode images to finish, got one that died; "
            "guard the script with `if __name__ == '__main__':` or decode with one job."
        ) from error


@cache
def _formats() -> list[str]:
    """The formats that Pillow reads by itself."""
    Image.init()
    return sorted(set(Image.ID) - RUNS_A_PROGRAM)


def _decode(path: Path, image_size: int) -> Pixels | str:
    """The image as (3, size, size), or in words why there is none."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        try:
            with Image.open(path, formats=_formats()) as opened:
                opened.draft(None, (4 * image_size, 4 * image_size))  # lets a JPEG skip detail nobody will see
                image = _to_rgb(ImageOps.exif_transpose(opened))
            square = ImageOps.fit(image, (image_size, image_size), Image.Resampling.LANCZOS)
            return np.asarray(square).transpose(2, 0, 1)
        except UnidentifiedImageError:
            return "no image, or of an unknown format"
        except Exception as error:  # a broken image can raise anything
            return " ".join(str(error).split()).rstrip(".") or type(error).__name__


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):  # grey, 0..65535
        grey = np.rint(np.asarray(image, dtype=np.float64).clip(0, 65535) / 257)
        return Image.fromarray(grey.astype(np.uint8)).convert("RGB")
    if image.mode == "F":
        raise ValueError("floating-point pixels, of which white is unknown")
    if image.has_transparency_data:
        opaque = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", opaque.size, "white"), opaque).convert("RGB")
    return image.convert("RGB")


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
