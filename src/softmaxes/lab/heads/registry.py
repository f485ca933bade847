"""The heads by name: the lab's own, those with settings, ``family:setting=value``, and those of the user."""

import inspect
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.util import find_spec
from types import UnionType
from typing import Any, Literal, NamedTuple, Union, get_args, get_origin, get_type_hints

from pydantic import BaseModel, ConfigDict, ValidationError, create_model

from softmaxes import Head
from softmaxes.files import InputError
from softmaxes.lab.heads.entry import Classes, Entry
from softmaxes.lab.heads.families import FAMILIES, KINDS
from softmaxes.lab.resolve import is_own, made_by, resolve, unknown
from softmaxes.names import printable, typed

SHOWN = 60  # characters of a value in an error


class Named(NamedTuple):
    """A head with settings that has a name of its own, since a study or a page uses it."""

    settings: str
    summary: str


NAMES = {
    "softmax-hidden": Named(
        "softmax:hidden=yes", "As softmax, behind a hidden layer of its own: what that layer is worth."
    ),
    "gumbel-normal": Named("gumbel:noise=normal", "As gumbel, with normal noise, as the original study had it."),
    "hierarchical-random": Named(
        "hierarchical:tree=random",
        "As hierarchical, with the classes in random order: what a tree is worth that knows nothing.",
    ),
    "hierarchical-random-10": Named(
        "hierarchical:tree=random,arity=10", "As hierarchical-random, with ten children a node, a softmax at each."
    ),
    "hierarchical-huffman": Named(
        "hierarchical:tree=huffman",
        "As hierarchical, over the Huffman tree of the training counts: frequent classes have short paths.",
    ),
    "hierarchical-groups": Named(
        "hierarchical:tree=groups", "A softmax over the data's own groups of classes, then one within the group."
    ),
    "hierarchical-late-10": Named(
        "hierarchical:tree=random,arity=10,start=flat",
        "As hierarchical-random-10, after a flat fifth of the epochs: what that start is worth.",
    ),
    "hierarchical-clustered": Named(
        "hierarchical:tree=clustered",
        "As hierarchical, over a balanced tree of the class vectors that a flat fifth of the epochs has learned.",
    ),
    "hierarchical-relearned-10": Named(
        "hierarchical:tree=clustered,arity=10,relearn=yes",
        "As hierarchical-clustered, with ten children a node, and half way again over a tree of the mean features.",
    ),
    "hierarchical-grown": Named(
        "hierarchical:tree=clustered,start=random,relearn=yes",
        "As hierarchical-random at first, and twice over a clustered tree of the classes' mean features.",
    ),
    "hierarchical-grown-10": Named(
        "hierarchical:tree=clustered,arity=10,start=random,relearn=yes",
        "As hierarchical-grown, with ten children a node.",
    ),
    "hierarchical-grown-10-hidden": Named(
        "hierarchical:tree=clustered,arity=10,start=random,relearn=yes,hidden=yes",
        "As hierarchical-grown-10, behind a hidden layer of its own.",
    ),
    "hierarchical-grown-10-layers": Named(
        "hierarchical:tree=clustered,arity=10,start=random,relearn=yes,layers=yes",
        "As hierarchical-grown-10, each level of the tree behind a hidden layer of its own.",
    ),
    "tree-sampled-grown": Named(
        "tree-sampled:proposal_weight=0.3,tree=clustered,relearn=yes",
        "As tree-sampled, over a tree as hierarchical-grown's; its loss weighs three tenths.",
    ),
    "cosface": Named(
        "cosine:scale=30,learn_scale=no,cosine_margin=0.35",
        "Softmax of cosines times 30, the target's less a margin of 0.35 while training.",
    ),
    "arcface": Named(
        "cosine:scale=30,learn_scale=no,angular_margin=0.5",
        "Softmax of cosines times 30, the target's angle plus 0.5 radians while training.",
    ),
}

