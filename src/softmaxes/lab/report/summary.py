"""Results brought together by setting: means and intervals over seeds, marks, curves and confusions. Pure functions."""

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, cached_property
from statistics import fmean
from typing import Literal, cast

import numpy as np
from numpy.typing import NDArray

from softmaxes.files import InputError
from softmaxes.lab.fields import Record
from softmaxes.lab.records import (
    DataCard,
    Epoch,
    Guess,
    Published,
    Result,
    Run,
    Scores,
    Shown,
    Study,
    TreeScores,
)

MATRIX_LIMIT = 200  # a matrix with more rows than this cannot be read, even on a large screen
TICKED_NAMES = 40  # more names than this do not fit beside a matrix
CONFUSED_PAIRS = 12
FEW = 8  # as many heads as there are colours; of more than this, a reader chooses which to see
SHOWN_FIRST = 5  # of many heads
NLL_CURVE = "nll_per_epoch"

Mark = Literal["best", "level", ""]


@dataclass(frozen=True)
class Measure:
    """One of the referee's scores and how it is shown: a field of `Scores` that is marked so."""

    key: str  # where it stands in `Scores`
    name: str
    unit: Literal["%", "nats", ""]
    higher_is_better: bool
    brief: str = ""
    optional: bool = False  # whether there are scores without it

    @property
    def percent(self) -> bool:
        """Whether a share is shown in percent."""
        return self.unit == "%"

    @property
    def with_unit(self) -> str:
        """Its name above a column."""
        return f"{self.name},\N{NO-BREAK SPACE}{self.unit}" if self.unit else self.name

    @property
    def direction(self) -> str:
        """Which way is up."""
        return "higher is better" if self.higher_is_better else "lower is better"

    def of(self, scores: Scores) -> float:
        """This measure's value in a record of scores; NaN where there is none."""
        value: object = scores
        for name in self.key.split("."):
            value = getattr(value, name, None)
        return math.nan if value is None else float(cast(float, value))


def _measures(record: type[Record], above: str = "") -> tuple[Measure, ...]:
    """The measures of a record: one of each field that says how it is shown."""
    return tuple(
        Measure(above + name, *mark, optional=not known.is_required() and known.default is None)
        for name, known in record.model_fields.items()
        for mark in known.metadata
        if isinstance(mark, Shown)
    )


MEASURES = _measures(Scores)
TREE_MEASURES = _measures(TreeScores, above="tree.")
ACCURACY, NLL, OUTSIDE, CALIBRATION_ERROR = (
    next(measure for measure in MEASURES if measure.key == key)
    for key in ("accuracy", "nll", "outside_support", "calibration_error")
)


@dataclass(frozen=True)
class Estimate:
    """A mean over seeds and half the width of its 95 % interval: none for one seed or a mean that is not finite."""

    mean: float
    half_width: float | None
    count: int

    @property
    def low(self) -> float | None:
        """The lower end of the interval."""
        return None if self.half_width is None else self.mean - self.half_width

    @property
    def high(self) -> float | None:
        """The upper end of the interval."""
        return None if self.half_width is None else self.mean + self.half_width


@dataclass(frozen=True)
class Spread:
    """A median and the quantiles that hold the middle 60 % of the values."""

    median: float
    low: float
    high: float


@dataclass(frozen=True)
class Point:
    """One position on a curve: the mean over the seeds that reached it, and their range."""

    x: float
    mean: float
    low: float
    high: float
    seeds: int


@dataclass(frozen=True)
class Pair:
    """Test examples of one class that were taken for another."""

    target: int
    predicted: int
    count: int
    share: float  # of the target class's test examples
    same_group: bool | None  # none where the classes have no groups


