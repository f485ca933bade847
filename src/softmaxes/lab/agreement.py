"""What a result says twice has to agree: its scores with its confusions and bits, and all of it with the data.

It recomputes from the record alone. It does not import torch.
"""

import base64
import math
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from softmaxes.lab.records import DataCard, Reliability, Result, Scores

ROUNDING = 1e-9  # relative: sums of some million shares in another order


def check_result(result: "Result") -> None:
    """Refuse a result that contradicts itself.

    Raises:
        ValueError: it does; the message says in what.
    """
    numbers = [epoch.epoch for epoch in result.epochs]
    if numbers != list(range(1, len(numbers) + 1)):
        raise ValueError(f"expected epochs 1 to {len(numbers)} in order, got {_some(numbers)}")
    if any(epoch.scores is None for epoch in result.epochs[:-1]):
        raise ValueError("expected scores of every epoch but the last")
    for epoch in result.epochs:
        if epoch.scores is not None:
            _check_scores(epoch.epoch, epoch.scores)
    steps = [point.step for point in result.losses]
    if any(step >= later for step, later in pairwise(steps)):
        raise ValueError(f"expected losses at steps that rise, got {_some(steps)}")
    if result.head_parameters > result.parameters:
        raise ValueError(f"expected at most {result.parameters} head_parameters, got {result.head_parameters}")
    if result.tree is not None and list(result.tree.learned_after) != sorted(
        {epoch for epoch in result.tree.learned_after if epoch <= result.run.epochs}
    ):
        raise ValueError(f"expected epochs of {result.run.epochs} that rise in tree.learned_after")
    scores = result.epochs[-1].scores
    if scores is None:
        _check_diverged(result)
        return
    if result.epochs[-1].scored is not None:
        raise ValueError(f"expected all examples to be scored after the last epoch, got {result.epochs[-1].scored}")
    if max((epoch.scored or 0 for epoch in result.epochs), default=0) >= result.examples:
        raise ValueError(f"expected fewer than {result.examples} examples in scored")
    if len(numbers) != result.run.epochs:
        raise ValueError(f"expected {result.run.epochs} epochs, got {len(numbers)}")
    if len({pair[:2] for pair in result.confusion}) < len(result.confusion) or not result.confusion:
        raise ValueError("expected each pair of classes once in confusion, and at least one")
    right = sum(count for target, predicted, count in result.confusion if target == predicted)
    _agree("accuracy", scores.accuracy, right / result.examples)
    _check_macro_scores(result, scores)
    if result.correct is not None:
        _check_bits(result.correct, right, result.examples)
    if result.calibration is not None:
        _check_curve("calibration", result.calibration.reliability, scores, scores.calibration_error, result.examples)
        if (scaled := result.calibration.scaled) is not None:
            _check_curve("calibration.scaled", scaled.reliability, scores, scaled.calibration_error, result.examples)