# Names that stored results have, and that are settings now.
FORMER = {
    "gumbel-annealed": "gumbel:final_temperature=0.5,anneal_steps=2000",
    "gumbel-samples": "gumbel:num_samples=4",
    "gumbel-hard": "gumbel:num_samples=16,straight_through=yes",
    "hierarchical-late": "hierarchical:tree=random,start=flat",
    "hierarchical-clustered-4": "hierarchical:tree=clustered,arity=4",
    "hierarchical-clustered-10": "hierarchical:tree=clustered,arity=10",
    "hierarchical-agglomerative": "hierarchical:tree=agglomerative",
    "hierarchical-agglomerative-4": "hierarchical:tree=agglomerative,arity=4",
    "hierarchical-agglomerative-10": "hierarchical:tree=agglomerative,arity=10",
    "hierarchical-relearned": "hierarchical:tree=clustered,relearn=yes",
    "entmax-learned": "entmax:learn_alpha=yes",
    "taylor-4": "taylor:order=4",
}


class Setting(NamedTuple):
    """What may be set of a head."""

    name: str
    value: Any  # that it has
    kind: str  # of its values, in words
    description: str


def settings_of(name: str) -> list[Setting]:
    """What may be set of a head of the lab, and what is; nothing of any other head."""
    found = _parse("--heads", name)
    if found is None:
        return []
    fields = _model(found[0]).model_fields
    return [Setting(key, found[1][key], _kind(one.annotation), str(one.description)) for key, one in fields.items()]


def _kind(annotation: Any) -> str:
    if get_origin(annotation) is Literal:
        return ", ".join(get_args(annotation))
    if get_origin(annotation) in (Union, UnionType):  # with None
        return _kind(get_args(annotation)[0])
    return {bool: "yes, no", int: "an integer", float: "a number"}[annotation]


def entry_of(name: str, option: str = "--heads", others: Sequence[str] = ()) -> Entry:
    """A head by its name: one of the lab's, one of them with settings, or one of the user's own.

    ``hierarchical:tree=clustered,arity=4`` is a head with settings; those of a name, as ``hierarchical-grown:arity=4``,
    are changed.

    A head of the user's own is a function or a class: ``make(in_features, classes)`` gives a `Head`, where `classes` is
    a `Classes`. A class that derives from `Head` is called with the number of classes; an `Entry` is taken as it is.

    Args:
        name: of the head.
        option: what an error begins with.
        others: words that are expected beside the names.

    Raises:
        InputError: there is no such head, or no such setting.

    Example:
        >>> from softmaxes.lab.heads.registry import entry_of
        >>> entry_of("hierarchical:tree=random,arity=4").cost
        'O(D log C)'
    """
    known = entry_of_ours(name, option)
    if known is not None:
        return known
    if not is_own(name):
        own, _, settings = name.rpartition(":")
        if "=" in settings and is_own(own):
            raise InputError(
                f"{option}: expected {own} alone, as heads of one's own have no settings on the command line, "
                f"got {_shown(name)}."
            )
        raise unknown(option, name, (*others, *HEADS))
    part = resolve(option, name)
    if isinstance(part, Entry):
        return part
    if not callable(part):
        raise InputError(f"{option}: expected {name} to be a function that makes a head, got {type(part).__name__}.")

    def build(features: int, card: Classes) -> Head:
        classes = len(card.class_names)
        known = classes if isinstance(part, type) and issubclass(part, Head) else card
        head = made_by(option, name, part, features, known)
        if not isinstance(head, Head):
            raise InputError(f"{name}: expected a softmaxes.Head, got {type(head).__name__}.")
        for what, expected in (("in_features", features), ("num_classes", classes)):
            if getattr(head, what) != expected:
                raise InputError(f"{name}: expected a head with {what} {expected}, got {getattr(head, what)}.")
        return head

    return Entry(build, summary=_first_line(part) or "A head of the user's own.")


def entry_of_ours(name: str, option: str = "--heads") -> Entry | None:
    """A head of the lab by its name, with or without settings; none of any other name.

    Raises:
        InputError: it has no such setting.
    """
    if name in HEADS:
        return HEADS[name]
    found = _parse(option, name)
    return None if found is None else _made(option, *found)


def one_name(name: str, option: str = "--heads") -> str:
    """The name under which a head is kept, however it was typed: the listed one, or its family with its settings.

    Example:
        >>> from softmaxes.lab.heads.registry import one_name
        >>> one_name("hierarchical:arity=10,tree=random"), one_name("hierarchical-random:arity=4")
        ('hierarchical-random-10', 'hierarchical:tree=random,arity=4')
    """
    found = None if name in HEADS else _parse(option, name)
    if found is None:
        return name
    for listed in HEADS:
        if _parse(option, listed) == found:
            return listed
    family, given = found
    words = [f"{key}={typed(value)}" for key, value in _changed(family, given).items()]
    return f"{family}:{','.join(words)}" if words else family


