"""The judge: what is said of a trained classifier on examples that it was not trained on, from ``log_prob`` alone."""

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from softmaxes import HierarchicalSoftmax, Tree, metrics
from softmaxes.heads.hierarchical import search
from softmaxes.lab.data.batches import TEST_BATCH, Examples
from softmaxes.lab.machine import now
from softmaxes.lab.records import (
    Branch,
    Calibration,
    DataCard,
    Guess,
    Reliability,
    Scores,
    Searched,
    Temperature,
    TreeScores,
)
from softmaxes.lab.seeds import stream
from softmaxes.lab.training.classifier import Classifier
from softmaxes.lab.training.fabric import Fabric

# Log-probabilities of a test batch at most: of 17,000 classes and more it has fewer examples. On a CPU that is faster
# too: at 100,000 classes 0.8 ms an example instead of 2 at four times as many, as arrays of 32 MiB are used again.
TEST_NUMBERS = 2**23
# Log-probabilities that a temperature is fitted to at most, 64 MiB of them: of 10,000 classes 1,677 examples.
FIT_NUMBERS = 2**24
FEW = 10_000  # examples that are all scored after every epoch, if nothing else is asked for
LEAST_SCORED = 1000  # examples, of more
BEAM_WIDTH = 4  # of the search that is set beside the exact one
PLACES = (1, 3, 5)  # k of precision@k
GUESSES = 5  # classes of a sample that the report shows


