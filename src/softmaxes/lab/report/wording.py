"""Numbers and facts in words, the same in the terminal, in the figures and on the page."""

import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import isnan

from softmaxes.lab.recipe import OPTIMIZERS, SCHEDULES
from softmaxes.lab.records import FOR_SPARSE, FOR_TEXTS, FOR_WORDS, DataCard, Guess, Machine, Of, Run, Study, Training
from softmaxes.lab.report.significance import Paired
from softmaxes.lab.report.summary import (
    ACCURACY,
    NLL,
    OUTSIDE,
    CurvePlot,
    Estimate,
    Measure,
    Row,
    Spread,
    Summary,
    final_scores,
)
from softmaxes.names import plural, typed

NBSP = "\N{NO-BREAK SPACE}"
IS_OWN = "the user's own"
# Settings with a phrase of their own in `training_in_words`; any other is told by its name, where it is changed.
TOLD = {
    "backbone",
    "batch_size",
    "crops",
    "epochs",
    "flips",
    "hidden_units",
    "lr",
    "lr_schedule",
    "optimizer",
    "precision",
    "validation",
}
BAGS = {
    "text": (FOR_TEXTS, "bag of n-grams"),
    "next word": (FOR_WORDS, "window of words"),
    "sparse vector": (FOR_SPARSE, "bag of features"),
}
MINUS = "\N{MINUS SIGN}"
LOSS_CAUTION = "Training losses of different heads are not comparable: each head trains on a loss of its own."


def number(value: float, measure: Measure) -> str:
    """A score: percent with one decimal, others with three where they are below 100."""
    if value == float("inf"):
        return "∞"
    if measure is OUTSIDE and value < 0.0005:
        return "<0.1" if value else "0"  # one image in ten thousand is not none
    if value >= 100 and not measure.unit:  # a perplexity
        return f"{value:,.1f}"
    return f"{100 * value:.1f}" if measure.percent else f"{value:.3f}"


def interval(estimate: Estimate, measure: Measure) -> str:
    """Half the width of the interval, with its sign, or nothing."""
    return "" if estimate.half_width is None else f"±{NBSP}{number(estimate.half_width, measure)}"


def with_interval(estimate: Estimate, measure: Measure) -> str:
    """A score and its interval."""
    return f"{number(estimate.mean, measure)}{NBSP}{interval(estimate, measure)}".strip()


def known(estimate: Estimate | None, measure: Measure) -> str:
    """A score and its interval, or a dash where there is none."""
    return "–" if estimate is None or isnan(estimate.mean) else with_interval(estimate, measure)


def points(difference: float) -> str:
    """A difference of shares in points of a percent, with its sign."""
    return f"{100 * difference:+z.2f}".replace("-", MINUS)


def points_interval(difference: Paired) -> str:
    """A mean difference and half of its interval by Student's t."""
    return f"{points(difference.mean)}{NBSP}±{NBSP}{100 * (difference.high - difference.mean):.2f}"


def p_value(p: float) -> str:
    """A p-value with three decimals."""
    return "<0.001" if p < 0.0005 else f"{p:.3f}"


def percent(share: float) -> str:
    """A share in percent, with its sign."""
    return f"{100 * share:.1f}{NBSP}%"


def outside(share: float) -> str:
    """What stands beside an infinite NLL: the share of targets outside the support, or nothing where none is known."""
    return f"({number(share, OUTSIDE)}{NBSP}% outside the support)" if share else ""


def seconds(value: float) -> str:
    """Seconds with about three digits."""
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}" if value >= 0.1 else f"{value:.2g}"


def spread(value: Spread) -> str:
    """A range of seconds."""
    return f"{seconds(value.low)} to {seconds(value.high)}"


def compact(count: int) -> str:
    """A large count in few characters: 912, 8.1k, 12.3M."""
    for limit, divisor, suffix in ((1_000, 1, ""), (1_000_000, 1_000, "k"), (10**9, 10**6, "M"), (10**12, 10**9, "G")):
        if count < limit:
            return (
                f"{count / divisor:.1f}{suffix}" if suffix and count < 100 * divisor else f"{count // divisor}{suffix}"
            )
    return f"{count:.2g}"


def listed(words: Iterable[object], conjunction: str = "and") -> str:
    """Words in a row: nothing, ``a``, ``a and b``, ``a, b and c``."""
    texts = [str(word) for word in words]
    return f" {conjunction} ".join(filter(None, (", ".join(texts[:-1]), *texts[-1:])))


