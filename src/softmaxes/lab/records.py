"""What a run is and what it gives: frozen records, stored as JSON, that every part of the lab reads.

This module imports no torch, so that ``softmaxes --help`` answers at once.
"""

import base64
import hashlib
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, Self

from pydantic import AfterValidator, Field, model_validator

from softmaxes.files import InputError
from softmaxes.lab.agreement import check_result
from softmaxes.lab.data.official import OFFICIAL
from softmaxes.lab.devices import Strategy
from softmaxes.lab.fields import (
    Count,
    Knob,
    Loss,
    Nats,
    NonNegativeInt,
    Peak,
    PositiveInt,
    Rate,
    Record,
    Seconds,
    Share,
)
from softmaxes.lab.recipe import SMALL_RATES, Recipe
from softmaxes.names import printable

SHOWN = 60  # characters of a value in an error
NAMED = " or ".join(f"**{name}**" for name in OFFICIAL)  # data sets that are downloaded
MOST_TRIALS = 1000  # settings of a head


FOR_TEXTS = "ngrams"  # the name of the network for texts, which nobody needs to say
FOR_SPARSE = "features"  # as well, for sparse vectors
FOR_WORDS = "words"  # as well, for next words
CONTEXT = 10  # words before the next one that its example has
# Of texts and sparse vectors, where no optimizer is named.
TEXT_RECIPE = {"optimizer": "adagrad", "lr": 0.5, "initial_accumulator": 1e-7}


def suited(kind: str, changes: Mapping[str, Any]) -> dict[str, Any]:
    """Changes to the training, and what suits a kind of data where they name no optimizer."""
    own = TEXT_RECIPE if kind in ("text", "sparse vector") and "optimizer" not in changes else {}
    return {**own, **changes}


def level_sizes(groups: int, coarser: Iterable[Sequence[int]]) -> list[int]:
    """How many groups each coarser level has.

    Args:
        groups: how many groups there are.
        coarser: for each group of the level below the number of its own one, from fine to coarse.

    Raises:
        ValueError: a level does not number the groups of the one below.
    """
    sizes = [groups]
    for level in coarser:
        if len(level) != sizes[-1] or set(level) != set(range(max(level, default=-1) + 1)):
            raise ValueError(
                f"expected a group for each of {sizes[-1]} groups in coarser_groups, numbered without gaps"
            )
        sizes.append(max(level) + 1)
    return sizes[1:]


class Of(NamedTuple):
    """Marks an option that one backbone has and the others have no use for."""

    backbone: str


