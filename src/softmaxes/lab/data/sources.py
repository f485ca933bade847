"""Data sets by name: what ``--data`` and its neighbours name, loaded."""

import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from softmaxes.files import InputError
from softmaxes.lab.data.dataset import Data, clip
from softmaxes.lab.data.official import OFFICIAL
from softmaxes.lab.records import DRAWN, Source
from softmaxes.lab.resolve import callable_part, is_own, made_by

GLYPHS = 100  # classes, if no number is given
DEFAULT = "glyphs"


def load_data(data: str = DEFAULT, **options: Any) -> Data:
    """A data set by its name.

    Args:
        data: ``glyphs``, ``glyphs:C`` or ``glyphs:all``; a name of `OFFICIAL`, e.g. ``cifar100``; ``features``,
            ``text`` or ``folder`` with `data_dir`; the path of a folder of images, of vectors, or of texts; or
            ``module:function`` of the user's own.
        options: the other fields of `Source`, e.g. `data_dir`, `image_size`, `long_tail`.

    Raises:
        InputError: there is no such data, or it is broken, or an option does not fit it.
    """
    return load_source(Source(data=data, **options))


def load_source(source: Source) -> Data:
    """The data set of a source; ``glyphs`` if it names none.

    Raises:
        InputError: there is no such data, or it is broken, or an option does not fit it.
    """
    from softmaxes.lab.data.long_tail import check_ratio, long_tail

    if source.long_tail is not None:
        check_ratio(source.long_tail)
    source.words()  # refuses what the report cannot name
    if not 16 <= source.image_size <= 1024:
        raise InputError(f"--image-size: expected 16 to 1024 pixels, got {source.image_size}.")
    name = source.data if source.data is not None else DEFAULT
    data = _load(name, source)
    return data if source.long_tail is None else long_tail(data, source.long_tail)


def is_own_function(name: str) -> bool:
    """Whether a name is that of a function of the user's own, and not of a data set or a path."""
    return (
        is_own(name) and name.partition(":")[0] not in ("glyphs", "geonames", "next-word") and not Path(name).exists()
    )


def _load(name: str, source: Source) -> Data:
    kind, _, classes = name.partition(":")
    if kind == "glyphs":
        return _glyphs(name, classes, source)
    for field in sorted(source.model_fields_set & set(DRAWN)):
        option, value = field.replace("_", "-"), getattr(source, field)
        raise InputError(f"--{option}: expected none with --data {name}, which is not drawn from fonts, got {value}.")
    if kind == "geonames":
        return _geonames(name, classes, source)
    if kind == "next-word":
        return _next_words(name, classes, source)
    if name in OFFICIAL:
        from softmaxes.lab.data.cifar import load_cifar

        return load_cifar(name, source.data_dir)
    from softmaxes.lab.data.features import holds_features, load_features
    from softmaxes.lab.data.folder import load_folder
    from softmaxes.lab.data.text_files import FORMS, holds_texts, load_texts

    readers: dict[str, Callable[[Path], Data]] = {
        "vectors": load_features,
        "texts": load_texts,
        "folder of images": partial(load_folder, image_size=source.image_size),
    }
    if what := {"features": "vectors", "text": "texts", "folder": "folder of images"}.get(name):
        if source.data_dir is None:
            raise InputError(f"--data {name}: expected --data-dir with the {what}, got none.")
        return readers[what](source.data_dir)
    path = Path(name)
    own, there = is_own_function(name), name != ""  # nothing would be the folder in hand
    what = "vectors" if there and holds_features(path) else "texts" if there and holds_texts(path) else None
    if own or what or (there and path.is_dir()):
        if source.data_dir is not None:
            known = "which knows it" if own else f"where {what} lie" if what else "a folder itself"
            raise InputError(f"--data-dir: expected none with --data {name}, {known}, got {source.data_dir}.")
        return own_data(name) if own else readers[what or "folder of images"](path)
    if there and path.exists():
        raise InputError(
            f"--data: expected a folder, vectors in a file .npz, or texts in a file {', '.join(FORMS)}, "
            f"got {clip(name)}."
        )
    if name and ("/" in name or name.startswith((".", "~"))):
        raise InputError(f"--data: expected a folder or file that exists, got {clip(name)}, which does not.")
    raise InputError(
        f"--data: expected glyphs, glyphs:CLASSES, glyphs:all, geonames, {', '.join(OFFICIAL)}, features, text, "
        f"next-word, a folder with images, or module:function, got {clip(name)}."
    )


def _glyphs(name: str, classes: str, source: Source) -> Data:
    if source.data_dir is not None:
        raise InputError(f"--data-dir: expected none with --data {name}, which is rendered, got {source.data_dir}.")
    if classes and classes != "all" and not re.fullmatch("[0-9]{1,9}", classes):
        raise InputError(
            f"--data: expected glyphs or glyphs:CLASSES, e.g. glyphs:1000 or glyphs:all, got {clip(name)}."
        )
    from softmaxes.lab.data.glyphs import load_glyphs

    number = None if classes == "all" else int(classes or GLYPHS)
    return load_glyphs(number, **{field: getattr(source, field) for field in DRAWN})


def _geonames(name: str, population: str, source: Source) -> Data:
    if source.data_dir is not None:
        raise InputError(
            f"--data-dir: expected none with --data {name}, which comes with a package, got {source.data_dir}."
        )
    from softmaxes.lab.data.geonames import POPULATIONS, load_geonames

    if population and population not in map(str, POPULATIONS):
        known = ", ".join(f"geonames:{number}" for number in POPULATIONS[1:])
        raise InputError(f"--data: expected geonames or {known}, got {clip(name)}.")
    return load_geonames(int(population or POPULATIONS[0]))


def _next_words(name: str, vocabulary: str, source: Source) -> Data:
    from softmaxes.lab.data.features import MOST_CLASSES
    from softmaxes.lab.data.next_words import VOCABULARY, load_next_words

    number = int(vocabulary or VOCABULARY) if re.fullmatch("[0-9]{0,9}", vocabulary) else 0
    if not 2 <= number <= MOST_CLASSES:
        raise InputError(
            f"--data: expected next-word or next-word:CLASSES, e.g. next-word:50000, of 2 to {MOST_CLASSES:,} classes, "
            f"got {clip(name)}."
        )
    if source.data_dir is None:
        raise InputError(f"--data {name}: expected --data-dir with the text, got none.")
    return load_next_words(source.data_dir, number)


def own_data(name: str) -> Data:
    """The data that the user's own function gives."""
    data = made_by("--data", name, callable_part("--data", name, "a function that gives data"))
    if not isinstance(data, Data):
        raise InputError(f"--data: expected {name} to give a softmaxes.lab.Data, got {type(data).__name__}.")
    data.check_distinct()
    return data