def status(row: Row) -> str:
    """How many of the planned seeds a row rests on, and what became of the others."""
    finished, planned = len(row.finished), len(row.planned)
    text = plural(planned, "seed") if finished == planned else f"{finished} of {plural(planned, 'seed')}"
    parts = [text]
    parts += [f"seed {result.run.seed} diverged in epoch {result.diverged}" for result in row.diverged]
    if row.by_chance:
        parts.append(f"{_seeds(row.by_chance)} no better than guessing")
    if row.missing:
        parts.append(f"no result yet for {_seeds(row.missing)}")
    return "; ".join(parts)


def _seeds(numbers: Sequence[int]) -> str:
    return f"seed{'s' if len(numbers) > 1 else ''} {listed(numbers)}"


def cautions(summary: Summary) -> list[str]:
    """What a reader has to know of rows that are not whole, infinite losses and heads left out; often nothing."""
    notes = [f"{row.label}: {status(row)}." for row in summary.rows if not row.whole]
    if any(row.diverged for row in summary.rows):
        notes.append(
            "Means are over the seeds that finished. A head that diverged at some seed takes no part in the marks: "
            "its mean would be that of its luckier seeds."
        )
    if summary.by_chance and not summary.none_learned:  # else the finding says it
        runs = "; ".join(f"{row.label}, {_seeds(row.by_chance)}" for row in summary.by_chance)
        notes.append(f"No better than guessing after training: {runs}.")
        if any(row.only_chance for row in summary.by_chance):
            notes[-1] += " A head that is so at all seeds has no marks: what it has is no merit."
    if any(row.scores[NLL.key].mean == float("inf") for row in summary.finished):
        beside = "the share of targets outside its support stands beside it; " if OUTSIDE in summary.measures else ""
        notes.append(
            f"An NLL of ∞ means that a head gave a true class probability zero; {beside}curves leave such epochs out."
        )
    if summary.study.elsewhere:
        notes.append(
            "Rows published elsewhere rest on data, training and code of their own: none is marked, and no difference "
            "to them is tested."
        )
    return notes + [f"{left.head} is left out: {left.reason}" for left in summary.study.left_out]


def undrawn(plot: CurvePlot) -> str:
    """Which heads a drawing of curves has nothing of, and why, or nothing."""
    named = [f"{row.label} {outside(row.scores[OUTSIDE.key].mean)}".strip() for row in plot.infinite]
    return f"Infinite after every epoch: {listed(named)}." if named else ""


def finding(summary: Summary) -> str:
    """The comparison in a sentence or two, by accuracy."""
    if summary.none_learned:
        return "No head is better than guessing: the accuracies say nothing of the heads. Train for more epochs."
    best = summary.marked(ACCURACY, "best")
    if not best:
        return ""
    level = summary.marked(ACCURACY, "level")
    text = (
        f"Highest test accuracy: {listed(row.label for row in best)}, "
        f"{with_interval(best[0].scores[ACCURACY.key], ACCURACY)}{NBSP}%."
    )
    if level:
        text += f" Not distinguishable from it at 95{NBSP}%: {listed(row.label for row in level)}."
    elif best[0].scores[ACCURACY.key].count > 1 and len(best) == 1 and all(row.whole for row in summary.rows):
        text += f" Every other head is distinguishably lower at 95{NBSP}%."
    return text


def marks_explained(summary: Summary, best: str, level: str) -> str:
    """What the marks in the table mean."""
    if summary.none_learned:
        half = f"± is half of a 95{NBSP}% interval of the mean over seeds (Student's t). "
        several = any(len(row.finished) > 1 for row in summary.rows)
        return f"{half if several else ''}No head is marked as the best, as none is better than guessing."
    if max((len(row.finished) for row in summary.rows), default=0) < 2:
        return (
            f"{best} is the best number of its column. With one seed there is no interval, "
            "and a difference may be chance: train with several seeds to know."
        )
    return (
        f"± is half of a 95{NBSP}% interval of the mean over seeds (Student's t). {best} is the best mean of its "
        f"column; {level} is not distinguishable from it: the 95{NBSP}% interval of their difference, paired over the "
        "seeds both have, holds zero. No correction is made for the number of comparisons."
    )


def reference_by_chance(reference: Row) -> str:
    """That differences to a head say nothing, if it has learned nothing at some seed; else nothing."""
    if not reference.by_chance:
        return ""
    return (
        f"{reference.label} is no better than guessing at {_seeds(reference.by_chance)}. So the differences to it say "
        "nothing of the heads, and none is marked."
    )


def differences_explained(heads: int, example: str) -> str:
    """What stands in the table of differences, and what a mark there means."""
    comparisons = "" if heads == 1 else f", corrected for {heads} comparisons (Holm)"
    return (
        f"± is half of a 95{NBSP}% interval of the mean difference, paired over n seeds (Student's t). ▲ and ▼ mark "
        f"differences that hold at 5{NBSP}% both for other seeds (paired t-test) and for other test {example}s "
        f"(McNemar's exact test, seed by seed, by a majority of the seeds): the larger of the two p{comparisons}. What "
        "is not marked was not shown to differ, which is not to be equal."
    )


