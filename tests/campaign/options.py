"""Bad words after the verbs: numbers, names, what is missing, what is too much."""

from collections.abc import Sequence

import numpy as np

from campaign import bases, mutate, stores
from campaign.bases import Bases
from campaign.case import Case, Command, Place

QUICK = ["--epochs", "1", "--batch-size", "8", "--out", "out"]
VERBS: dict[str, list[str]] = {  # each ends within seconds
    "compare": ["compare", "--data", "vectors.npz", "--heads", "softmax", "--seeds", "1", "--jobs", "1", *QUICK],
    "train": ["train", "--data", "vectors.npz", *QUICK],
    "train images": ["train", "--data", "photos", "--image-size", "16", *QUICK],
    "data": ["data", "vectors.npz"],
    "data images": ["data", "photos", "--image-size", "16", "--out", "out.png"],
    "data glyphs": [*bases.GLYPHS, "--out", "out.png"],
    "tree build": ["tree", "build", "balanced", "--classes", "5", "--out", "out.json"],
    "tree build random": ["tree", "build", "random", "--classes", "5", "--out", "out.json"],
    "tree build huffman": ["tree", "build", "huffman", "--counts", "counts.txt", "--out", "out.json"],
    "tree build clustered": ["tree", "build", "clustered", "--vectors", "rows.npy", "--out", "out.json"],
    "tree build agglomerative": ["tree", "build", "agglomerative", "--vectors", "rows.npy", "--out", "out.json"],
    "tree show": ["tree", "show", "tree.json"],
    "tree export": ["tree", "export", "tree.json", "--out", "out.json"],
    "tree compare": ["tree", "compare", "tree.json", "tree.json"],
    "scale": ["scale", "--heads", "softmax", "--classes", "10", "--features", "4", "--seconds", "20", "--out", "out"],
    "advise": ["advise", "--classes", "100"],
    "report": ["report", "nothing"],
    "repeat": ["repeat", "nothing.json"],
    "heads": ["heads"],
}
NUMBERS: dict[str, Sequence[str]] = {
    "compare": ("--seeds", "--tune", "--seconds", "--jobs", "--long-tail", "--lr", "--hidden-units", "--validation"),
    "train": ("--seed", "--epochs", "--batch-size", "--lr", "--momentum", "--weight-decay", "--label-smoothing"),
    "train images": ("--image-size", "--crops", "--channels", "--padding", "--width", "--blocks", "--hidden-units"),
    "data": ("--long-tail", "--image-size"),
    "data images": ("--image-size", "--long-tail"),
    "data glyphs": ("--train-per-class", "--test-per-class"),
    "tree build": ("--classes", "--arity"),
    "tree build random": ("--classes", "--arity", "--seed"),
    "tree build huffman": ("--arity",),
    "tree build clustered": ("--arity", "--seed"),
    "tree build agglomerative": ("--arity",),
    "tree show": ("--lines",),
    "scale": ("--classes", "--features", "--batch-size", "--seconds", "--memory"),
    "advise": ("--classes", "--features", "--memory"),
}
WORDS: dict[str, Sequence[str]] = {
    "compare": ("--data", "--data-dir", "--heads", "--study", "--cluster", "--device", "--log", "--lr-schedule"),
    "train": ("--head", "--data", "--device", "--log", "--precision", "--out"),
    "train images": ("--backbone", "--data"),
    "data": ("--data-dir", "--fonts"),
    "data glyphs": ("--fonts", "--data-dir"),
    "tree build": ("--data", "--out", "--counts", "--result"),
    "tree build huffman": ("--counts",),
    "tree build clustered": ("--vectors",),
    "tree show": ("--format", "--data", "--result", "--out"),
    "tree export": ("--format", "--source-format", "--out"),
    "tree compare": ("--data", "--result"),
    "scale": ("--heads", "--labels", "--device", "--memory"),
    "advise": ("--measured", "--memory"),
}
FLAGS = ("--flips", "--no-flips")
NEVER = ("nan", "inf", "-inf", "-1", "", " ", "None", "1e400")  # what no number of ours may be
HONEST = {("--epochs", "1e6"), ("--epochs", "1_000"), ("--tune", "1_000"), ("--tune", "1e6"), ("--seconds", "1_000")}
HONEST |= {("--train-per-class", "1e6"), ("--test-per-class", "1e6"), ("--seconds", "1e6"), ("--blocks", "1_000")}
SPECIAL: tuple[tuple[str, list[str], str], ...] = (  # verb, what is put behind it or in its place, why it is wrong
    ("compare", ["--heads"], "--heads without a value"),
    ("compare", ["--log"], "--log without a value"),
    ("scale", ["--classes"], "--classes without a value"),
    ("scale", ["--features"], "--features without a value"),
    ("scale", ["--heads"], "--heads without a value"),
    ("compare", ["--heads", "softmax", "softmax"], "a head twice"),
    ("compare", ["--heads", "all", "softmax"], "all and another"),
    ("compare", ["--seeds", "1000000"], "a million seeds"),
    ("compare", ["--seeds", "100000000"], "10^8 seeds"),
    ("compare", ["--tune", "1001"], "more trials than may be"),
    ("compare", ["--study", "seed"], "a study and heads"),
    ("compare", ["--lr", "1e308"], ""),
    ("train", ["--hidden-units", "10000000"], ""),
    ("train images", ["--hidden-units", "10000000"], ""),
    ("train images", ["--channels", "100000"], ""),
    ("train images", ["--crops", "1000"], ""),
    ("compare", ["--seconds", "0.001"], ""),
    ("compare", ["--seconds", "1e-300"], ""),
    ("scale", ["--seconds", "0.001"], ""),
    ("scale", ["--seconds", "0.1"], ""),
    ("scale", ["--seconds", "5e-324"], ""),
    ("scale", ["--memory", "1"], ""),
    ("scale", ["--memory", "1K"], ""),
    ("scale", ["--memory", "9" * 5000], ""),
    ("scale", ["--memory", "9" * 5000 + "T"], ""),
    ("scale", ["--memory", "0." + "0" * 400 + "1"], ""),
    ("scale", ["--classes", "100000000", "--seconds", "1", "--memory", "1G"], ""),
    ("scale", ["--features", "1000000", "--classes", "1000000", "--memory", "1G"], ""),
    ("scale", ["--batch-size", "1000000", "--memory", "1G"], ""),
    ("advise", ["--memory", "9" * 5000], ""),
    ("advise", ["--memory", "٣GB"], ""),
    ("advise", ["--memory", "1e5GB"], "an exponent"),
    ("advise", ["--classes", "100000000", "--features", "1000000", "--memory", "1K"], ""),
    ("tree build", ["--classes", "1" + "0" * 18], "10^18 classes"),
    ("tree build", ["--classes", "10000000000"], "10^10 classes"),
    ("tree build", ["--arity", "1" + "0" * 20], ""),
    ("tree build random", ["--classes", "1" + "0" * 18], "10^18 classes"),
    ("tree build random", ["--seed", "1" + "0" * 20], ""),
    ("tree build random", ["--seed", "-" + "1" + "0" * 20], "a seed below zero"),
    ("tree build clustered", ["--seed", "1" + "0" * 20], ""),
    ("tree build huffman", ["--arity", "1" + "0" * 20], ""),
    ("tree build agglomerative", ["--arity", "1" + "0" * 20], ""),
    ("tree show", ["--lines", "1" + "0" * 20], ""),
    ("heads", ["--no-such"], "an option that is none"),
    ("heads", ["more"], "a word too many"),
    ("train", ["--flips", "maybe"], "a flag with a value"),
    ("train", ["--epochs", "1", "--epochs", "2"], ""),
    ("train", ["--epochs=1=2"], "two signs"),
    ("train", ["--", "--epochs"], "a word after --"),
    ("train", ["x" * 100_000], "a word of 100,000 letters"),
    ("train", ["--head", "x" * 100_000], "a head of 100,000 letters"),
    ("heads", ["x"] * 20_000, "20,000 words"),
    ("scale", ["--classes", *["10"] * 5000], ""),
    ("train", ["--lr", "1e308", "--head", "gumbel"], ""),
    ("train", ["--lr", "1e308", "--head", "hierarchical"], ""),
    ("train", ["--weight-decay", "1e308"], ""),
)
TYPED: tuple[tuple[list[str], str], ...] = (
    (["data", "glyphs:" + "9" * 5000], "5,000 digits"),
    (["data", "glyphs:0"], "no classes"),
    (["data", "glyphs:1"], "one class"),
    (["data", "glyphs:5000000"], "five million classes"),
    (["data", "glyphs:٣٣٣٣٣٣٣"], "digits of another script"),
    (["data", "glyphs:²"], "a raised two"),
    (["data", "glyphs:-3"], "below zero"),
    (["data", "glyphs:1e3"], "an exponent"),
    (["data", "glyphs:", "--train-per-class", "1", "--test-per-class", "1"], ""),
    (["data", "glyphs:all:all"], "twice"),
    (["data", "glyphs:4", "--train-per-class", "1000000000"], "10^9 images a class"),
    (["data", "glyphs:4", "--train-per-class", "0"], "no images"),
    (["data", "GLYPHS"], "capitals"),
    (["data", ""], "nothing"),
    (["data", "."], ""),
    (["data", ".."], ""),
    (["data", "/"], "the root"),
    (["data", "/proc"], "/proc"),
    (["data", "/dev"], "/dev"),
    (["data", "/dev/zero"], "/dev/zero"),
    (["data", "features"], "no --data-dir"),
    (["data", "folder"], "no --data-dir"),
    (["data", "features", "--data-dir", "/dev/zero"], "/dev/zero"),
    (["data", "cifar10", "--data-dir", "/dev/zero"], "/dev/zero"),
    (["data", "cifar10", "--data-dir", "/dev/null"], "/dev/null"),
    (["data", "cifar10", "--data-dir", "/"], "the root"),
    (["data", "cifar10", "--data-dir", ""], "nothing"),
    (["data", "glyphs:4", "--fonts", "/dev/zero"], "/dev/zero"),
    (["data", "glyphs:4", "--fonts", "/proc/self"], "/proc/self"),
    (["report", "/"], "the root"),
    (["report", "/dev/null"], "/dev/null"),
    (["report", ""], "nothing"),
    (["repeat", "/dev/zero"], "/dev/zero"),
    (["repeat", "."], "a folder"),
    (["repeat", "tree.json"], "a tree"),
    (["tree", "show", "/dev/zero", "--format", "json"], "/dev/zero"),
    (["tree", "show", "/dev/zero", "--format", "csv"], "/dev/zero"),
    (["tree", "show", "/dev/null", "--format", "napkinxc"], "/dev/null"),
    (["tree", "show", "."], "a folder"),
    (["tree", "compare", "tree.json"], ""),
    (["tree", "compare"], "no tree"),
    (["tree", "build", "huffman", "--counts", "/dev/zero", "--out", "out.json"], "/dev/zero"),
    (["tree", "build", "paths", "--paths", "/dev/zero", "--out", "out.json"], "/dev/zero"),
    (["tree", "build", "clustered", "--vectors", "/dev/zero", "--out", "out.json"], "/dev/zero"),
    (["tree", "build", "trained", "--result", "/dev/zero", "--out", "out.json"], "/dev/zero"),
    (["tree", "build", "balanced", "--classes", "5", "--out", "out.txt"], "a suffix that is none"),
    (["tree", "build", "balanced", "--classes", "5", "--out", "/dev/null"], "/dev/null"),
    (["tree", "build", "balanced", "--classes", "5", "--out", "/dev/full"], "/dev/full"),
    (["tree", "build", "balanced", "--classes", "5", "--out", "/proc/tree.json"], "/proc"),
    (["tree", "build", "balanced", "--classes", "5", "--out", "counts.txt/tree.json"], "a file above"),
    (["tree", "build", "balanced", "--classes", "5", "--out", "."], "a folder"),
    (["tree", "build", "balanced"], "no --out"),
    (["tree", "build", "nobody", "--out", "out.json"], "no method"),
    (["tree"], ""),
    (["advise", "--classes", "50", "--measured", "/dev/zero"], "/dev/zero"),
    (["advise", "--classes", "50", "--measured", "."], "a folder"),
    (["advise"], "no --classes"),
    (["nobody"], "no verb"),
    (["Compare"], "capitals"),
    ([""], "an empty word"),
    (["--"], ""),
    (["--no-such"], "an option that is none"),
    (["data", "photos", "--out", "/dev/full"], ""),
    (["data", "photos", "--out", "nothing/there/sheet.png"], ""),
    (["data", "photos", "--out", "sheet.nosuch"], ""),
    (["data", "photos", "--out", "."], "a folder"),
    (["train", "--data", "vectors.npz", "--out", "vectors.npz"], "a file"),
    (["train", "--data", "vectors.npz", "--out", "vectors.npz/out"], "a file above"),
    (["train", "--data", "vectors.npz", "--out", "/proc/out"], "/proc"),
    (["train", "--data", "vectors.npz", "--out", "/dev/null"], "/dev/null"),
    (["compare", "--data", "vectors.npz", "--cluster", "nowhere:1", "--out", "out"], "no cluster"),
    (["compare", "--data", "vectors.npz", "--cluster", "", "--out", "out"], "no cluster"),
)