def family_of(name: str) -> str:
    """The family that a head of the lab belongs to; for any other head its own name.

    Example:
        >>> from softmaxes.lab.heads.registry import family_of
        >>> family_of("gumbel-normal"), family_of("hierarchical:arity=4"), family_of("mine:Head")
        ('gumbel', 'hierarchical', 'mine:Head')
    """
    found = _parse("--heads", name)
    return name if found is None else found[0]


def by_kind() -> dict[str, dict[str, Entry]]:
    """The heads that are listed, by their kind, in the order of the first of each."""
    found: dict[str, dict[str, Entry]] = {}
    for name, entry in HEADS.items():
        found.setdefault(KINDS[family_of(name)], {})[name] = entry
    return found


def _parse(option: str, name: str) -> tuple[str, dict[str, Any]] | None:
    """The family of a head of the lab and all its settings; none of any other name."""
    start, colon, set_so = name.partition(":")
    family, _, named = (NAMES[start].settings if start in NAMES else FORMER.get(start, start)).partition(":")
    if family not in FAMILIES or (colon and "=" not in set_so and find_spec(start) is not None):
        return None  # a module of the user's own may have the name of a head
    given = (_given(option, name, named) if named else {}) | (_given(option, name, set_so) if colon else {})
    known = _model(family).model_fields
    for key in given:
        if key not in known:
            able = f"one of {', '.join(known)}" if known else "none"
            raise InputError(f"{option}: expected {able} as a setting of {family}, got {_shown(key)}.")
    try:
        return family, dict(_model(family)(**given))
    except ValidationError as error:
        first = error.errors()[0]
        too_long = first["type"] == "int_parsing_size"
        said = (
            "a smaller integer" if too_long else first["msg"].removeprefix("Input should be ").partition(", unable")[0]
        )
        value = _shown(str(first["input"]))
        raise InputError(f"{option}: {family}: {first['loc'][0]}: expected {said}, got {value}.") from None


def _given(option: str, name: str, text: str) -> dict[str, str]:
    """Settings as they were typed."""
    found: dict[str, str] = {}
    for word in text.split(","):
        key, equals, value = (part.strip() for part in word.partition("="))
        if not equals or key in found:
            raise InputError(
                f"{option}: expected {_shown(name)} with each setting once, as key=value, got {_shown(word)}."
            )
        found[key] = value
    return found


def _shown(text: str) -> str:
    return printable(text, SHOWN) if text else "nothing"


@cache
def _model(family: str) -> type[BaseModel]:
    """The settings of a family, as they are checked."""
    hints = get_type_hints(FAMILIES[family], include_extras=True)
    parameters = inspect.signature(FAMILIES[family]).parameters
    fields: dict[str, Any] = {name: (hints[name], one.default) for name, one in parameters.items()}
    return create_model(family, __config__=ConfigDict(protected_namespaces=(), allow_inf_nan=False), **fields)


def _made(option: str, family: str, settings: Mapping[str, Any]) -> Entry:
    make = FAMILIES[family]
    try:
        entry = make(**settings)
    except InputError as error:
        raise InputError(f"{option}: {family}: {error}") from None
    changed = _changed(family, settings)
    said = ", ".join(f"{key} {typed(value)}" for key, value in changed.items())
    summary = f"{family} with {said}." if changed else _first_line(make)
    tuned = None if entry.knob is not None and entry.knob.name in changed else entry.knob
    return entry._replace(summary=summary, knob=tuned)


def _changed(family: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that are not the family's own."""
    fields = _model(family).model_fields
    return {key: value for key, value in settings.items() if value != fields[key].default}


def _first_line(part: object) -> str:
    return (inspect.getdoc(part) or "").partition("\n")[0]


def _listed() -> dict[str, Entry]:
    """Each family, and after it the names of its settings."""
    found: dict[str, Entry] = {}
    for family in FAMILIES:
        for name in (family, *NAMES):
            parsed = _parse("", name)
            if parsed is not None and parsed[0] == family:
                found[name] = _made("", *parsed)
                if name in NAMES:
                    found[name] = found[name]._replace(summary=NAMES[name].summary)
    return found


HEADS: dict[str, Entry] = _listed()
