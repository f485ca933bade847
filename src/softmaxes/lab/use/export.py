"""A trained classifier as a file for other programs: ``.onnx`` for ONNX Runtime and its kin, ``.pt2`` for torch.

The file is compared with the classifier before it is put in its place.
"""

import json
import logging
import warnings
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from softmaxes import __version__
from softmaxes.files import InputError, check_out, write_whole
from softmaxes.lab.extras import not_installed
from softmaxes.lab.use.loading import Trained
from softmaxes.names import plural

Method = Literal["log_prob", "predict", "topk"]
OUTPUTS: dict[Method, tuple[str, ...]] = {
    "log_prob": ("log_prob",),
    "predict": ("classes",),
    "topk": ("log_prob", "classes"),
}
NAMES = {"image": "images", "vector": "vectors"}  # of the input
ROWS = (1, 3, 7)  # inputs that the file and the classifier are compared on, at a time
CLOSE = 1e-5  # that two probabilities may be apart
NEEDED = ("onnx", "onnxscript", "onnxruntime")
MOST_ONNX = 2**31 - 2**24  # bytes of one file of protobuf

Program = Callable[[Tensor], Sequence[Tensor]]


class Exported(NamedTuple):
    """What came of it.

    Attributes:
        path: the file.
        difference: the largest one between a probability of the file and of the classifier.
    """

    path: Path
    difference: float


class _Served(nn.Module):
    """One method of a classifier, as a module."""

    def __init__(self, classifier: Trained, method: Method, k: int) -> None:
        super().__init__()
        self.classifier, self.method, self.k = classifier, method, k

    def forward(self, input: Tensor) -> tuple[Tensor, ...]:
        if self.method == "topk":
            return self.classifier.topk(input, self.k)
        return (self.classifier.predict(input) if self.method == "predict" else self.classifier(input),)


def export(classifier: Trained, path: str | Path, method: Method = "topk", k: int = 5) -> Exported:
    """Write a classifier as a file that takes any number of inputs at a time, with its standardisation.

    The input is what the classifier takes: images, uint8 (N, 3, height, width), or vectors, float32 (N, D). The names
    of the classes go along, as a JSON list: in a ``.onnx`` as its metadata ``classes``, in a ``.pt2`` as its extra file
    ``classes.json``.

    Args:
        classifier: of images or vectors.
        path: ends with ``.onnx`` or ``.pt2``.
        method: ``log_prob`` (N, C); ``predict``, the most probable class (N,); or ``topk``, the log-probabilities and
            the classes of the k most probable ones, (N, k) each.
        k: of ``topk``; all classes if there are fewer.

    Raises:
        InputError: the classifier is of texts, whose n-grams Python finds, or of sparse vectors; another file is in the
            place; a package is missing; or the file does not say what the classifier says.
    """
    path = Path(path)
    card = classifier.card
    if path.suffix not in (".onnx", ".pt2"):
        raise InputError(f"{path}: expected a file .onnx or .pt2, got another name.")
    if card.kind not in NAMES:
        why = "whose n-grams are found by Python" if card.kind == "text" else "which these files do not know"
        raise InputError(f"{path}: expected a classifier of images or vectors, got one of {card.kind}s, {why}.")
    if path.suffix == ".onnx" and (missing := [name for name in NEEDED if find_spec(name) is None]):
        raise not_installed(str(path), missing[0], "onnx")
    target = check_out(path, b"")
    served = _Served(classifier, method, min(k, len(card.class_names))).cpu().eval()
    differences: list[float] = []

    def write(part: Path) -> None:
        program = (_onnx if path.suffix == ".onnx" else _pt2)(served, part)
        differences.append(_difference(path, served, program))

    heard = logging.getLogger("torch.onnx")
    level = heard.level
    heard.setLevel(logging.ERROR)  # it tells that torchvision is not there
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")  # torch's own, of its exporter
            write_whole(target, write)
    finally:
        heard.setLevel(level)
    return Exported(path, max(differences))