@dataclass(frozen=True)
class Confusion:
    """What became of the test examples, summed over seeds."""

    counts: Mapping[tuple[int, int], int]  # (target, predicted), above zero

    @cached_property
    def examples_of_class(self) -> Mapping[int, int]:
        """Test examples of each true class, summed over seeds."""
        totals: Counter[int] = Counter()
        for (target, _), count in self.counts.items():
            totals[target] += count
        return totals

    @cached_property
    def examples(self) -> int:
        """Test examples, summed over seeds."""
        return sum(self.counts.values())

    @cached_property
    def errors(self) -> int:
        """Examples whose predicted class is not the true one."""
        return sum(count for (target, predicted), count in self.counts.items() if target != predicted)

    def within_group(self, group_of_class: Sequence[int]) -> tuple[float, float]:
        """The share of errors that stay in the true class's group, and the share if errors fell on any class alike."""
        if not self.errors:
            return 0.0, 0.0
        size_of_group = Counter(group_of_class)
        within, expected = 0, 0.0
        for (target, predicted), count in self.counts.items():
            if target != predicted:
                within += count * (group_of_class[target] == group_of_class[predicted])
                expected += count * (size_of_group[group_of_class[target]] - 1) / (len(group_of_class) - 1)
        return within / self.errors, expected / self.errors

    def pairs(self, group_of_class: Sequence[int] | None, limit: int = CONFUSED_PAIRS) -> tuple[Pair, ...]:
        """The most confused pairs, by count and then by share of the true class."""
        pairs = [
            Pair(
                target,
                predicted,
                count,
                count / self.examples_of_class[target],
                None if group_of_class is None else group_of_class[target] == group_of_class[predicted],
            )
            for (target, predicted), count in self.counts.items()
            if target != predicted
        ]
        return tuple(sorted(pairs, key=lambda pair: (-pair.count, -pair.share, pair.target, pair.predicted))[:limit])


@dataclass(frozen=True)
class Block:
    """Neighbouring rows of a matrix that belong to one group."""

    name: str
    start: int
    stop: int


@dataclass(frozen=True)
class Matrix:
    """A confusion matrix in the order in which it is drawn: rows are true classes (or groups), columns predictions."""

    names: tuple[str, ...]
    counts: NDArray[np.int64]
    blocks: tuple[Block, ...]  # empty where the rows have no groups
    unit: Literal["class", "group"]
    example: str = "image"  # what is counted

    @property
    def ticks(self) -> tuple[list[float], list[str]]:
        """Where names stand beside the matrix: the groups' or the rows' own, thinned to as many as can be read."""
        if self.blocks:
            places = [((block.start + block.stop - 1) / 2, block.name) for block in self.blocks]
        else:
            places = [(float(position), name) for position, name in enumerate(self.names)]
        kept = places[:: math.ceil(len(places) / TICKED_NAMES)]
        return [position for position, _ in kept], [name for _, name in kept]

    @property
    def shares(self) -> NDArray[np.float64]:
        """Each row over its sum; a row without examples is zero."""
        totals = self.counts.sum(axis=1, keepdims=True)
        return np.asarray(self.counts / np.maximum(totals, 1), dtype=np.float64)