def lay(place: Place, known: Bases) -> None:
    """The valid inputs that the verbs name."""
    np.savez(place.work / "vectors.npz", **bases.arrays())
    np.save(place.work / "rows.npy", np.random.default_rng(0).normal(size=(6, 3)))
    (place.work / "counts.txt").write_text("5\n3\n2\n8\n")
    (place.work / "tree.json").write_text(stores.TREE)
    bases.lay(place.work / "photos", bases.photos(each=3))
    bases.copy(known.glyphs / "cache", place.cache)


def options(place: Place, known: Bases, number: int) -> Case:
    """A verb with one bad word, or one too many."""
    random = place.random
    lay(place, known)
    must_refuse = ""
    if number < len(SPECIAL):
        verb, more, must_refuse = SPECIAL[number]
        words = _with(VERBS[verb], more)
        about = must_refuse or " ".join(more)
    elif number < len(SPECIAL) + len(TYPED):
        words, must_refuse = TYPED[number - len(SPECIAL)]
        about = must_refuse or "as typed"
    elif random.random() < 0.62:
        while True:
            verb = random.choice(list(NUMBERS))
            option, value = random.choice(NUMBERS[verb]), random.choice(mutate.NUMBERS)
            if (option, value) not in HONEST:
                break
        words, about = _with(VERBS[verb], [option, value]), f"{option} {value[:30]}"
        must_refuse = f"{option} is no number of ours" if value in NEVER else ""
    elif random.random() < 0.75:
        verb = random.choice(list(WORDS))
        option = random.choice(WORDS[verb])
        value = random.choice(mutate.IN_FILES)
        words, about = _with(VERBS[verb], [option, value]), f"{option} {value[:30]!a}"
    else:
        verb = random.choice([verb for verb in VERBS if verb in NUMBERS or verb in WORDS])
        option = random.choice([*NUMBERS.get(verb, ()), *WORDS.get(verb, ())])
        words, about = [*VERBS[verb], option], f"{option} without a value"
        must_refuse = about
    given = [word for place_of, word in enumerate(words) if words[place_of - 1] == "--out"]
    writes = (
        "out",
        "out.json",
        "out.png",
        "out.html",
        "nothing",
        "photos.png",
        "glyphs-4.png",
        "glyphs.png",
        "work.png",
    )
    return Case(
        f"{' '.join(words[:2])[:40]}: {about[:100]}",
        Command(words),
        (*writes, *given),
        must_refuse,
        keeps=_trains(words),
    )


def _with(words: list[str], more: list[str]) -> list[str]:
    """The words, in which the options of others are in place of their own."""
    given = {word for word in more if word.startswith("--") and len(word) > 2}
    kept: list[str] = []
    skip = False
    for word in words:
        if word.startswith("--"):
            skip = word in given
        if not skip:
            kept.append(word)
    return [*kept, *more]


def _trains(words: list[str]) -> bool:
    return words[0] in ("compare", "train", "scale")