def check_on(result: "Result", card: "DataCard") -> None:
    """Refuse a result that does not fit the data that it is said to be on.

    Raises:
        ValueError: it does not; the message says in what.
    """
    classes = len(card.class_names)
    seen = [index for guess in result.guesses for index in guess.classes]
    seen += [index for target, predicted, _ in result.confusion for index in (target, predicted)]
    if max(seen, default=0) >= classes:
        raise ValueError(f"expected classes in 0..{classes - 1}, got {max(seen)}")
    if result.tree is not None and (leaves := _leaves(result.tree.parent)) != classes:
        raise ValueError(f"expected a tree over {classes} classes, got {leaves} leaves")
    exact = card.example_counts is None or result.run.validation == 0
    steps = result.run.epochs * result.run.steps_per_epoch(
        card.trained_on(result.run) if exact else sum(card.train_counts)
    )
    if result.losses and result.losses[-1].step > steps:
        raise ValueError(f"expected losses at steps of at most {steps}, got {result.losses[-1].step}")
    scores = result.epochs[-1].scores
    if scores is None:
        return
    if exact and result.losses and len(result.losses) != steps // result.losses[0].step:
        raise ValueError(
            f"expected a loss every {result.losses[0].step} of {steps} steps, by the training examples, "
            f"got {len(result.losses)}"
        )
    for name, found in zip(("precision", "recall", "f1"), _macro_sums(result), strict=True):
        _agree(name, getattr(scores, name), found / classes)
    held_out = card.held_out(result.run)
    counts = list(card.test_counts) if result.run.scored_on == "test" else held_out
    of_class = Counter[int]()
    for target, _, count in result.confusion:
        of_class[target] += count
    for index, count in enumerate(counts):
        if of_class[index] != count:
            raise ValueError(f"expected {count} examples of class {index} in confusion, got {of_class[index]}")
    if result.run.scored_on == "test" and len(result.guesses) != len(card.samples):
        raise ValueError(f"expected a guess for each of {len(card.samples)} samples, got {len(result.guesses)}")
    if result.calibration is not None and result.calibration.scaled is not None:
        fitted_on = result.calibration.scaled.fitted_on
        if fitted_on > sum(held_out):
            raise ValueError(f"expected a temperature fitted on at most {sum(held_out)} examples, got {fitted_on}")
    if scores.tree is not None:
        _check_groups(result, card)


def _check_diverged(result: "Result") -> None:
    if len(result.epochs) > result.run.epochs:
        raise ValueError(f"expected at most {result.run.epochs} epochs, got {len(result.epochs)}")
    searched = result.tree is not None and result.tree.searched is not None
    if result.confusion or result.guesses or result.correct is not None or result.calibration is not None or searched:
        raise ValueError("expected nothing of the test set, for the last epoch has no scores")


def _check_scores(epoch: int, scores: "Scores") -> None:
    """What scores of one epoch say of each other, whatever the predictions."""
    if scores.top5 < scores.accuracy:
        raise ValueError(f"expected top5 of at least {scores.accuracy:.6g} in epoch {epoch}, got {scores.top5:.6g}")
    precisions = (scores.precision_at_1, scores.precision_at_3, scores.precision_at_5)
    known = [(k, share) for k, share in zip((1, 3, 5), precisions, strict=True) if share is not None]
    if len(known) not in (0, len(precisions)):
        raise ValueError(f"expected precision at 1, 3 and 5 or none in epoch {epoch}, got {len(known)} of them")
    least, most = (
        scores.accuracy,
        1.0,
    )  # labels found among the k classes, in the mean; the first class may be the target
    for k, share in known:
        if not least - ROUNDING <= k * share <= most + ROUNDING:
            raise ValueError(
                f"expected precision_at_{k} of {least / k:.6g} to {most / k:.6g} in epoch {epoch}, got {share:.6g}"
            )
        least, most = k * share, k * share + 2
    if scores.perplexity is not None and math.isfinite(scores.perplexity):
        _agree(f"perplexity in epoch {epoch}", scores.perplexity, math.exp(scores.nll))
    if scores.outside_support > 0 and math.isfinite(scores.nll):
        raise ValueError(f"expected an infinite nll in epoch {epoch}, got {scores.nll:.6g}")
    if scores.tree is not None:
        levels = scores.tree.level_accuracy
        if list(levels) != sorted(levels, reverse=True):
            raise ValueError(f"expected tree.level_accuracy that never rises in epoch {epoch}")
        _agree(f"tree.level_accuracy in epoch {epoch}", levels[-1], scores.accuracy)


def _check_macro_scores(result: "Result", scores: "Scores") -> None:
    """They are sums over classes, divided by a number of classes that only the data know; it is the same for all."""
    sums = _macro_sums(result)
    least = max(max(target, predicted) for target, predicted, _ in result.confusion) + 1
    classes = max(least, round(sums[1] / scores.recall)) if scores.recall > 0 else least
    for name, found in zip(("precision", "recall", "f1"), sums, strict=True):
        _agree(name, getattr(scores, name), found / classes)