@dataclass(frozen=True)
class Row:
    """A setting: the runs that differ in their seed alone."""

    label: str
    position: int  # in the study's order: decides the colour
    setting: Run
    planned: tuple[int, ...]  # seeds
    finished: tuple[Result, ...]  # by seed
    diverged: tuple[Result, ...]  # by seed
    by_chance: tuple[int, ...]  # seeds at which the finished run is no better than guessing
    scores: Mapping[str, Estimate] = field(default_factory=dict)  # empty where no run finished
    marks: Mapping[str, Mark] = field(default_factory=dict)
    epoch_seconds: Spread | None = None

    @property
    def results(self) -> tuple[Result, ...]:
        """Every stored run of this setting, by seed."""
        return tuple(sorted((*self.finished, *self.diverged), key=lambda result: result.run.seed))

    @property
    def missing(self) -> tuple[int, ...]:
        """Planned seeds that have no result."""
        present = {result.run.seed for result in self.results}
        return tuple(seed for seed in self.planned if seed not in present)

    @property
    def only_chance(self) -> bool:
        """Whether no finished run is better than guessing."""
        return len(self.by_chance) == len(self.finished)

    @property
    def whole(self) -> bool:
        """Whether every planned run finished."""
        return len(self.finished) == len(self.planned)

    @property
    def parameters(self) -> int | None:
        """Trainable numbers of trunk and head."""
        return self.results[0].parameters if self.results else None

    @property
    def head_parameters(self) -> int | None:
        """Trainable numbers of the head alone."""
        return self.results[0].head_parameters if self.results else None

    @property
    def peak_memory_mib(self) -> float | None:
        """The largest peak of any seed."""
        return max((result.peak_memory_mib for result in self.results), default=None)

    def values(self, measure: Measure) -> dict[int, float]:
        """The measure after the last epoch, by seed, of the runs that finished."""
        return {result.run.seed: measure.of(final_scores(result)) for result in self.finished}

    def epoch_curve(self, value: Callable[[Epoch], float | None]) -> tuple[Point, ...]:
        """A value of every epoch; a run that diverged counts up to the epoch before."""
        pairs = ((epoch.epoch, value(epoch)) for result in self.results for epoch in result.epochs if epoch.scores)
        return curve((x, y) for x, y in pairs if y is not None)

    def time_curve(self) -> tuple[Point, ...]:
        """Accuracy after every epoch against the seconds of training until then, both means over seeds."""
        reached: defaultdict[int, list[tuple[float, float]]] = defaultdict(list)
        for result in self.results:
            elapsed = 0.0
            for epoch in result.epochs:
                elapsed += epoch.train_seconds
                if epoch.scores is not None:
                    reached[epoch.epoch].append((elapsed, epoch.scores.accuracy))
        points = []
        for pairs in reached.values():
            times, accuracies = zip(*pairs, strict=True)
            points.append(
                Point(fmean(times), fmean(accuracies), min(accuracies), max(accuracies), seeds=len(accuracies))
            )
        return tuple(points)

    def loss_curve(self) -> tuple[Point, ...]:
        """Training loss between recorded steps."""
        points = (point for result in self.results for point in result.losses)
        return curve((point.step, point.loss) for point in points if math.isfinite(point.loss))

    @cached_property
    def confusion(self) -> Confusion:
        """Summed over the seeds that finished."""
        counts: Counter[tuple[int, int]] = Counter()
        for result in self.finished:
            for target, predicted, count in result.confusion:
                counts[target, predicted] += count
        return Confusion(counts)

    @property
    def levels(self) -> tuple[Estimate, ...]:
        """Accuracy at each level of the tree that judges, from below the root; empty where none judges."""
        of_seeds = [final_scores(result).tree for result in self.finished]
        known = [scores.level_accuracy for scores in of_seeds if scores is not None]
        return tuple(estimate(shares) for shares in zip(*known, strict=False)) if len(known) == len(of_seeds) else ()

    @property
    def guesses(self) -> tuple[Guess, ...]:
        """The top-5 of the lowest seed that finished, one for each sample image."""
        return self.finished[0].guesses if self.finished else ()


@dataclass(frozen=True)
class CurvePlot:
    """A drawing of one curve a setting."""

    name: str
    title: str
    x_title: str
    y_title: str
    percent: bool
    comparable: bool  # between heads
    curves: tuple[tuple[Row, tuple[Point, ...]], ...]
    aligned: bool = True  # whether the curves have their points at the same places

    @property
    def infinite(self) -> tuple[Row, ...]:
        """Rows that have no curve because their NLL was infinite after every epoch."""
        return tuple(row for row, points in self.curves if self.name == NLL_CURVE and row.finished and not points)


