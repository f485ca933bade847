"""A trained classifier from the folder of its run, as a module of PyTorch. Nothing in the folder is executed."""

import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from torch import Tensor, nn

from softmaxes import HierarchicalSoftmax, Tree
from softmaxes.files import InputError, read_whole
from softmaxes.heads.hierarchical import search
from softmaxes.lab.agreement import check_on
from softmaxes.lab.heads.registry import entry_of_ours, one_name
from softmaxes.lab.records import DataCard, Result, Run
from softmaxes.lab.resolve import is_own
from softmaxes.lab.store import KEY, Store, read_record
from softmaxes.lab.training.backbones import BACKBONES
from softmaxes.lab.training.classifier import Classifier, rebuild
from softmaxes.lab.use.inputs import as_bytes, as_trained
from softmaxes.layers import highest

LISTED = 10  # heads, or seeds, that an error names


class Step(NamedTuple):
    """A decision on the way from the root of a tree to a class."""

    node: int
    name: str  # empty where a node has none
    probability: float  # of the node below its parent


class Trained(nn.Module):
    """A trained classifier, or several whose probabilities are averaged, with their preprocessing and class names.

    Args:
        members: the classifiers.
        runs: the run of each.
        card: what is known of the data that they were trained on.

    Shape:
        - images: (N, 3, height, width), uint8, 0 to 255, of ``card.image_shape``
        - vectors: (N, D), floating point
        - texts: N strings; or their bytes in UTF-8, (N, L), uint8, with zeros behind each

    Attributes:
        runs: what was trained, and how.
        card: the data: its name, kind and sizes, groups of classes, and examples of each class in training.
        class_names: one a class, (C,).
    """

    def __init__(self, members: Sequence[Classifier], runs: Sequence[Run], card: DataCard) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)
        self.runs = tuple(runs)
        self.card = card
        self.eval()

    @property
    def class_names(self) -> tuple[str, ...]:
        """One a class."""
        return self.card.class_names

    def forward(self, input: Tensor | Sequence[str]) -> Tensor:
        """Log-probability of every class, in nats: inputs -> (N, C)."""
        input = self._taken(input)
        members = [member.log_prob(input) for member in self._classifiers]
        return members[0] if len(members) == 1 else torch.stack(members).logsumexp(0) - math.log(len(members))

    def topk(self, input: Tensor | Sequence[str], k: int) -> tuple[Tensor, Tensor]:
        """The k most probable classes, most probable first; of equally probable ones the lower first.

        Args:
            input: images, vectors or texts.
            k: how many, 1 to C.

        Returns:
            Their log-probabilities, (N, k), and the classes, (N, k), int64.
        """
        input = self._taken(input)
        if len(self._classifiers) > 1:
            return highest(self(input), k)
        (member,) = self._classifiers
        return member.head.topk(member.features(input), k)

    def predict(self, input: Tensor | Sequence[str]) -> Tensor:
        """The most probable class: inputs -> (N,), int64."""
        return self.topk(input, 1)[1].squeeze(1)

    @torch.no_grad()
    def paths(self, input: Tensor | Sequence[str], classes: Tensor) -> list[list[Step]]:
        """The decisions from the root to a class, for each input; empty where there is not one tree that decides.

        Args:
            input: images, vectors or texts, N of them.
            classes: (N,), int64.
        """
        input = self._taken(input)
        member, *others = self._classifiers
        head = member.head
        if others or not isinstance(head, HierarchicalSoftmax):
            return [[] for _ in range(len(classes))]
        turns, nodes = search.decisions(head, member.features(input), classes)
        names = self._node_names(head.tree)
        return [
            [Step(node, names.get(node, ""), min(share, 1.0)) for node, share in zip(*pair, strict=True) if node >= 0]
            for pair in zip(nodes.tolist(), turns.exp().tolist(), strict=True)
        ]

    def _taken(self, input: Tensor | Sequence[str]) -> Tensor:
        """Inputs as a tensor. Those of another type or shape than in training are refused."""
        card = self.card
        of_texts = card.text_size is not None
        if of_texts and isinstance(input, list | tuple) and all(isinstance(one, str) for one in input):
            texts = [as_trained(str(one)) for one in input]
            if "" in texts:
                raise InputError(f"expected texts, got one without a word: number {texts.index('')} from 0.")
            input = as_bytes(texts)
        if not isinstance(input, Tensor):
            allowed = "a list of strings or a tensor" if of_texts else "a tensor"
            advice = "; of one text take [text]" if of_texts and isinstance(input, str) else ""
            raise InputError(f"expected {card.kind}s as {allowed}, got {type(input).__name__}{advice}.")
        got = f"{input.dtype} {tuple(input.shape)}"
        if card.image_shape is not None:
            if input.dtype != torch.uint8 or input.dim() != 4 or input.shape[1:] != card.image_shape:
                advice = ""
                if input.is_floating_point():
                    advice = "; of floats in 0..1 take (255 * images).round().to(torch.uint8)"
                elif input.shape == card.image_shape:
                    advice = "; of one image take image.unsqueeze(0)"
                sizes = ", ".join(map(str, card.image_shape))
                raise InputError(f"expected images as torch.uint8 (N, {sizes}), got {got}{advice}.")
        elif card.vector_size is not None and (input.dim() != 2 or input.shape[1] != card.vector_size):
            advice = "; of one vector take vector.unsqueeze(0)" if input.shape == (card.vector_size,) else ""
            raise InputError(f"expected vectors (N, {card.vector_size}), got {got}{advice}.")
        elif of_texts and (input.dtype != torch.uint8 or input.dim() != 2):
            raise InputError(f"expected texts as torch.uint8 (N, L), got {got}.")
        return input

    @property
    def _classifiers(self) -> list[Classifier]:
        return [member for member in self.members if isinstance(member, Classifier)]

    def _node_names(self, tree: Tree) -> dict[int, str]:
        """Names of nodes: of the classes; and of groups, where the tree is that of the data's groups."""
        names = dict(enumerate(self.class_names))
        card = self.card
        if card.group_of_class is None or card.group_names is None:
            return names
        groups = Tree.from_groups(card.group_of_class, *card.coarser_groups)
        if torch.equal(groups.parent, tree.parent):
            inner = [name for level in (card.group_names, *card.coarser_names) for name in level]
            names |= dict(enumerate(inner, tree.root + 1))
        return names


