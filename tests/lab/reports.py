"""Studies whose results are made up, as training would leave them, and how a test has them printed."""

import base64
import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw
from rich.console import Console

from softmaxes.lab import report as reporting
from softmaxes.lab.bits import packed
from softmaxes.lab.records import (
    Branch,
    Calibration,
    DataCard,
    Epoch,
    Guess,
    LossPoint,
    Machine,
    Published,
    Reliability,
    Result,
    Run,
    Sample,
    Scores,
    Searched,
    Study,
    Temperature,
    TrainedTree,
    TreeScores,
)
from softmaxes.lab.report.summary import final_scores, summarise
from softmaxes.lab.report.terminal import print_summary


def write_report(study: Study, card: DataCard, results: Sequence[Result], directory: Path) -> Path:
    return reporting.write_report(summarise(study, card, results), directory)


def print_table(study: Study, card: DataCard, results: Sequence[Result], console: Console) -> None:
    print_summary(summarise(study, card, results), console)


GROUPS = (
    "Latin",
    "Armenian",
    "Arrows",
    "Braille",
    "Cyrillic",
    "Currency",
    "Dingbats",
    "Georgian",
    "Greek",
    "Hebrew",
    "Hangul",
    "Hiragana",
    "Letterlike",
    "Mathematical-operators-and-relations",
    "Number-forms",
    "Punctuation",
    "Runic",
    "Shapes",
    "Tifinagh",
    "Technical",
)

ACCURACY = {"softmax": 0.71, "gumbel": 0.70, "hierarchical": 0.58}

SECONDS = {"softmax": 8.1, "gumbel": 8.4, "hierarchical": 11.9}

MACHINE = Machine(
    device="cpu", processor="AMD EPYC", cores=2, jobs=2, python="3.11.7", torch="2.13.0", softmaxes="0.1.0"
)


def picture(label: str, colour: int) -> str:
    image = Image.new("RGB", (32, 32), (colour, 255 - colour, 120))
    ImageDraw.Draw(image).text((9, 8), label, fill="white")
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