def counts_range(counts: Sequence[int]) -> str:
    """How many examples a class has."""
    low, high = min(counts), max(counts)
    return f"{low:,} a class" if low == high else f"{low:,} to {high:,} a class"


def data_in_words(card: DataCard) -> str:
    """What the classifiers were trained and tested on."""
    classes = plural(len(card.class_names), "class", "classes")
    if card.group_names is not None:
        classes += f" in {plural(len(card.group_names), 'group')}"
    example = card.example
    return (
        f"{classes}; {plural(sum(card.train_counts), f'training {example}')} ({counts_range(card.train_counts)}) and "
        f"{plural(sum(card.test_counts), f'test {example}')} ({counts_range(card.test_counts)})"
        + (f" and {plural(sum(own), f'validation {example}')}" if (own := card.validation_counts) else "")
        + f", {shape_in_words(card)}"
    )


def shape_in_words(card: DataCard) -> str:
    """How large an input is."""
    if card.text_size is not None:
        return f"texts of at most {plural(card.text_size, 'byte')}"
    if card.sparse_size is not None:
        return f"sparse vectors of {plural(card.sparse_size, 'number')}"
    if card.image_shape is None:
        return f"vectors of {plural(card.vector_size or 0, 'number')}"
    channels, height, width = card.image_shape
    return f"{width}×{height} pixels in {plural(channels, 'channel')}"


def choices(runs: Sequence[Run], name: str) -> list[object]:
    """The values that a field takes over runs, in order of appearance."""
    return list(dict.fromkeys(getattr(run, name) for run in runs))


def _told(value: object) -> str:
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else typed(value)


def training_in_words(runs: Sequence[Run], card: DataCard) -> str:
    """Network, optimiser, batch, epochs and seeds."""

    def chosen(name: str, runs: Sequence[Run] = runs) -> str:
        return listed((_told(value) for value in choices(runs, name)), "or")

    layers = ""
    for width in choices(runs, "hidden_units"):
        if width is not None:
            having = [run for run in runs if run.hidden_units == width]
            heads = "each head" if len(having) == len(runs) else listed(choices(having, "head"))
            layer = "layer" if card.kind == "image" else "hidden layer with ReLU"
            layers += f", a {layer} of {width} units before {heads}"
    networks = []
    backbones = list(map(str, choices(runs, "backbone")))
    for backbone in backbones:
        having = [run for run in runs if run.backbone == backbone]
        nobodys = card.kind != "image" and backbone == Training.model_fields["backbone"].default
        name, called = BAGS.get(card.task, (backbone, "the vectors themselves")) if nobodys else (backbone, "")
        options = Training.options_of(name)
        of_it = ", ".join(f"{name.replace('_', ' ')} {chosen(name, having)}" for name in options)
        if nobodys:
            networks.append(f"{called} ({of_it})" if card.task in BAGS else called)
        else:
            inside = layers if card.kind == "image" and backbone == backbones[-1] else ""
            networks.append(f"{chosen('network', having)} ({of_it or IS_OWN}{inside})")
    after = {"image": "", "vector": f"{layers}, standardised"}.get(card.kind, layers)
    network = " or ".join(networks) + after
    schedule = listed((SCHEDULES[str(name)] for name in choices(runs, "lr_schedule")), "or")
    names = listed((OPTIMIZERS[str(name)] for name in choices(runs, "optimizer")), "or")
    optimiser = f"{names} at learning rate {chosen('lr')}, {schedule}"
    for name, field in Training.model_fields.items():
        if name not in TOLD and not any(isinstance(mark, Of) for mark in field.metadata):
            optimiser += f", {name.replace('_', ' ')} {chosen(name)}" if choices(runs, name) != [field.default] else ""
    moved = ["mirrored"] if any(choices(runs, "flips")) else []
    moved += [f"cropped after padding by {chosen('crops')} pixels"] if any(choices(runs, "crops")) else []
    optimiser += f", training images {listed(moved)} at random" if moved else ""
    seeds = sorted({run.seed for run in runs})
    return (
        f"{network}; {optimiser}, batches of {chosen('batch_size')}, {_epochs(runs)}, "
        f"precision {chosen('precision')}; seed{'s' if len(seeds) > 1 else ''} {listed(seeds)}"
    )


def _epochs(runs: Sequence[Run]) -> str:
    """How many epochs runs have."""
    numbers = sorted({run.epochs for run in runs})
    return listed([*(f"{number:,}" for number in numbers[:-1]), plural(numbers[-1], "epoch")], "or")


def brief(study: Study) -> str:
    """A comparison in a line: its title, epochs and number of seeds."""
    return f"{study.title} ({_epochs(study.runs)}, {plural(len(set(choices(study.runs, 'seed'))), 'seed')})"