def load(
    path: str | Path | Sequence[str | Path],
    head: str | None = None,
    seed: int | None = None,
    *,
    device: str = "cpu",
    trust_code: bool = False,
) -> Trained:
    """The classifier that a run trained, without its training data. Nothing that lies with it is executed.

    Args:
        path: the folder of a comparison, or a run in it, ``runs/KEY.json``; or several runs of one data set, whose
            probabilities are averaged.
        head: of a folder with several heads, which; as it is named in ``--heads``.
        seed: which run of that head. If none is given all are taken, and their probabilities averaged.
        device: where the classifier is put.
        trust_code: whether heads and networks that are Python code of the user's own, ``module:object``, may be
            imported and run.

    Raises:
        InputError: there is no such run, a file is missing or broken, or the run needs code that is not trusted.
    """
    places = [Path(path)] if isinstance(path, (str, Path)) else [Path(one) for one in path]
    if not places:
        raise InputError("expected the folder of a comparison or a run in it, got none.")
    results: list[tuple[Store, Result]] = []
    for place in places:
        store, found = _results(place, head, seed)
        results += [(store, result) for result in found]
    cards = {store.directory: store.card() for store, _ in results}
    card = cards[results[0][0].directory]
    members = []
    for store, result in results:
        if result.run.fingerprint != card.fingerprint or cards[store.directory].fingerprint != card.fingerprint:
            raise InputError(
                f"{store.weights(result.run)}: expected a run on {card.name}, {card.fingerprint}, "
                f"got one on other data, {result.run.fingerprint}."
            )
        members.append(_member(store, result, card, trust_code))
    return Trained(members, [result.run for _, result in results], card).to(device)


def load_each(path: str | Path, *, device: str = "cpu", trust_code: bool = False) -> dict[str, Trained]:
    """A classifier of each head of a comparison, of the first seed whose run has ended; or the one of a run.

    Args:
        path: the folder of a comparison, or a run in it.
        device: where they are put.
        trust_code: as in `load`.

    Raises:
        InputError: as in `load`.
    """
    if not Path(path).is_dir():
        one = load(path, device=device, trust_code=trust_code)
        return {one.runs[0].head: one}
    store = Store(Path(path))
    study, card = store.study(), store.card()
    found: dict[str, Trained] = {}
    for run in study.runs:
        if run.head in found or (result := store.result(run)) is None or result.diverged is not None:
            continue
        found[run.head] = Trained([_member(store, result, card, trust_code)], [run], card).to(device)
    if not found:
        raise InputError(f"{path}: expected a run that has ended, got none; train one first.")
    return found