def make_card(num_classes: int = 100, group_size: int | None = 5, samples: int = 12, **fields: object) -> DataCard:
    groups = None if group_size is None else tuple(index // group_size for index in range(num_classes))
    names = (
        None
        if groups is None
        else tuple(GROUPS[g] if g < len(GROUPS) else f"Group {g}" for g in range(max(groups) + 1))
    )
    values: dict[str, object] = {
        "name": "glyphs",
        "description": "Characters drawn in many faces, sizes and colours.",
        "source": "rendered",
        "fingerprint": "f00d",
        "class_names": tuple(f"glyph {index:03d}, with a name that a phone has to cut" for index in range(num_classes)),
        "group_names": names,
        "group_of_class": groups,
        "image_shape": (3, 32, 32),
        "train_counts": (200,) * num_classes,
        "test_counts": (20,) * num_classes,
        "samples": tuple(
            Sample(target=index * 8 % num_classes, png=picture(chr(65 + index), index * 20)) for index in range(samples)
        ),
    }
    return DataCard.model_validate(values | fields)


def make_run(head: str = "softmax", seed: int = 0, **fields: object) -> Run:
    return Run.model_validate(
        {"head": head, "seed": seed, "data": "glyphs", "fingerprint": "f00d", "epochs": 10} | fields
    )


def make_scores(accuracy: float, /, **fields: float) -> Scores:
    values = {
        "accuracy": accuracy,
        "top5": accuracy**0.3,
        "precision": accuracy + 0.004,
        "recall": accuracy,
        "f1": accuracy - 0.006,
        "nll": 3.2 * (1 - accuracy) ** 0.8,
        "calibration_error": 0.02 + 0.1 * (1 - accuracy),
    }
    return Scores.model_validate(values | fields)


def make_result(
    run: Run, card: DataCard, accuracy: float | None = None, scores: Scores | None = None, diverged: int | None = None
) -> Result:
    """A run as training would leave it: curves that flatten, errors that favour the true class's group."""
    random = np.random.default_rng([run.seed, len(run.head)])
    num_classes = len(card.class_names)
    final = ACCURACY.get(run.head, 0.5) + random.normal(0, 0.008) if accuracy is None else accuracy
    epochs = []
    for epoch in range(1, (diverged or run.epochs) + 1):
        reached = final * (1 - math.exp(-0.55 * epoch)) / (1 - math.exp(-0.55 * run.epochs))
        ended = epoch == run.epochs
        seen = reached if ended else reached + random.normal(0, 0.01)
        epochs.append(
            Epoch(
                epoch=epoch,
                train_loss=math.inf if epoch == diverged else 3.6 * math.exp(-0.2 * epoch) + 0.6 * len(run.head) / 10,
                scores=None if epoch == diverged else scores if scores and ended else make_scores(seen),
                train_seconds=SECONDS.get(run.head, 9.0) * random.uniform(0.97, 1.06),
                test_seconds=0.6,
            )
        )
    confusion: list[tuple[int, int, int]] = []
    if diverged is None:
        for target, images in enumerate(card.test_counts):
            chances = random.gamma(0.25, 1.0, num_classes)
            if card.group_of_class is not None:
                chances[np.array(card.group_of_class) == card.group_of_class[target]] *= 14
            chances[target] = 0
            chances *= (1 - final) / chances.sum()
            chances[target] = final
            counts = random.multinomial(images, chances / chances.sum())
            confusion += [(target, int(place), int(counts[place])) for place in np.flatnonzero(counts)]
    guesses = []
    for sample in card.samples if diverged is None else ():
        classes = [sample.target, *(int(c) for c in random.permutation(num_classes) if c != sample.target)][:5]
        shares = np.sort(random.dirichlet(np.ones(6) * 0.5))[::-1][:5]
        if random.random() > final:
            classes[0], classes[2] = classes[2], classes[0]
        guesses.append(Guess(classes=tuple(classes), probabilities=tuple(float(share) for share in shares)))
    return Result(
        run=run,
        epochs=tuple(epochs),
        losses=tuple(
            LossPoint(step=500 * (index + 1), loss=4.4 * math.exp(-0.12 * index) + 0.3 + random.normal(0, 0.05))
            for index in range(12 if diverged is None else 3)
        ),
        confusion=tuple(confusion),
        guesses=tuple(guesses),
        parameters=81_310 + 100 * len(run.head),
        head_parameters=64_100,
        peak_memory_mib=612.4 + run.seed,
        machine=MACHINE,
    )


def make_reliability(accuracy: float, examples: int, gap: float) -> Reliability:
    """Confidences spread over the bins about the accuracy, which is below them by the gap."""
    centres = (np.arange(15) + 0.5) / 15
    weights = np.exp(-8 * (centres - accuracy) ** 2) * (centres > 0.2)
    return Reliability(
        examples=tuple(int(count) for count in np.round(examples * weights / weights.sum())),
        confidence=tuple(np.where(centres > 0.2, centres, 0).tolist()),
        accuracy=tuple(np.where(centres > 0.2, np.clip(centres - gap, 0, 1), 0).tolist()),
    )


def with_statistics(result: Result, scaled: bool = True) -> Result:
    """As training leaves it since results keep which examples were right, and how confidence did."""
    accuracy, examples = final_scores(result).accuracy, result.examples
    random = np.random.default_rng([result.run.seed, len(result.run.head)])
    right = np.arange(examples) < round(accuracy * examples)
    right ^= random.random(examples) < 0.02
    temperature = Temperature(
        temperature=1.4 + result.run.seed / 10,
        fitted_on=100,
        nll=0.9 * final_scores(result).nll if math.isfinite(final_scores(result).nll) else math.inf,
        calibration_error=0.01,
        reliability=make_reliability(accuracy, examples, 0.01),
    )
    calibration = Calibration(
        reliability=make_reliability(accuracy, examples, 0.12), scaled=temperature if scaled else None
    )
    fields = {"correct": packed(right), "calibration": calibration}
    return Result.model_validate(dict(result) | fields)


def make_study(runs: list[Run], **fields: object) -> Study:
    values: dict[str, object] = {
        "name": "toy",
        "title": "Three softmaxes on glyphs",
        "description": "A flat softmax, a softmax with Gumbel noise in training, and a hierarchical softmax over a "
        "balanced binary tree, trained on the same batches from the same initial trunk.",
        "runs": tuple(runs),
        "published": (
            Published(
                head="softmax", accuracy=0.2314, precision=0.237453, recall=0.2314, f1=0.212231, epoch_seconds=61.13
            ),
            Published(head="gumbel", accuracy=0.1671, precision=0.173658, recall=0.1671, f1=0.163595),
            Published(head="absent", accuracy=0.1183),
        ),
        "published_source": "the original study, n = 1",
    }
    return Study.model_validate(values | fields)


def whole_study() -> tuple[Study, DataCard, list[Result]]:
    card = make_card()
    runs = [make_run(head, seed) for seed in range(3) for head in ACCURACY]
    return make_study(runs), card, [with_statistics(make_result(run, card)) for run in runs]


def scored(
    heads: Mapping[str, Sequence[float | None]], measure: str = "accuracy"
) -> tuple[Study, DataCard, list[Result]]:
    """A study whose runs end with these values of a measure: a head's first value is seed 0's; none, no run."""
    card = make_card(num_classes=10, samples=0)
    results = [
        make_result(make_run(head, seed), card, accuracy=0.5, scores=make_scores(0.5, **{measure: value}))
        for head, values in heads.items()
        for seed, value in enumerate(values)
        if value is not None
    ]
    return make_study([result.run for result in results], published=()), card, results


def partial_study() -> tuple[Study, DataCard, list[Result]]:
    """Softmax lacks a seed, Gumbel diverged at one, nothing of the hierarchical head is there yet."""
    study, card, results = whole_study()
    kept = [result for result in results if result.run.head != "hierarchical" and result.run.seed != 2]
    diverged = make_result(make_run("gumbel", 2), card, diverged=3)
    return study, card, [*kept, diverged]


def sparse_study() -> tuple[Study, DataCard, list[Result]]:
    """Sparsemax has an infinite NLL after every epoch, entmax at one seed after the third and the last."""
    card = make_card(num_classes=10, samples=0)
    results = []
    for seed in range(3):
        for head in ("softmax", "sparsemax", "entmax"):
            result = make_result(make_run(head, seed), card, accuracy=0.7 if head == "softmax" else 0.5 + seed / 100)
            epochs = [
                epoch.model_copy(
                    update={"scores": epoch.scores.model_copy(update={"nll": math.inf, "outside_support": share})}
                )
                if epoch.scores and share
                else epoch
                for epoch, share in zip(result.epochs, SHARES[head, seed], strict=True)
            ]
            results.append(result.model_copy(update={"epochs": tuple(epochs)}))
    return make_study([result.run for result in results], published=()), card, results


SHARES = {(head, seed): [0.0] * 10 for head in ("softmax", "entmax") for seed in range(3)}
SHARES |= {("sparsemax", seed): [0.02 + seed / 100] * 10 for seed in range(3)}
SHARES["entmax", 1] = [0, 0, 0.1, 0, 0, 0, 0, 0, 0, 0.0001]


def many_study(
    heads: int = 24, samples: int = 2, kind: str = "hierarchical-tree"
) -> tuple[Study, DataCard, list[Result]]:
    """More heads than there are colours, under long names, the two last with an infinite NLL."""
    card = make_card(num_classes=20, samples=samples)
    names = [f"{kind}-{number:02d}" if number % 3 else f"head-{number:02d}" for number in range(heads)]
    results = []
    for seed in range(3):
        for number, head in enumerate(names):
            accuracy = 0.5 + 0.01 * (7 * number % heads) + 0.002 * seed
            result = make_result(make_run(head, seed), card, accuracy=accuracy)
            if number >= heads - 2:
                epochs = (epoch.model_dump(mode="json") for epoch in result.epochs)
                spoilt = [e | {"scores": e["scores"] | {"nll": math.inf, "outside_support": 0.03}} for e in epochs]
                result = result.model_copy(update={"epochs": tuple(map(Epoch.model_validate, spoilt))})
            results.append(with_statistics(result, scaled=number != 1))
    study = make_study([result.run for result in results], published=(), title=f"{heads} heads on glyphs")
    return study, card, results


ALERT = "<script>alert(1)</script>"


def hostile(card: DataCard) -> DataCard:
    """The card with names that would break a page, a script, a figure or a line that takes them for its own."""
    names = list(card.class_names)
    for index, name in enumerate((ALERT, "</script><b>", "<!--", "$x_1$ {{ 7*7 }}", "שלום", "a\"b'c&amp;", "漢字")):
        names[index] = name
        names[-1 - index] = name  # and no name is unique
    assert card.group_names is not None
    groups = (ALERT, "--ink", *card.group_names[2:])
    return card.model_copy(update={"class_names": tuple(names), "group_names": groups, "description": ALERT})


def long_tailed(
    train_counts: tuple[int, ...], heads: tuple[str, ...] = tuple(ACCURACY)
) -> tuple[Study, DataCard, list[Result]]:
    card = make_card(num_classes=len(train_counts), samples=0, train_counts=train_counts)
    runs = [make_run(head, seed) for seed in range(3) for head in heads]
    return make_study(runs, published=()), card, [make_result(run, card) for run in runs]


TAIL = tuple(round(300 / 1.3**rank) for rank in range(20))


def tree_results(card: DataCard) -> list[Result]:
    """A flat head and one over the groups' tree, both judged by it; the second with the way to each guess."""
    groups = card.group_of_class
    assert groups is not None
    classes = len(groups)
    parent = (*(classes + 1 + group for group in groups), -1, *[classes] * (max(groups) + 1))
    results = []
    for run in [make_run(head, seed) for seed in range(2) for head in ("softmax", "hierarchical")]:
        scores = make_scores(0.6).model_copy(
            update={
                "tree": TreeScores(
                    level_accuracy=(0.8, 0.6), lca_height=1.5 + run.seed / 10, precision=0.7, recall=0.7, f1=0.7
                )
            }
        )
        result = make_result(run, card, scores=scores)
        if run.head == "hierarchical":
            found = Searched(
                beam_width=4, beam_differs=0.002, beam_accuracy=0.599, greedy_differs=0.031, greedy_accuracy=0.58
            )
            ways = [
                (Branch(node=classes + 1 + groups[first], probability=0.75), Branch(node=first, probability=0.5))
                for first in (guess.classes[0] for guess in result.guesses)
            ]
            guesses = [guess.model_copy(update={"path": way}) for guess, way in zip(result.guesses, ways, strict=True)]
            tree = TrainedTree(parent=parent, learned_after=(2, 5), seconds=0.5, searched=found)
            result = result.model_copy(update={"tree": tree, "guesses": tuple(guesses)})
        results.append(result)
    return results


def constant(heads: Mapping[str, Sequence[float]], right: Mapping[str, int]) -> tuple[Study, DataCard, list[Result]]:
    """A study of heads with these accuracies, and so many of 200 examples right at every seed."""
    study, card, results = scored(heads)
    flags = {head: packed(np.arange(200) < count) for head, count in right.items()}
    return study, card, [result.model_copy(update={"correct": flags[result.run.head]}) for result in results]


HEADS_OF_STRANGERS = (
    "Softmax",
    "softmax",
    '=HYPERLINK("http://127.0.0.1","x")',
    "+1+1",
    "-cmd|' /C calc'!A0",
    "@SUM(A1)",
    "a`b|c``",
    "[red]x[/]",
    ":warning:",
    "../../a/b",
    "a b",
    "a_b",
    "漢字",
    "x" * 300,
    "_under",
    "%{y} <b>",
)


def strangers(*heads: str) -> tuple[Study, DataCard, list[Result]]:
    card = make_card(num_classes=4, group_size=None, samples=0, train_counts=(200, 100, 50, 2))
    results = [with_statistics(make_result(make_run(head, seed), card)) for head in heads for seed in (0, 1)]
    return make_study([result.run for result in results], published=()), card, results