def scored_in_words(summary: Summary) -> str:
    """How many examples the scores before the last epoch are of, or nothing if of all."""
    counts = sorted({epoch.scored for result in summary.results for epoch in result.epochs if epoch.scored})
    if not counts:
        return ""
    number = f"{counts[0]:,}" if len(counts) == 1 else f"{counts[0]:,} to {counts[-1]:,}"
    return (
        f" Points before the last epoch are of {number} test {summary.card.example}s that were drawn once; the last "
        "point is of all."
    )


def own_in_words(study: Study) -> str:
    """The parts of the user's own, each with a hash of its source text, a head with who checked it; or nothing."""
    parts = dict.fromkeys((*study.own, *(part for run in study.runs for part in run.own)))
    named = listed(
        f"{part.option.removeprefix('--')} {part.name} (source {part.source}"
        f"{', checked by the quick laws of softmaxes.testing' if part.option == '--heads' else ''})"
        for part in parts
    )
    return f"Parts of the user's own: {named}." if parts else ""


def machine_in_words(machine: Machine) -> str:
    """Where runs were timed, and with what versions."""
    devices = f", {machine.devices} devices a run, {machine.strategy}" if machine.devices > 1 else ""
    return (
        f"{machine.processor} ({machine.device}, {plural(machine.cores, 'core')}, {plural(machine.jobs, 'run')} at a "
        f"time{devices}), Python {machine.python}, PyTorch {machine.torch}, softmaxes {machine.softmaxes}"
    )


def machines(summary: Summary) -> list[str]:
    """Each machine that runs of the study were timed on."""
    return list(dict.fromkeys(machine_in_words(result.machine) for result in summary.results))


def sentence(text: str) -> str:
    """A text with a capital and a full stop."""
    return f"{text[:1].upper()}{text[1:].rstrip('.')}."


def grouped(summary: Summary) -> bool:
    """Whether the confusion matrices are by group, the classes being too many."""
    matrix = summary.matrix(summary.finished[0]) if summary.finished else None
    return matrix is not None and matrix.unit == "group"


def without_matrix(summary: Summary) -> str:
    """Why there are no confusion matrices, or nothing where there are."""
    if not summary.finished or summary.matrix(summary.finished[0]) is not None:
        return ""
    return f"A matrix of {len(summary.card.class_names):,} classes could not be read, so there is none."


def confusion_in_words(row: Row, card: DataCard) -> str:
    """How many examples went wrong, and how far."""
    confusion = row.confusion
    share = confusion.errors / confusion.examples if confusion.examples else 0.0
    text = (
        f"{confusion.errors:,} of {plural(confusion.examples, 'prediction')} are wrong ({percent(share)}), "
        f"over {plural(len(row.finished), 'seed')}."
    )
    if card.group_of_class is not None and confusion.errors:
        within, expected = confusion.within_group(card.group_of_class)
        text += (
            f" {percent(within)} of the errors stay within the true class's group; "
            f"{percent(expected)} would if errors fell on every other class alike."
        )
    return text


def guessing_seeds(summary: Summary) -> str:
    """Whose guesses are shown beside the sample images."""
    seeds = {row.finished[0].run.seed for row in summary.finished}
    if len(seeds) == 1:
        return f"seed {seeds.pop()}"
    return listed(f"seed {row.finished[0].run.seed} ({row.label})" for row in summary.finished)


def ranked(guess: Guess) -> list[tuple[int, float]]:
    """A guess's classes with their probabilities."""
    return list(zip(guess.classes, guess.probabilities, strict=True))


@dataclass(frozen=True)
class RunLine:
    """A run in the list of every run."""

    row: Row
    run: Run
    accuracy: str
    nll: str
    state: str
    again: str  # the command that trains it anew


def runs(summary: Summary) -> list[RunLine]:
    """Every planned run and what became of it."""
    by_key = {result.run.key: result for result in summary.results}
    options = shlex.join(summary.study.data_options)
    lines = []
    for row in summary.rows:
        for seed in row.planned:
            run = row.setting.model_copy(update={"seed": seed})
            result = by_key.get(run.key)
            again = f"softmaxes repeat runs/{run.key}.json {options}".rstrip()
            if result is None:
                lines.append(RunLine(row, run, "–", "–", "no result yet", again))
            elif result.diverged is not None:
                lines.append(RunLine(row, run, "–", "–", f"diverged in epoch {result.diverged}", again))
            else:
                scores = final_scores(result)
                loss = f"{number(scores.nll, NLL)} {outside(scores.outside_support)}".strip()
                lines.append(RunLine(row, run, number(scores.accuracy, ACCURACY), loss, "finished", again))
    return lines
