"""A finished comparison: its results, read from its folder and reported. Nothing here trains or imports torch."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from urllib.parse import quote

from softmaxes.files import InputError
from softmaxes.lab.agreement import check_on
from softmaxes.lab.records import DataCard, Elsewhere, Result, Study, Together
from softmaxes.lab.report import together, write_report
from softmaxes.lab.report.figures import Form
from softmaxes.lab.report.page import Link
from softmaxes.lab.report.sections import differences
from softmaxes.lab.report.summary import Summary, summarise
from softmaxes.lab.report.table import comparison
from softmaxes.lab.report.together import Group
from softmaxes.lab.report.wording import brief
from softmaxes.lab.store import EARLIER, Store, read_record, write_record
from softmaxes.names import printable

TOGETHER = "together.json"


def side_by_side(comparisons: Sequence["Comparison"], out: Path) -> Path:
    """Write one page, and one table, of several comparisons; the path of the page.

    Raises:
        InputError: a result contradicts its data, a folder is there twice, or `out` is not ours to write to, or shows
            other comparisons.
    """
    places = [one.directory.resolve() for one in comparisons]
    if len(set(places)) < len(places):
        raise InputError(f"expected each folder once, got {' '.join(str(one.directory) for one in comparisons)}.")
    store = Store(out, {TOGETHER: Together})
    with store.lock():
        record = Together(folders=tuple(printable(os.path.relpath(place, out.resolve())) for place in places))
        before = read_record(out / TOGETHER, Together) if (out / TOGETHER).exists() else record
        if set(before.folders) != set(record.folders):
            raise InputError(f"{out}: expected the page of these folders, got that of {' and '.join(before.folders)}.")
        for one in comparisons:
            one.check()
        groups = [Group(name, one.summary) for name, one in zip(_short(places), comparisons, strict=True)]
        links = [
            Link(group.name, quote(os.path.relpath(place / "report.html", out.resolve())))
            for group, place in zip(groups, places, strict=True)
        ]
        write_record(out / TOGETHER, record)
        return together.write(groups, links, out)


def _short(places: Sequence[Path]) -> list[str]:
    """The last parts of paths, as many as tell them apart."""
    for parts in range(1, max(len(place.parts) for place in places) + 1):
        names = ["/".join(place.parts[-parts:]) for place in places]
        if len(set(names)) == len(names):
            break
    return [printable(name) for name in names]


@dataclass(frozen=True)
class Comparison:
    """A finished comparison.

    Attributes:
        directory: the folder that holds everything.
        study: what was compared.
        card: what is known of the data.
        results: of every finished run, in the study's order.

    Example:
        >>> from softmaxes.lab import Comparison
        >>> comparison = Comparison.read("results/glyphs")
        >>> [row["head"] for row in comparison.rows]
        ['softmax', 'gumbel', 'hierarchical']
        >>> [comparison.records[-1][name] for name in ("head", "seed", "epoch")]
        ['hierarchical', 2, 10]
    """

    directory: Path
    study: Study
    card: DataCard
    results: tuple[Result, ...]

    @classmethod
    def read(cls, directory: str | Path) -> "Comparison":
        """A comparison that was written before.

        Raises:
            InputError: there is none, or a file of it is broken.
        """
        store = Store(Path(directory))
        study = store.study()
        return cls(store.directory, study, store.card(), tuple(store.results(study)))

    @property
    def page(self) -> Path:
        """The HTML page."""
        return self.directory / "report.html"

    @cached_property
    def summary(self) -> Summary:
        """All that the report prints."""
        return summarise(self.study, self.card, self.results)

    @property
    def rows(self) -> list[dict[str, object]]:
        """A row for each head, as ``table.csv`` has them: means over seeds and 95 % intervals."""
        return comparison(self.summary).facts

    @property
    def differences(self) -> list[dict[str, object]]:
        """A row for each head but the reference, as ``differences.csv`` has them; empty where none can be told."""
        found = differences.differences(self.summary)
        return [] if found is None else differences.table(found).facts

    @property
    def records(self) -> list[dict[str, object]]:
        """A row for each epoch of each run, for a data frame: ``pandas.DataFrame(comparison.records)``."""
        return [
            {
                "head": result.run.head,
                "seed": result.run.seed,
                "key": result.run.key,
                "epoch": epoch.epoch,
                "train_loss": epoch.train_loss,
                "train_seconds": epoch.train_seconds,
                "test_seconds": epoch.test_seconds,
                **({} if epoch.scores is None else epoch.scores.model_dump(exclude={"tree"})),
            }
            for result in self.results
            for epoch in result.epochs
        ]

    def beside(self, elsewhere: Sequence[Elsewhere]) -> "Comparison":
        """The same with these results from elsewhere set beside it, and stored so.

        Raises:
            InputError: the folder is not ours to write to.
        """
        study = self.study.model_copy(update={"elsewhere": tuple(elsewhere)})
        store = Store(self.directory)
        store.check()
        store.save_study(study, self.card)
        return replace(self, study=study)

    def write_report(self, forms: Sequence[Form] = ()) -> Path:
        """Write the tables, the figures and the page anew, from the stored results alone; the path of the page.

        Args:
            forms: of the figures beside PNG, ``pdf`` or ``svg``.

        Raises:
            InputError: a result contradicts the data, or the folder is not ours to write to.
        """
        store = Store(self.directory)
        store.check()
        self.check()
        return write_report(self.summary, self.directory, self._others(store), forms)

    def check(self) -> None:
        """Refuse results that contradict the data.

        Raises:
            InputError: one does.
        """
        store = Store(self.directory)
        for result in self.results:
            if result.run.fingerprint == self.card.fingerprint:  # results on other data the summary refuses
                try:
                    check_on(result, self.card)
                except ValueError as error:
                    path = store.weights(result.run).with_suffix(".json")
                    raise InputError(f"{path}: expected a run on the data {self.card.name}: {error}.") from None

    def _others(self, store: Store) -> list[Link]:
        """Links to the pages of the other comparisons in this folder."""
        if store.is_earlier:
            return [Link("the latest comparison in this folder", "../../report.html")]
        found = [(other.directory.name, other.study()) for other in store.earlier()]
        return [Link(brief(study), f"{EARLIER}/{quote(name)}/report.html") for name, study in found]

    def _repr_markdown_(self) -> str:
        return comparison(self.summary).markdown()