@dataclass(frozen=True, eq=False)  # equal to itself alone, so that what is made of it once can be kept
class Summary:
    """All that a report says, before it is laid out."""

    study: Study
    card: DataCard
    rows: tuple[Row, ...]

    @property
    def results(self) -> tuple[Result, ...]:
        """Every stored run, in the order of the rows."""
        return tuple(result for row in self.rows for result in row.results)

    @property
    def finished(self) -> tuple[Row, ...]:
        """Rows with at least one finished run."""
        return tuple(row for row in self.rows if row.finished)

    @property
    def ranked(self) -> tuple[Row, ...]:
        """Rows with at least one finished run, the highest accuracy first."""
        return tuple(sorted(self.finished, key=lambda row: -row.scores[ACCURACY.key].mean))

    @property
    def many(self) -> bool:
        """Whether there are more heads than can be shown side by side."""
        return sum(1 for row in self.rows if row.results) > FEW

    @property
    def shown_first(self) -> tuple[Row, ...]:
        """The rows that the page's figures show until the reader chooses others: all, or the first of many."""
        with_results = tuple(row for row in self.rows if row.results)
        return (self.ranked or with_results)[:SHOWN_FIRST] if self.many else with_results

    @property
    def measures(self) -> tuple[Measure, ...]:
        """What there is to tell of: the share of targets outside the support only where a head has such targets."""
        sparse = any(row.scores[OUTSIDE.key].mean > 0 for row in self.finished)
        return tuple(measure for measure in self.known if sparse or measure != OUTSIDE)

    @property
    def known(self) -> tuple[Measure, ...]:
        """The measures that there are: precision at k only where examples have several labels."""
        return tuple(
            measure
            for measure in MEASURES
            if not measure.optional or any(not math.isnan(row.scores[measure.key].mean) for row in self.finished)
        )

    @property
    def accuracy_range(self) -> tuple[float, float] | None:
        """The axis of accuracies: 0 to 1 cut to the intervals, with a margin, if one of them leaves it; else none."""
        found = [row.scores[ACCURACY.key] for row in self.finished]
        ends = [end for estimate in found for end in (estimate.low, estimate.high) if end is not None]
        if not ends or (min(ends) >= 0 and max(ends) <= 1):
            return None
        return max(min(ends), 0.0) - 0.03, min(max(ends), 1.0) + 0.03

    @property
    def by_chance(self) -> tuple[Row, ...]:
        """The rows with a finished run whose accuracy is within three standard deviations of guessing, or below."""
        return tuple(row for row in self.finished if row.by_chance)

    @property
    def none_learned(self) -> bool:
        """Whether no finished run is better than guessing: then no head is marked as the best."""
        return bool(self.finished) and all(row.only_chance for row in self.finished)

    @property
    def judged_by_tree(self) -> tuple[Row, ...]:
        """The rows whose runs were all judged by the tree of the data's groups."""
        return tuple(row for row in self.finished if row.levels)

    @property
    def over_trees(self) -> tuple[Row, ...]:
        """The rows whose head is over one tree."""
        return tuple(row for row in self.finished if row.finished[0].tree is not None)

    def marked(self, measure: Measure, mark: Mark) -> tuple[Row, ...]:
        """The rows that carry this mark for this measure."""
        return tuple(row for row in self.rows if row.marks.get(measure.key) == mark)

    @cached_property
    def curve_plots(self) -> tuple[CurvePlot, ...]:
        """Test accuracy per epoch and against time, test NLL and training loss per epoch, training loss per step.

        A drawing without a point, as of the last one where no run has 500 batches, is left out.
        """

        def plot(
            name: str,
            title: str,
            y_title: str,
            percent: bool,
            comparable: bool,
            curve_of: Callable[[Row], tuple[Point, ...]],
            x_title: str = "epoch",
            aligned: bool = True,
        ) -> CurvePlot:
            curves = tuple((row, curve_of(row)) for row in self.rows if row.results)
            return CurvePlot(name, title, x_title, y_title, percent, comparable, curves, aligned)

        plots = (
            plot(
                "accuracy_per_epoch", "Test accuracy", "accuracy", True, True, lambda row: row.epoch_curve(accuracy_of)
            ),
            plot(
                "accuracy_against_seconds",
                "Test accuracy against time",
                "accuracy",
                True,
                True,
                lambda row: row.time_curve(),
                x_title="seconds of training",
                aligned=False,
            ),
            plot(
                NLL_CURVE, "Test NLL", f"nats an {self.card.example}", False, True, lambda row: row.epoch_curve(nll_of)
            ),
            plot(
                "train_loss_per_epoch",
                "Training loss per epoch",
                "the head's own loss, nats",
                False,
                False,
                lambda row: row.epoch_curve(lambda epoch: epoch.train_loss),
            ),
            plot(
                "train_loss_per_500_batches",
                "Training loss per 500 batches",
                "the head's own loss, nats",
                False,
                False,
                lambda row: row.loss_curve(),
                x_title="step",
            ),
        )
        return tuple(plot for plot in plots if plot.infinite or any(points for _, points in plot.curves))

    def matrix(self, row: Row) -> Matrix | None:
        """The row's confusion matrix: by class, by group where the classes are too many, or none where both are."""
        card = self.card
        groups, group_names = card.group_of_class, card.group_names
        num_classes = len(card.class_names)
        if num_classes <= MATRIX_LIMIT:
            order = sorted(range(num_classes), key=lambda index: (0 if groups is None else groups[index], index))
            place = {index: position for position, index in enumerate(order)}
            blocks: tuple[Block, ...] = ()
            if groups is not None and group_names is not None:
                size = Counter(groups)
                stops = np.cumsum([size[group] for group in range(len(group_names))]).tolist()
                blocks = tuple(
                    Block(name, stop - size[group], stop)
                    for group, (name, stop) in enumerate(zip(group_names, stops, strict=True))
                    if size[group]
                )
            names = tuple(card.words_of_class[index] for index in order)
            return Matrix(names, dense(row.confusion, place.__getitem__, num_classes), blocks, "class", card.example)
        if groups is not None and group_names is not None and len(group_names) <= MATRIX_LIMIT:
            return Matrix(
                group_names, dense(row.confusion, groups.__getitem__, len(group_names)), (), "group", card.example
            )
        return None

    def published(self) -> tuple[tuple[Published, Row | None], ...]:
        """Each published line beside each of our settings of that head, or beside none."""
        beside: list[tuple[Published, Row | None]] = []
        for line in self.study.published:
            ours = [row for row in self.finished if row.setting.head == line.head]
            beside += [(line, row) for row in ours] or [(line, None)]
        return tuple(beside)