def _macro_sums(result: "Result") -> tuple[float, float, float]:
    """Precision, recall and F1 of each class, summed over the classes."""
    right, target_of, predicted_as = Counter[int](), Counter[int](), Counter[int]()
    for target, predicted, count in result.confusion:
        target_of[target] += count
        predicted_as[predicted] += count
        if target == predicted:
            right[target] += count
    return (
        math.fsum(hits / predicted_as[index] for index, hits in right.items()),
        math.fsum(hits / target_of[index] for index, hits in right.items()),
        math.fsum(2 * hits / (target_of[index] + predicted_as[index]) for index, hits in right.items()),
    )


def _check_bits(correct: str, right: int, examples: int) -> None:
    """As many bits are set as predictions are right, and none behind the last example."""
    content = base64.b64decode(correct)
    bits = int.from_bytes(content, "big")
    if bits & ((1 << (8 * len(content) - examples)) - 1):
        raise ValueError(f"expected no bit behind the {examples} examples in correct")
    if bits.bit_count() != right:
        raise ValueError(f"expected {right} bits in correct, as predictions are right, got {bits.bit_count()}")


def _check_curve(where: str, curve: "Reliability", scores: "Scores", error: float, examples: int) -> None:
    """A reliability curve is of all examples, and gives their accuracy and the calibration error."""
    if sum(curve.examples) != examples:
        raise ValueError(f"expected {examples} examples in {where}.reliability, got {sum(curve.examples)}")
    bins = list(zip(curve.examples, curve.confidence, curve.accuracy, strict=True))
    _agree("accuracy", scores.accuracy, math.fsum(count * right for count, _, right in bins) / examples)
    gap = math.fsum(count * abs(right - confident) for count, confident, right in bins) / examples
    _agree(f"{where}: calibration_error", error, gap)


def _check_groups(result: "Result", card: "DataCard") -> None:
    """What the tree of groups says of the predictions is said by the confusions too: its leaves are equally deep."""
    scores = result.epochs[-1].scores
    if scores is None or scores.tree is None:
        return
    if card.group_of_class is None:
        raise ValueError("expected no scores by a tree, for the data have no groups")
    levels = [card.group_of_class]  # the number of each class's group, from fine to coarse
    for coarser in card.coarser_groups:
        levels.append(tuple(coarser[group] for group in levels[-1]))
    right = 0
    within = [0] * len(levels)
    for target, predicted, count in result.confusion:
        right += count * (target == predicted)
        for place, group in enumerate(levels):
            within[place] += count * (group[target] == group[predicted])
    wrong = result.examples - right
    shares = [hits / result.examples for hits in (*reversed(within), right)]
    if len(scores.tree.level_accuracy) != len(shares):
        raise ValueError(f"expected the accuracy at {len(shares)} levels, got {len(scores.tree.level_accuracy)}")
    for said, found in zip(scores.tree.level_accuracy, shares, strict=True):
        _agree("tree.level_accuracy", said, found)
    for name in ("precision", "recall", "f1"):
        _agree(f"tree.{name}", getattr(scores.tree, name), math.fsum(shares) / len(shares))
    height = None if wrong == 0 else len(shares) - sum(hits - right for hits in within) / wrong
    if (scores.tree.lca_height is None) != (height is None):
        raise ValueError("expected tree.lca_height where there are mistakes, and none elsewhere")
    if scores.tree.lca_height is not None and height is not None:
        _agree("tree.lca_height", scores.tree.lca_height, height)


def _leaves(parent: Sequence[int]) -> int:
    return len(parent) - len({above for above in parent if above >= 0})


def _agree(name: str, said: float, found: float) -> None:
    if not math.isclose(said, found, rel_tol=ROUNDING, abs_tol=ROUNDING):
        raise ValueError(f"expected {name} {found:.6g}, by what else is stored, got {said:.6g}")


def _some(numbers: Iterable[int]) -> str:
    return ", ".join(str(number) for number, _ in zip(numbers, range(8), strict=False))