class Judge:
    """What is said of a classifier on some examples.

    Args:
        fabric: knows the precision.
        card: what is known of the data; of its groups a tree is made that judges every head.
        examples: what the classifier is judged on.
    """

    def __init__(self, fabric: Fabric, card: DataCard, examples: Examples) -> None:
        self._fabric = fabric
        self._examples = examples
        self._classes = len(card.class_names)
        self._next_word = card.next_word
        self._tree = (
            None if card.group_of_class is None else Tree.from_groups(card.group_of_class, *card.coarser_groups)
        )
        self._batch = max(1, min(TEST_BATCH, TEST_NUMBERS // self._classes))

    def __len__(self) -> int:
        return len(self._examples)

    def judge_some(self, model: Any, number: int | None, seconds: float) -> metrics.Judged | None:
        """As `judge`, of the first examples in an order that was drawn once.

        Args:
            model: the classifier.
            number: how many; if none is given, as many as can be judged in some time, at least `LEAST_SCORED`, and all
                of few, `FEW`.
            seconds: that time.
        """
        if len(self) <= (FEW if number is None else number):
            return self.judge(model)
        generator = torch.Generator().manual_seed(stream("score"))
        mixed = torch.randperm(len(self._examples), generator=generator).to(self._examples.rows.device)
        some = self._examples.only(self._examples.rows[mixed[:number]])
        device = some.labels.device
        begun = now(device)

        def enough(judged: int) -> bool:
            return number is None and judged >= LEAST_SCORED and now(device) - begun >= seconds

        return self._judged(model, some, enough=enough)

    def judge(self, model: Any, temperature: float | None = None) -> metrics.Judged | None:
        """What the scores need of the examples; none where the head gives NaN."""
        return self._judged(model, self._examples, temperature)

    @torch.no_grad()
    def _judged(
        self,
        model: Any,
        examples: Examples,
        temperature: float | None = None,
        enough: Callable[[int], bool] = lambda judged: False,
    ) -> metrics.Judged | None:
        """As `judge`, of some examples; several ranks share each batch, and all have what came of it."""
        model.eval()
        size, rank = self._fabric.world_size, self._fabric.global_rank
        judged: list[metrics.Judged] = []
        for rows in torch.split(examples.rows, self._batch * size):
            if self._of_first(enough(self._batch * size * len(judged))):
                break
            own = rows.tensor_split(size)[rank]
            seen = own if len(own) > 0 else rows[:1]  # which is not counted
            log_prob = model.log_prob(examples.batch(seen))
            if self._of_any(bool(log_prob.isnan().any())):
                return None
            if temperature is not None:
                log_prob = metrics.at_temperature(log_prob, temperature)
            one = metrics.judge(log_prob, examples.labels[seen], examples.all_labels(seen))
            judged.append(one if len(own) > 0 else metrics.Judged(*(column[:0] for column in one)))
        return metrics.join(self._of_all(judged))

    def _of_first(self, said: bool) -> bool:
        """What the first rank says."""
        return said if self._fabric.world_size == 1 else bool(self._fabric.broadcast(said))

    def _of_any(self, said: bool) -> bool:
        """Whether a rank says so."""
        if self._fabric.world_size == 1:
            return said
        told = torch.tensor([int(said)], device=self._fabric.device)
        dist.all_reduce(told, op=dist.ReduceOp.MAX)
        return bool(told)

    def _of_all(self, judged: list[metrics.Judged]) -> list[metrics.Judged]:
        """The batches of all ranks, in the examples' order."""
        if self._fabric.world_size == 1:
            return judged
        every: list[list[metrics.Judged]] = [[] for _ in range(self._fabric.world_size)]
        dist.all_gather_object(every, [_on(one, torch.device("cpu")) for one in judged])
        return [_on(one, self._fabric.device) for batch in zip(*every, strict=True) for one in batch]

    def scores(self, judged: metrics.Judged) -> Scores:
        """All scores, those by the tree of groups too, if there are groups."""
        precision, recall, f1 = metrics.macro_scores(judged, self._classes)
        places = () if self._examples.label_sets is None else PLACES
        of_all = {f"precision_at_{k}": metrics.precision_at(judged, k) for k in places}
        return Scores(
            accuracy=metrics.accuracy(judged),
            top5=metrics.topk_accuracy(judged, 5),
            precision=precision,
            recall=recall,
            f1=f1,
            nll=metrics.nll(judged),
            perplexity=metrics.perplexity(judged) if self._next_word else None,
            calibration_error=metrics.calibration_error(judged),
            outside_support=metrics.outside_support(judged),
            tree=None if self._tree is None else _tree_scores(judged, self._tree),
            **of_all,
        )

    def confusion(self, judged: metrics.Judged) -> tuple[tuple[int, int, int], ...]:
        """Target, predicted class and count, of all counts above zero."""
        return tuple(map(tuple, metrics.confusion(judged, self._classes).tolist()))

    def calibration(self, model: Any, judged: metrics.Judged, held_out: Examples | None) -> Calibration:
        """What the confidences are worth, before and after a temperature is fitted on held-out examples."""
        scaled = None if held_out is None else self._scaled(model, held_out)
        return Calibration(reliability=_reliability(judged), scaled=scaled)

    @torch.no_grad()
    def _scaled(self, model: Any, held_out: Examples) -> Temperature | None:
        """The temperature that suits the held-out examples, of very many classes some of them, and the scores after it.

        None where nothing is held out, where no held-out target has a probability, and where the head gives NaN.
        """
        model.eval()
        if len(held_out) * self._classes > FIT_NUMBERS:
            mixed = torch.randperm(len(held_out), generator=torch.Generator().manual_seed(stream("temperature")))
            some = mixed[: max(1, FIT_NUMBERS // self._classes)].to(held_out.rows.device)
            held_out = held_out.only(held_out.rows[some])
        found = [model.log_prob(input) for input, _ in held_out.batches(self._batch)]
        if len(held_out) == 0 or any(bool(log_prob.isnan().any()) for log_prob in found):
            return None
        temperature = metrics.fit_temperature(torch.cat(found), held_out.labels[held_out.rows])
        if temperature is None or (judged := self.judge(model, temperature)) is None:
            return None
        return Temperature(
            temperature=temperature,
            fitted_on=len(held_out),
            nll=metrics.nll(judged),
            calibration_error=metrics.calibration_error(judged),
            reliability=_reliability(judged),
        )

    @torch.no_grad()
    def searched(self, classifier: Classifier, judged: metrics.Judged) -> Searched | None:
        """How often two cheap searches end elsewhere than the exact one; none of a head that is not over one tree."""
        head = classifier.head
        if not isinstance(head, HierarchicalSoftmax):
            return None
        classifier.eval()
        found: list[tuple[Tensor, Tensor]] = []
        with self._fabric.autocast():
            for input, _ in self._examples.batches():
                features = classifier.features(input)
                beam = search.beam(head, features, 1, BEAM_WIDTH)[1].squeeze(1)
                found.append((beam, search.greedy(head, features)[1]))
        beam, greedy = (torch.cat(classes) for classes in zip(*found, strict=True))

        def share(hits: Tensor) -> float:
            return hits.double().mean().item()

        return Searched(
            beam_width=BEAM_WIDTH,
            beam_differs=share(beam != judged.prediction),
            beam_accuracy=share(beam == judged.target),
            greedy_differs=share(greedy != judged.prediction),
            greedy_accuracy=share(greedy == judged.target),
        )

    @torch.no_grad()
    def guesses(self, model: Any, classifier: Classifier | None, rows: Tensor) -> tuple[Guess, ...]:
        """The most probable classes of some examples, with the path to the first of them if the head has one tree."""
        model.eval()
        if len(rows) == 0:
            return ()
        inputs = self._examples.batch(rows)
        log_prob = model.log_prob(inputs)
        values, classes = log_prob.topk(min(GUESSES, log_prob.shape[1]))
        possible = (values > -math.inf).sum(1).tolist()  # of the impossible classes, which ones topk takes is chance
        shares = values.exp().clamp(max=1).tolist()
        paths = self._paths(classifier, inputs, classes[:, 0])
        return tuple(
            Guess(classes=tuple(row[:known]), probabilities=tuple(some[:known]), path=path)
            for row, some, known, path in zip(classes.tolist(), shares, possible, paths, strict=True)
        )

    def _paths(self, classifier: Classifier | None, inputs: Tensor, classes: Tensor) -> list[tuple[Branch, ...]]:
        """The path from the root to a class for each input; empty where there is not one tree."""
        if classifier is None or not isinstance(classifier.head, HierarchicalSoftmax):
            return [()] * len(classes)
        with self._fabric.autocast():
            turns, nodes = search.decisions(classifier.head, classifier.features(inputs), classes)
        return [
            tuple(
                Branch(node=node, probability=min(share, 1.0))
                for node, share in zip(path, shares, strict=True)
                if node >= 0
            )
            for path, shares in zip(nodes.tolist(), turns.exp().tolist(), strict=True)
        ]


def _on(judged: metrics.Judged, device: torch.device) -> metrics.Judged:
    return metrics.Judged(*(column.to(device) for column in judged))


def _tree_scores(judged: metrics.Judged, tree: Tree) -> TreeScores:
    height = metrics.mean_lca_height(judged, tree)
    precision, recall, f1 = metrics.hierarchical_scores(judged, tree)
    return TreeScores(
        level_accuracy=tuple(metrics.level_accuracy(judged, tree)),
        lca_height=None if math.isnan(height) else height,
        precision=precision,
        recall=recall,
        f1=f1,
    )


def _reliability(judged: metrics.Judged) -> Reliability:
    columns = metrics.reliability(judged)._asdict().items()
    return Reliability(**{name: tuple(column.tolist()) for name, column in columns})