def accuracy_of(epoch: Epoch) -> float | None:
    """Test accuracy of an epoch, if it was scored."""
    return epoch.scores.accuracy if epoch.scores else None


def nll_of(epoch: Epoch) -> float | None:
    """Test NLL of an epoch, if it was scored."""
    return epoch.scores.nll if epoch.scores else None


def guesses(result: Result, card: DataCard) -> bool:
    """Whether the accuracy of a finished run is within three standard deviations of guessing, or below."""
    guess, examples = 1 / len(card.class_names), sum(card.test_counts)
    return final_scores(result).accuracy <= guess + 3 * math.sqrt(guess * (1 - guess) / examples)


def final_scores(result: Result) -> Scores:
    """The scores after the last epoch of a run that finished."""
    scores = result.epochs[-1].scores
    if scores is None:
        raise ValueError(f"final_scores: expected a run that finished, got {result.run.key}, which diverged.")
    return scores


@cache
def student_t_975(degrees: int) -> float:
    """The 0.975 quantile of Student's t for a whole number of degrees of freedom.

    With t = sqrt(degrees) tan(angle), the probability of -t..t is a finite sum in the angle's sine and cosine; the
    angle at which it is 0.95 is found by bisection. scipy's differs in the last digits, which stored tables have.
    """
    if degrees < 1:
        raise ValueError(f"student_t_975: expected degrees of at least 1, got {degrees}.")

    def central_probability(angle: float) -> float:
        squared_cosine = math.cos(angle) ** 2
        odd = degrees % 2
        term = math.cos(angle) if odd else 1.0
        total = 0.0
        for power in range(2 + odd, degrees + 1, 2):
            total += term
            term *= squared_cosine * (power - 1) / power
        return (angle + math.sin(angle) * total) * 2 / math.pi if odd else math.sin(angle) * total

    low, high = 0.0, math.pi / 2
    while (middle := (low + high) / 2) not in (low, high):
        low, high = (middle, high) if central_probability(middle) < 0.95 else (low, middle)
    return math.sqrt(degrees) * math.tan(low)


def estimate(values: Sequence[float]) -> Estimate:
    """The mean of at least one value with its 95 % interval by Student's t."""
    count = len(values)
    mean = math.fsum(values) / count if all(map(math.isfinite, values)) else sum(values) / count
    if count < 2 or not math.isfinite(mean):
        return Estimate(mean, None, count)
    variance = math.fsum((value - mean) ** 2 for value in values) / (count - 1)
    return Estimate(mean, student_t_975(count - 1) * math.sqrt(variance / count), count)


def next_one(values: Sequence[float]) -> tuple[float, float] | None:
    """Where one more value of the same kind lies in 95 % of cases, by Student's t; none of fewer than two values."""
    found = estimate(values)
    if found.half_width is None:
        return None
    half = found.half_width * math.sqrt(found.count + 1)
    return found.mean - half, found.mean + half


def curve(points: Iterable[tuple[int, float]]) -> tuple[Point, ...]:
    """Mean and range of the values at each position at which all are finite: another has no mean to draw."""
    values: defaultdict[int, list[float]] = defaultdict(list)
    for x, y in points:
        values[x].append(y)
    return tuple(
        Point(x, math.fsum(ys) / len(ys), min(ys), max(ys), len(ys))
        for x, ys in sorted(values.items())
        if all(map(math.isfinite, ys))
    )


def dense(confusion: Confusion, place: Callable[[int], int], size: int) -> NDArray[np.int64]:
    """The counts as a square array, each class put in its place."""
    counts = np.zeros((size, size), dtype=np.int64)
    for (target, predicted), count in confusion.counts.items():
        counts[place(target), place(predicted)] += count
    return counts