def _results(path: Path, head: str | None, seed: int | None) -> tuple[Store, list[Result]]:
    """The finished runs that a path means, in the order of their comparison."""
    if not path.is_dir():
        return _one_result(path, head, seed)
    store = Store(path)
    study = store.study()
    wanted = None if head is None else _kept_name(head)
    heads = list(dict.fromkeys(run.head for run in study.runs))
    if wanted is None and len(heads) > 1:
        raise InputError(f"{path}: expected one of its heads, got none; there are {_listed(heads)}.")
    if wanted is not None and wanted not in heads:
        raise InputError(f"{path}: expected one of its heads, {_listed(heads)}, got {head}.")
    runs = [run for run in study.runs if run.head == (wanted or heads[0])]
    if seed is not None:
        seeds = [run.seed for run in runs]
        runs = [run for run in runs if run.seed == seed]
        if not runs:
            raise InputError(f"{path}: expected one of the seeds {_listed(map(str, seeds))}, got {seed}.")
    results = [result for run in runs if (result := store.result(run)) is not None and result.diverged is None]
    if not results:
        raise InputError(f"{path}: expected a run of {runs[0].head} that has ended, got none; train it first.")
    return store, results


def _one_result(path: Path, head: str | None, seed: int | None) -> tuple[Store, list[Result]]:
    """The run of a file ``runs/KEY.json``, or of its weights."""
    record = path.with_suffix(".json")
    if path.suffix not in (".json", ".safetensors") or not re.fullmatch(KEY, path.stem):
        raise InputError(
            f"{path}: expected the folder of a comparison, or a run in it, runs/KEY.json, got another path."
        )
    try:
        result = read_record(record, Result)
    except (FileNotFoundError, NotADirectoryError):
        raise InputError(f"{record}: expected a run, got no file of that name.") from None
    run = result.run
    if (head is not None and _kept_name(head) != run.head) or (seed is not None and seed != run.seed):
        wanted = head or f"seed {seed}"
        raise InputError(f"{record}: expected a run of {wanted}, got {run.head} at seed {run.seed}.")
    if path.stem != run.key:
        raise InputError(f"{record}: expected the result of run {path.stem}, got {run.key}'s.")
    if result.diverged is not None:
        raise InputError(f"{record}: expected a run that learned, got one that diverged in epoch {result.diverged}.")
    return Store(record.absolute().parent.parent), [result]


def _kept_name(head: str) -> str:
    return head if entry_of_ours(head) is None else one_name(head)


def _listed(names: "Sequence[str] | map[str]") -> str:
    known = list(names)
    more = f" and {len(known) - LISTED} more" if len(known) > LISTED else ""
    return f"{', '.join(known[:LISTED])}{more}"


def _member(store: Store, result: Result, card: DataCard, trust_code: bool) -> Classifier:
    """The classifier of a run, with its weights."""
    run, path = result.run, store.weights(result.run)
    _check_trusted(path, run, trust_code)
    try:
        check_on(result, card)
        tree = None if result.tree is None else Tree(result.tree.parent)
    except ValueError as error:
        raise InputError(f"{path.with_suffix('.json')}: expected a run on the data {card.name}: {error}.") from None
    if path.is_symlink():
        raise InputError(f"{path}: expected the weights of the run, got a link to another file.")
    try:
        content = read_whole(path)
    except (FileNotFoundError, NotADirectoryError):
        raise InputError(
            f"{path}: expected the weights of the run, got no such file; "
            f"softmaxes repeat {path.with_suffix('.json')} trains it again."
        ) from None
    try:
        tensors = load_tensors(content)
    except (SafetensorError, ValueError, TypeError) as error:
        raise InputError(f"{path}: expected weights as safetensors, got {' '.join(str(error).split())}.") from None
    try:
        classifier = rebuild(run, card, tree)
        classifier.load_state_dict(tensors)
    except (RuntimeError, ValueError) as error:
        said = " ".join(str(error).split())
        raise InputError(f"{path}: expected the weights of {run.head}, got others: {said}") from None
    return classifier


def _check_trusted(path: Path, run: Run, trust_code: bool) -> None:
    """Refuse code of the user's own, which a stranger's run may name, too."""
    others = [] if entry_of_ours(run.head) is not None else [run.head]
    others += [] if run.backbone in BACKBONES else [run.backbone]
    parts = [name for name in others if is_own(name)]
    if parts and not trust_code:
        raise InputError(
            f"{path}: expected parts of softmaxes, got {parts[0]}, which is code that would be imported and run; "
            "allow it with --trust-code, trust_code=True in Python, if you know where it is from."
        )