def _example(served: _Served, rows: int) -> Tensor:
    """Inputs drawn at random, always the same."""
    card, generator = served.classifier.card, torch.Generator().manual_seed(rows)
    if card.image_shape is not None:
        return torch.randint(0, 256, (rows, *card.image_shape), dtype=torch.uint8, generator=generator)
    mean, std = (getattr(served.classifier.members[0], name) for name in ("mean", "std"))
    drawn: Tensor = mean + std * torch.randn(rows, card.vector_size or 0, generator=generator)
    return drawn


def _onnx(served: _Served, part: Path) -> Program:
    import onnxruntime

    card = served.classifier.card
    numbers = sum(tensor.numel() * tensor.element_size() for tensor in served.state_dict().values())
    if numbers > MOST_ONNX:
        raise InputError(f"expected at most {MOST_ONNX:,} bytes of weights for .onnx, got {numbers:,}; take .pt2.")
    program = torch.onnx.export(
        served,
        (_example(served, 2),),
        dynamo=True,
        dynamic_shapes={"input": {0: "batch"}},
        input_names=[NAMES[card.kind]],
        output_names=list(OUTPUTS[served.method]),
        verbose=False,
    )
    if program is None:
        raise InputError("expected torch.onnx.export to give a program, got none.")
    program.model.metadata_props.update(_notes(served))
    content = program.model_proto.SerializeToString()
    part.write_bytes(content)
    session = onnxruntime.InferenceSession(content)

    def in_onnx(some: Tensor) -> list[Tensor]:
        return [torch.from_numpy(array) for array in session.run(None, {NAMES[card.kind]: some.numpy()})]

    return in_onnx


def _pt2(served: _Served, part: Path) -> Program:
    sizes = {"input": {0: torch.export.Dim("batch")}}
    program = torch.export.export(served, (_example(served, 2),), dynamic_shapes=sizes)
    with part.open("wb") as file:
        torch.export.save(program, file, extra_files={f"{name}.json": note for name, note in _notes(served).items()})
    with part.open("rb") as file:
        loaded = torch.export.load(file).module()
    return lambda some: loaded(some)


def _notes(served: _Served) -> dict[str, str]:
    """What goes along: the names of the classes, and where the file is from."""
    card = served.classifier.card
    about = {
        "softmaxes": __version__,
        "data": card.name,
        "method": served.method,
        "runs": [{"head": run.head, "seed": run.seed, "key": run.key} for run in served.classifier.runs],
    }
    return {"classes": json.dumps(card.class_names), "about": json.dumps(about)}


def _difference(path: Path, served: _Served, program: Program) -> float:
    """The largest difference between a probability of the file and of the classifier.

    Raises:
        InputError: one is larger than `CLOSE`, or a class is another where its probability does not explain it.
    """
    largest = 0.0
    for rows in ROWS:
        input = _example(served, rows)
        found, expected = program(input), served(input)
        every = served.classifier(input).exp()
        for some, own in zip(found, expected, strict=True):
            if some.shape != own.shape or some.dtype != own.dtype:
                raise _unlike(path, rows, f"{some.dtype} {tuple(some.shape)} for {own.dtype} {tuple(own.shape)}")
            if own.is_floating_point():
                apart = float((some.exp() - own.exp()).abs().max())
            else:  # classes that are nearly as probable may change places
                mine, theirs = (every.gather(1, one.view(rows, -1)) for one in (own, some))
                apart = float((mine - theirs).abs().max())
            if not apart <= CLOSE:
                raise _unlike(path, rows, f"probabilities that are {apart:.1e} apart")
            largest = max(largest, apart)
    return largest


def _unlike(path: Path, rows: int, got: str) -> InputError:
    return InputError(
        f"{path}: expected a file that says what the classifier says, got {got}, of {plural(rows, 'input')}."
    )