def marks(rows: Sequence[Row], measure: Measure) -> dict[str, Mark]:
    """By label: which row is best, and which are level with it.

    A row is level with the best if the 95 % interval of their difference, paired over the seeds both have, does not
    lie wholly on the best row's side. A setting that diverged at some seed takes no part: its mean would be that of
    its luckier seeds. One that is better than guessing at no seed is neither best nor level: it may be well calibrated,
    and that is no merit. An infinite mean is neither best nor level; no target outside the support is no merit.
    """
    candidates = [row for row in rows if row.finished and not row.diverged]
    finite = [row for row in candidates if math.isfinite(row.scores[measure.key].mean) and not row.only_chance]
    if len(candidates) < 2 or not finite:
        return {}
    sign = 1 if measure.higher_is_better else -1
    best = max(finite, key=lambda row: sign * row.scores[measure.key].mean)
    if measure == OUTSIDE and best.scores[measure.key].mean == 0:
        return {}
    best_values = best.values(measure)
    marked: dict[str, Mark] = {}
    for row in finite:
        if row.scores[measure.key].mean == best.scores[measure.key].mean:
            marked[row.label] = "best"
            continue
        values = row.values(measure)
        differences = [sign * (best_values[seed] - values[seed]) for seed in values if seed in best_values]
        low = estimate(differences).low if differences else None
        if low is not None and low <= 0:
            marked[row.label] = "level"
    return marked


def labels(settings: Sequence[Run]) -> list[str]:
    """Each setting's head, and where settings share a head, the fields in which they differ."""
    names = []
    for setting in settings:
        namesakes = [other for other in settings if other.head == setting.head]
        differing = [
            f"{name.replace('_', ' ')} {'none' if getattr(setting, name) is None else getattr(setting, name)}"
            for name in Run.model_fields
            if name not in ("head", "seed") and len({getattr(other, name) for other in namesakes}) > 1
        ]
        names.append(f"{setting.head} ({', '.join(differing)})" if differing else setting.head)
    return names


def summarise(study: Study, card: DataCard, results: Sequence[Result]) -> Summary:
    """Bring stored results together by setting, in the study's order."""
    planned: dict[Run, list[int]] = {}
    for run in study.runs:
        planned.setdefault(run.setting, []).append(run.seed)
    by_setting: dict[Run, dict[int, Result]] = {setting: {} for setting in planned}
    for result in results:
        run = result.run
        if run.fingerprint != card.fingerprint:
            raise InputError(
                f"report: expected results on the data {card.name!r} with fingerprint {card.fingerprint}, "
                f"got run {run.key} on fingerprint {run.fingerprint}."
            )
        if run.seed not in planned.get(run.setting, ()):
            raise InputError(
                f"report: expected results of the runs in study {study.name!r}, "
                f"got run {run.key} ({run.head}, seed {run.seed}), which is not one of them."
            )
        classes = [index for guess in result.guesses for index in guess.classes]
        classes += [index for true, predicted, _ in result.confusion for index in (true, predicted)]
        if max(classes, default=0) >= len(card.class_names):
            raise InputError(
                f"report: expected classes in 0..{len(card.class_names) - 1}, got {max(classes)} in run {run.key}."
            )
        by_setting[run.setting][run.seed] = result
    if not results:
        raise InputError(f"report: expected at least one finished run of study {study.name!r}, got none.")

    rows = []
    for position, (setting, label) in enumerate(zip(planned, labels(list(planned)), strict=True)):
        ordered = [by_setting[setting][seed] for seed in sorted(by_setting[setting])]
        finished = tuple(result for result in ordered if result.diverged is None)
        seconds = [epoch.train_seconds for result in ordered for epoch in result.epochs if epoch.scores]
        rows.append(
            Row(
                label=label,
                position=position,
                setting=setting,
                planned=tuple(planned[setting]),
                finished=finished,
                diverged=tuple(result for result in ordered if result.diverged is not None),
                by_chance=tuple(result.run.seed for result in finished if guesses(result, card)),
                scores={
                    measure.key: estimate([measure.of(final_scores(result)) for result in finished])
                    for measure in (*MEASURES, *TREE_MEASURES)
                    if finished
                },
                epoch_seconds=Spread(*np.quantile(seconds, (0.5, 0.2, 0.8)).tolist()) if seconds else None,
            )
        )
    unmarked = Summary(study, card, tuple(rows))
    compared = () if unmarked.none_learned else unmarked.rows
    marked = {measure.key: marks(compared, measure) for measure in (*MEASURES, *TREE_MEASURES)}
    return replace(
        unmarked,
        rows=tuple(
            replace(row, marks={key: by_label.get(row.label, "") for key, by_label in marked.items()}) for row in rows
        ),
    )