class Training(Recipe):
    """How a classifier is trained: what the runs of a comparison share. Each field is an option of the command line."""

    backbone: Annotated[
        str,
        Field(
            description="Network between inputs and head: *tinyvgg*, *resnet* (that of He et al. for CIFAR, and "
            "stronger), or **module:function** of your own. Vectors need none; texts are bags of n-grams, sparse "
            "vectors bags of features."
        ),
    ] = "tinyvgg"
    channels: Annotated[
        PositiveInt, Field(le=10**5, description="Channels of TinyVGG's convolutions."), Of("tinyvgg")
    ] = 10
    padding: Annotated[
        NonNegativeInt, Field(le=1000, description="Zero padding of TinyVGG's 3x3 convolutions."), Of("tinyvgg")
    ] = 0
    width: Annotated[
        PositiveInt,
        Field(le=10**4, description="Channels of ResNet's first stage; the second has twice as many."),
        Of("resnet"),
    ] = 16
    blocks: Annotated[
        PositiveInt,
        Field(le=1000, description="Blocks in each of ResNet's 3 stages: 1 is ResNet-8, 3 ResNet-20."),
        Of("resnet"),
    ] = 1
    dim: Annotated[
        PositiveInt,
        Field(
            le=10**5,
            description="Texts: size of an n-gram's vector; their mean is the text's. Next words: size of a word's "
            "vector. Sparse vectors: size of a feature's vector, of which their numbers are the weights.",
        ),
        Of(FOR_TEXTS),
        Of(FOR_WORDS),
        Of(FOR_SPARSE),
    ] = 128
    buckets: Annotated[
        PositiveInt,
        Field(description="Texts and next words: rows of the table into which n-grams or words are hashed."),
        Of(FOR_TEXTS),
        Of(FOR_WORDS),
    ] = 2**18
    min_chars: Annotated[
        PositiveInt, Field(le=100, description="Texts: characters of the shortest n-gram."), Of(FOR_TEXTS)
    ] = 2
    max_chars: Annotated[
        NonNegativeInt,
        Field(le=100, description="Texts: characters of the longest n-gram; 0 leaves out n-grams of characters."),
        Of(FOR_TEXTS),
    ] = 4
    max_words: Annotated[
        NonNegativeInt,
        Field(le=100, description="Texts: words of the longest n-gram of words; 0 leaves them out."),
        Of(FOR_TEXTS),
    ] = 1
    last_words: Annotated[
        PositiveInt,
        Field(le=CONTEXT, description="Next words: words before the next one that the network sees."),
        Of(FOR_WORDS),
    ] = 5
    standardise: Annotated[
        bool,
        Field(
            description="Subtract the mean of each channel, or of each number of a vector, and divide by its standard "
            "deviation. If not, pixels are brought to 0..1, and vectors are left as they are."
        ),
    ] = True
    hidden_units: Annotated[
        int | None,
        Field(
            gt=0,
            le=10**7,
            description="Width of a linear layer between the network and the head, or, where the data are no images, "
            "of a hidden layer with ReLU before it; none by default: the head takes the vectors themselves.",
        ),
    ] = None
    precision: Annotated[
        Literal["32-true", "bf16-mixed", "64-true"],
        Field(description="Arithmetic of the training step, in Lightning Fabric's words."),
    ] = "32-true"

    score: Annotated[
        int | None,
        Field(
            gt=0,
            le=10**9,
            description="Test examples that are scored after each epoch but the last, the same ones in all runs; after "
            "the last all are. If not given: all of at most 10,000; of more as many as take a tenth of the time that "
            "the first epoch's training takes, at least 1,000.",
        ),
    ] = None
    validation: Annotated[
        float,
        Field(
            ge=0,
            lt=1,
            description="Share of the training examples of each class that is held out, the same for all heads and "
            "seeds: to choose settings and to fit temperatures on. Data that bring a part for it, as a folder *val* "
            "of images beside *train* and *test*, have that held out instead.",
        ),
    ] = 0.0

    def steps_per_epoch(self, examples: int) -> int:
        """Batches of an epoch, the last of them perhaps smaller."""
        return -(-examples // self.batch_size)

    @classmethod
    def options_of(cls, backbone: str) -> tuple[str, ...]:
        """The options that are a backbone's own."""
        return tuple(name for name, field in cls.model_fields.items() if Of(backbone) in field.metadata)

    @property
    def network(self) -> str:
        """What the network of images is called."""
        if self.backbone == "resnet":
            return f"ResNet-{6 * self.blocks + 2}"
        return "TinyVGG" if self.backbone == "tinyvgg" else self.backbone

    def held_out(self, examples: int) -> int:
        """The number of held-out examples of a class, from the number of its training examples."""
        return math.floor(self.validation * examples)


class Source(Record):
    """Which data set, and how it is made. Each field is an option of the command line.

    A field that is not set is not looked at; one that is set must fit the data.
    """

    @model_validator(mode="after")
    def _printable(self) -> Self:
        return self  # it comes from the user and not from a file; `words` refuses what cannot be shown

    data: Annotated[
        str | None,
        Field(
            description="**glyphs** (100 kinds of characters, rendered here), **glyphs:1000** (any number of kinds), "
            "**glyphs:all** (as many as the fonts hold, some 4,000, or more with --fonts), **geonames** (spellings of "
            "18,557 cities' names; **geonames:5000**, **:1000** and **:500** have smaller cities too, up to 81,000; it "
            f"needs `pip install 'softmaxes[geonames]'`), {NAMED} "
            "(downloaded unless --data-dir says where it lies), **features** (vectors and labels of your "
            "own, see --data-dir), **text** (texts, or sparse vectors, and their classes, see --data-dir), "
            "**next-word** (the next word of a text of your own, among its 10,000 most frequent words; "
            "**next-word:50000**), the path of a folder of images with a folder for each class, or **module:function** "
            "of your own."
        ),
    ] = None
    data_dir: Annotated[
        Path | None,
        Field(
            description="Where the data lies: a folder, or an archive of CIFAR. Of **features** a file .npz with the "
            "arrays *train_features*, *train_labels*, *test_features* and *test_labels*; or a folder with these as "
            ".npy files, or with *train.parquet* and *test.parquet*. Of **text** a file .txt in fastText's format "
            "(`__label__NAME words`), .csv, .tsv or .parquet with the columns *text* and *label*, or .txt in the "
            "sparse format of the Extreme Classification Repository, of which a tenth is held out; or a folder with "
            "*train* and *test* as such files. Of **next-word** a file with a text, whose last tenth is held out; or "
            "a folder with *train.txt* and *test.txt*."
        ),
    ] = None
    image_size: Annotated[
        int, Field(description="Side in pixels to which the images of a folder are brought, 16 to 1024.")
    ] = 32
    long_tail: Annotated[
        float | None,
        Field(
            description="Train on a part in which classes become rarer exponentially (Cui et al. 2019): the first "
            "keeps all its training examples, the last one in this many. The test set stays as it is."
        ),
    ] = None
    fonts: Annotated[
        Path | None,
        Field(
            description="Glyphs: a font file, or a folder with fonts (.ttf, .otf, .ttc, .otc) in it or below it, to "
            "draw with in place of those that come with matplotlib."
        ),
    ] = None
    train_per_class: Annotated[PositiveInt, Field(description="Glyphs: training images to draw of each class.")] = 100
    test_per_class: Annotated[PositiveInt, Field(description="Glyphs: test images to draw of each class.")] = 25

    def words(self) -> tuple[str, ...]:
        """The words of the command line that name the data again; of a path its name alone, as a report is sent on.

        Raises:
            InputError: a word has characters that cannot be printed.
        """
        words: list[str] = []
        for name in type(self).model_fields:
            value = getattr(self, name)
            if value == type(self).model_fields[name].default:
                continue
            text = value.name if isinstance(value, Path) else f"{value:g}" if isinstance(value, float) else str(value)
            if name == "data" and ("/" in text or "\\" in text):
                text = Path(text).name
            option = f"--{name.replace('_', '-')}"
            if not text.isprintable():
                raise InputError(
                    f"{option}: expected a name of printable characters, got {printable(ascii(text), SHOWN)}."
                )
            words += [f"{option}={text}"] if text.startswith("-") else [option, text]  # or it would be an option itself
        return tuple(words)


DRAWN = ("fonts", "train_per_class", "test_per_class")  # fields of `Source` that are for glyphs alone


class Own(Record):
    """A part of the user's own that a run is made of."""

    option: str  # what it is: --head, --backbone, --data or --study
    name: str  # module:object, or the name that the user gave it
    source: Annotated[str, Field(pattern="^[0-9a-f]{16}$")]  # hash of its source text


class Run(Training):
    """One training: a head, a seed, a data set and a setting. Its JSON is its configuration file."""

    head: str
    seed: NonNegativeInt = 0
    data: str
    fingerprint: str  # of every input and label: the same name with other images is another run
    knob: Knob | None = None  # the head's own setting that is tuned, if it has one
    scored_on: Literal["test", "validation"] = "test"  # on the held-out part nothing is read of the test set
    own: tuple[Own, ...] = ()  # parts of the user's own, so that two versions of one are two runs

    @model_validator(mode="before")
    @classmethod
    def _own_rate(cls, given: Any) -> Any:
        """The learning rate that suits an optimizer, where none is given."""
        if isinstance(given, dict) and given.get("optimizer") in SMALL_RATES and "lr" not in given:
            return {**given, "lr": 0.001}
        return given

    @property
    def key(self) -> str:
        """Sixteen hexadecimal digits that name this run: a hash of every field that is not as it is by default.

        So a field that is added leaves the runs their names that were made without it.
        """
        changed = self.model_dump(mode="json", exclude_defaults=True)
        canonical = json.dumps(changed, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()[:16]

    @property
    def setting(self) -> "Run":
        """This run at seed 0: runs of one setting differ in their seed alone."""
        return self.model_copy(update={"seed": 0})


def seed_by_seed(heads: Iterable[str], seeds: Iterable[int], **setting: Any) -> tuple[Run, ...]:
    """Every head at every seed, at one setting.

    Seed by seed, so that no head has the machine to itself for long, and what was cut off shows all of them.
    """
    heads = tuple(heads)
    return tuple(Run(head=head, seed=seed, **setting) for seed in seeds for head in heads)


class Shown(NamedTuple):
    """How the report shows a score: it is in every table and format where its record marks it so."""

    name: str
    unit: Literal["%", "nats", ""]
    higher_is_better: bool
    brief: str = ""  # its name in the terminal; without one it is on the page and in CSV alone


class Scores(Record):
    """What the referee says of one epoch on the test set, from ``log_prob`` alone. Shares are in 0..1, NLL in nats."""

    accuracy: Annotated[Share, Shown("Accuracy", "%", True, "Acc. %")]
    top5: Annotated[Share, Shown("Top-5 accuracy", "%", True, "Top-5")]
    # Against all labels of an example, where some have several; every other score is against the first.
    precision_at_1: Annotated[Share | None, Shown("Precision@1", "%", True, "P@1")] = None
    precision_at_3: Annotated[Share | None, Shown("Precision@3", "%", True, "P@3")] = None
    precision_at_5: Annotated[Share | None, Shown("Precision@5", "%", True, "P@5")] = None
    # macro average over all classes; a class never predicted counts as 0
    precision: Annotated[Share, Shown("Macro precision", "%", True)]
    recall: Annotated[Share, Shown("Macro recall", "%", True)]
    f1: Annotated[Share, Shown("Macro F1", "%", True, "F1 %")]
    nll: Annotated[Nats, Shown("NLL", "nats", False, "NLL")]  # inf when a head gave some target probability zero
    perplexity: Annotated[Nats | None, Shown("Perplexity", "", False, "PPL")] = None  # exp(NLL), of next words
    outside_support: Annotated[Share, Shown("Targets outside the support", "%", False)] = 0.0  # those of probability 0
    # expected calibration error, 15 bins of equal width
    calibration_error: Annotated[Share, Shown("Calibration error", "%", False, "ECE %")]
    tree: "TreeScores | None" = None  # where the data know groups


class TreeScores(Record):
    """What a tree says of the predictions: the one that judges, of the data's own groups, whatever was trained."""

    level_accuracy: Annotated[tuple[Share, ...], Field(min_length=1)]  # from the level below the root to the classes
    # mean over the mistakes; none where there are none
    lca_height: Annotated[Annotated[float, Field(ge=1, le=10**9)] | None, Shown("Height of mistakes", "", False)]
    precision: Annotated[Share, Shown("Hierarchical precision", "%", True)]
    recall: Annotated[Share, Shown("Hierarchical recall", "%", True)]
    f1: Annotated[Share, Shown("Hierarchical F1", "%", True)]


class Epoch(Record):
    """One pass over the training set and the test after it."""

    epoch: PositiveInt
    train_loss: Loss  # mean of the head's own training loss, in nats: not comparable between heads
    scores: Scores | None  # none where training diverged
    scored: PositiveInt | None = None  # examples that the scores are of, if not of all
    train_seconds: Seconds  # the test is outside this timer
    test_seconds: Seconds


class LossPoint(Record):
    """Mean training loss of the batches since the point before: one every 500 batches, counted over all epochs."""

    step: PositiveInt
    loss: Loss


class Branch(Record):
    """A node on the way from the root of a tree to a class, and the probability of turning to it from the one above."""

    node: NonNegativeInt
    probability: Share


class Guess(Record):
    """A head's five most probable classes for one of the data card's sample images, most probable first.

    Fewer where the head gives the others probability zero.
    """

    classes: tuple[NonNegativeInt, ...]
    probabilities: tuple[Share, ...]
    path: tuple[Branch, ...] = ()  # to the first of them, of a head over one tree

    @model_validator(mode="after")
    def _paired(self) -> Self:
        if len(self.classes) != len(self.probabilities):
            raise ValueError(f"expected {len(self.classes)} probabilities, got {len(self.probabilities)}")
        if len(set(self.classes)) < len(self.classes) or list(self.probabilities) != sorted(
            self.probabilities, reverse=True
        ):
            raise ValueError("expected classes that differ, the most probable first")
        return self


class Searched(Record):
    """What cheaper searches than the exact one find in the test set, after the last epoch."""

    beam_width: PositiveInt
    beam_differs: Share  # test examples for which it finds another class than the most probable one
    beam_accuracy: Share
    greedy_differs: Share
    greedy_accuracy: Share


class TrainedTree(Record):
    """The tree of a head that was trained over one."""

    parent: Annotated[
        tuple[Annotated[int, Field(ge=-1, le=10**9)], ...], Field(min_length=3)
    ]  # as `softmaxes.Tree` takes it
    learned_after: tuple[PositiveInt, ...] = ()  # epochs; the first time from a flat softmax, then from mean features
    from_means: bool = False  # whether the first time from mean features too
    seconds: Seconds = 0.0  # to make it; part of the epochs after
    searched: Searched | None = None  # none where training diverged


class Reliability(Record):
    """How confidence and accuracy go together, over 15 bins of confidence of equal width: those of the ECE."""

    examples: Annotated[tuple[Count, ...], Field(min_length=15, max_length=15)]  # in each bin
    confidence: tuple[Share, ...]  # their mean; 0 in an empty bin
    accuracy: tuple[Share, ...]

    @model_validator(mode="after")
    def _paired(self) -> Self:
        if not len(self.examples) == len(self.confidence) == len(self.accuracy):
            raise ValueError(f"expected a confidence and an accuracy for each of {len(self.examples)} bins")
        return self


class Temperature(Record):
    """Temperature scaling: what was fitted on held-out training examples, and the scores on the test set after it."""

    temperature: Annotated[float, Field(ge=1e-3, le=1e3)]
    fitted_on: PositiveInt  # examples: all that are held out, or fewer of very many classes
    nll: Nats
    calibration_error: Share
    reliability: Reliability


class Calibration(Record):
    """What the confidences of the last epoch are worth. NLL and ECE before scaling are in the epoch's scores."""

    reliability: Reliability
    scaled: Temperature | None = None  # none where nothing is held out, and where no held-out target is in the support


class Machine(Record):
    """Where a run was timed."""

    device: str
    processor: str
    cores: PositiveInt
    jobs: PositiveInt  # how many runs shared the machine
    devices: PositiveInt = 1  # that a run had
    strategy: Strategy | None = None  # how several shared it
    python: str
    torch: str
    softmaxes: str


class Result(Record):
    """All that is kept of a finished run, beside its weights."""

    run: Run
    epochs: Annotated[tuple[Epoch, ...], Field(min_length=1)]
    losses: tuple[LossPoint, ...]
    confusion: tuple[
        tuple[NonNegativeInt, NonNegativeInt, PositiveInt], ...
    ]  # (target, predicted, count) of the last epoch's test, counts above zero
    guesses: tuple[Guess, ...]  # one for each sample of the data card, in its order
    tree: TrainedTree | None = None  # none where the head has no tree, or several
    correct: str | None = None  # base64: a bit for each scored example, first is highest; none where training diverged
    calibration: Calibration | None = None  # as above
    parameters: NonNegativeInt
    head_parameters: NonNegativeInt
    peak_memory_mib: Peak  # of the process on a CPU, of the allocator on a GPU; NaN where the system does not tell
    machine: Machine

    @property
    def examples(self) -> int:
        """How many examples the last epoch's test had."""
        return sum(count for _, _, count in self.confusion)

    @model_validator(mode="after")
    def _a_bit_each(self) -> Self:
        if self.correct is not None and len(base64.b64decode(self.correct, validate=True)) != -(-self.examples // 8):
            raise ValueError(f"expected a bit for each of {self.examples} examples in correct")
        return self

    def check(self) -> None:
        """Refuse a result that contradicts itself."""
        check_result(self)

    @property
    def diverged(self) -> int | None:
        """The epoch in which the training loss stopped being finite, or none."""
        last = self.epochs[-1]
        return last.epoch if last.scores is None else None


def _is_png(text: str) -> str:
    if not base64.b64decode(text, validate=True).startswith(b"\x89PNG"):
        raise ValueError("expected a PNG file in base64")
    return text


Picture = Annotated[str, AfterValidator(_is_png)]  # base64


class Sample(Record):
    """A test image or text that the report shows."""

    target: NonNegativeInt
    png: Picture | None = None  # none of a text
    text: str | None = None  # its beginning; none of an image

    @model_validator(mode="after")
    def _is_a_picture_or_a_text(self) -> Self:
        if (self.png is None) == (self.text is None):
            raise ValueError("expected either png or text")
        return self


class DataCard(Record):
    """What the report says of a data set, so that it needs none of its inputs."""

    name: str
    description: str  # one sentence
    source: str  # where it came from: the name of a file or folder, an address, or "rendered"
    fingerprint: str
    class_names: tuple[str, ...]
    group_names: tuple[str, ...] | None = None
    group_of_class: tuple[Count, ...] | None = None
    coarser_groups: tuple[tuple[Count, ...], ...] = ()  # levels above: for each group of the one below its own one
    coarser_names: tuple[tuple[str, ...], ...] = ()  # of the groups of each of these levels
    image_shape: tuple[PositiveInt, PositiveInt, PositiveInt] | None = None  # channels, height, width, of images
    vector_size: PositiveInt | None = None  # how many numbers a vector has
    text_size: PositiveInt | None = None  # how many bytes the longest text has
    sparse_size: PositiveInt | None = None  # how many numbers a sparse vector has
    next_word: bool = False  # whether the class of a text is the word after it
    train_counts: tuple[Count, ...]  # examples a class
    test_counts: tuple[Count, ...]
    validation_counts: tuple[Count, ...] | None = None  # of a validation part that the data bring, not in train_counts
    example_counts: tuple[Count, ...] | None = None  # training examples by their first label, where some have several
    samples: tuple[Sample, ...] = ()  # none of vectors, sparse or not
    class_pictures: tuple[Picture, ...] = ()  # of the characters that their names begin with, as opacity

    @property
    def num_classes(self) -> int:
        """How many classes there are."""
        return len(self.class_names)

    def held_out(self, training: Training) -> tuple[int, ...]:
        """How many examples of each class are held out: a part that the data bring, or a share of the training set."""
        counts = self.train_counts if self.example_counts is None else self.example_counts
        return self.validation_counts or tuple(map(training.held_out, counts))

    def trained_on(self, training: Training) -> int:
        """How many rows an epoch has; where examples have several labels and some are held out, about."""
        rows = sum(self.train_counts)
        if self.validation_counts is not None:
            return rows
        if self.example_counts is None:
            return rows - sum(self.held_out(training))
        examples = sum(self.example_counts)
        return max(1, round(rows * (examples - sum(self.held_out(training))) / examples))

    @property
    def words_of_class(self) -> tuple[str, ...]:
        """The names of the classes, without the characters that they have pictures of: few fonts hold all of those."""
        if not self.class_pictures:
            return self.class_names
        return tuple(name.partition(" ")[2] or name for name in self.class_names)

    @property
    def example(self) -> str:
        """What an input is called."""
        return self.kind if self.kind in ("image", "text") else "example"

    @property
    def task(self) -> Literal["image", "vector", "text", "sparse vector", "next word"]:
        """What an input is, next words apart: what network there is for it."""
        return "next word" if self.next_word else self.kind

    @property
    def kind(self) -> Literal["image", "vector", "text", "sparse vector"]:
        """What an input is."""
        if self.image_shape is not None:
            return "image"
        if self.sparse_size is not None:
            return "sparse vector"
        return "vector" if self.vector_size is not None else "text"

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        classes = len(self.class_names)
        if classes < 2:
            raise ValueError(f"expected at least 2 classes, got {classes}")
        for name in ("train_counts", "test_counts", "group_of_class", "validation_counts", "example_counts"):
            values = getattr(self, name)
            if values is not None and len(values) != classes:
                raise ValueError(f"expected a number for each of {classes} classes in {name}")
            if values is not None and name != "group_of_class" and not any(values):
                raise ValueError(f"expected at least one example in {name}")
        sizes = (self.image_shape, self.vector_size, self.text_size, self.sparse_size)
        if sum(size is not None for size in sizes) != 1:
            raise ValueError("expected one of image_shape, vector_size, text_size and sparse_size")
        if any(
            (sample.png if self.kind == "image" else sample.text if self.kind == "text" else None) is None
            for sample in self.samples
        ):
            raise ValueError(
                f"expected samples that are {self.kind}s"
                if self.kind in ("image", "text")
                else f"expected no samples of {self.kind}s"
            )
        if (self.group_names is None) != (self.group_of_class is None):
            raise ValueError("expected group_names and group_of_class together")
        if self.group_of_class is not None and max(self.group_of_class) >= len(self.group_names or ()):
            raise ValueError("expected a group name for every group in group_of_class")
        if [len(names) for names in self.coarser_names] != level_sizes(
            len(self.group_names or ()), self.coarser_groups
        ):
            raise ValueError("expected a name for each group of each level in coarser_names")
        if len(self.class_pictures) not in (0, classes):
            raise ValueError(f"expected a picture for each of {classes} classes in class_pictures")
        if any(sample.target >= classes for sample in self.samples):
            raise ValueError("expected a class name for every sample's target")
        return self


class Published(Record):
    """A line of a published table, set beside ours."""

    head: str
    accuracy: Share | None = None
    precision: Share | None = None
    recall: Share | None = None
    f1: Share | None = None
    epoch_seconds: Seconds | None = None


class Elsewhere(Record):
    """A result from elsewhere, set beside ours: scores as the referee has them, as far as they are told."""

    head: str
    source: str
    accuracy: Share | None = None
    top5: Share | None = None
    precision: Share | None = None
    recall: Share | None = None
    f1: Share | None = None
    nll: Annotated[Nats, Field(allow_inf_nan=False)] | None = None
    calibration_error: Share | None = None
    epoch_seconds: Seconds | None = None


class LeftOut(Record):
    """A head that was asked for among all and that the data cannot serve."""

    head: str
    reason: str  # what it expected, and what came


class Tried(Record):
    """What one setting of a head came to on the held-out examples."""

    head: str
    lr: Rate
    knob: Knob | None = None
    epochs: PositiveInt
    accuracy: Share | None  # none where training diverged


class Tuning(Record):
    """How the learning rate, and the one setting more that a head may declare, are chosen: alike for every head."""

    trials: Annotated[PositiveInt, Field(le=MOST_TRIALS)]  # settings of each head
    finalists: PositiveInt = 2  # of them, that are trained for all epochs
    seed: NonNegativeInt = 1000  # none of those that are compared
    tried: tuple[Tried, ...] = ()  # none before it was done


class Together(Record):
    """The folders whose comparisons are shown on one page. Stored as ``together.json``."""

    folders: Annotated[tuple[str, ...], Field(min_length=2)]


class Study(Record):
    """A list of runs under a title: what `compare` executes and `report` shows. Stored as ``study.json``."""

    name: str
    title: str
    description: str  # a paragraph
    runs: tuple[Run, ...]
    tuning: Tuning | None = None
    budget: Annotated[float, Field(gt=0, le=10**9)] | None = None  # seconds of training that decided on the epochs
    published: tuple[Published, ...] = ()
    published_source: str = ""
    elsewhere: tuple[Elsewhere, ...] = ()
    left_out: tuple[LeftOut, ...] = ()
    own: tuple[Own, ...] = ()  # data and study, where they are the user's own; heads and backbones are in the runs
    data_options: tuple[str, ...] = ()  # the words of the command line that named the data; of a path its name alone
