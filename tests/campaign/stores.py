"""Bad files in the folders of comparisons and measurements, and what reads them."""

import base64
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from campaign import bases, judge, mutate
from campaign.bases import Bases
from campaign.case import Case, Command, Ended, Place, Script

HUGE = "1" + "0" * 400
TREE = '{"format":"softmaxes.tree","version":1,"parent":[4,4,5,5,6,6,-1],"names":null}'
NUMBERS = (  # file, path, value: each fits the schema or nearly so
    ("run", "epochs.0.train_seconds", "1e308"),
    ("run", "epochs.1.train_seconds", "1e308"),
    ("run", "epochs.0.test_seconds", "1e308"),
    ("run", "epochs.0.train_loss", "NaN"),
    ("run", "epochs.0.train_loss", "1e308"),
    ("run", "epochs.0.train_loss", '"Infinity"'),
    ("run", "epochs.0.scores.nll", "1e308"),
    ("run", "epochs.1.scores.nll", '"Infinity"'),
    ("run", "epochs.1.scores.tree.lca_height", "1e308"),
    ("run", "epochs.1.scores.tree.level_accuracy", "[0.5,0.5,0.5,0.5]"),
    ("run", "parameters", HUGE),
    ("run", "parameters", "-5"),
    ("run", "head_parameters", HUGE),
    ("run", "head_parameters", "1000000000000000000"),
    ("run", "peak_memory_mib", "1e308"),
    ("run", "peak_memory_mib", '"NaN"'),
    ("run", "machine.cores", HUGE),
    ("run", "machine.jobs", "-1"),
    ("run", "epochs.0.epoch", "1000000000"),
    ("run", "losses", '[{"step":1000000000,"loss":1e308}]'),
    ("run", "losses", '[{"step":1,"loss":NaN}]'),
    ("run", "confusion.0.0", "9223372036854775807"),
    ("run", "confusion.0.1", "100000000"),
    ("run", "confusion.0.2", "1000000000"),
    ("run", "confusion", "[]"),
    ("run", "guesses.0.classes", "[]"),
    ("run", "guesses.0.classes.0", "9223372036854775807"),
    ("run", "guesses", "[]"),
    ("run", "tree.parent", "[5,5,6,6,-1,4,99]"),
    ("run", "tree.parent", "[1,2,0]"),
    ("run", "tree.parent", f"[{HUGE},4,-1]"),
    ("run", "tree.parent", "[9223372036854775807,2,-1]"),
    ("run", "tree.parent", "[2,2,-1]"),
    ("run", "tree.seconds", "1e308"),
    ("run", "tree.learned_after", "[1000000000]"),
    ("run", "tree.searched.beam_width", "1000000000"),
    ("run", "calibration.reliability.examples", "[0,0,0,0,0,0,0,0,0,0,0,0,0,0,0]"),
    ("run", "calibration.reliability.examples.5", "9223372036854775807"),
    ("run", "calibration.scaled.temperature", "1e308"),
    ("run", "calibration.scaled.temperature", "5e-324"),
    ("run", "calibration.scaled.fitted_on", "1000000000"),
    ("run", "run.lr", "5e-324"),
    ("run", "run.seed", "9223372036854775807"),
    ("data", "test_counts", "[0,0,0,0]"),
    ("data", "train_counts", "[0,0,0,0]"),
    ("data", "train_counts.0", HUGE),
    ("data", "train_counts.0", "9223372036854775808"),
    ("data", "test_counts.0", "1000000000000000000"),
    ("data", "image_shape", "[3,0,0]"),
    ("data", "image_shape", "[3,-1,1000000000000000000]"),
    ("data", "image_shape.0", HUGE),
    ("data", "group_of_class", "[0,0,0,0]"),
    ("data", "group_of_class.0", "-1"),
    ("data", "group_names", "[]"),
    ("data", "samples.0.png", '""'),
    ("data", "samples.0.png", '"no base64!"'),
    ("data", "samples.0.png", '"QUJD"'),
    ("data", "samples.0.target", "9223372036854775807"),
    ("study", "runs.0.epochs", "1000000000"),
    ("study", "runs.0.lr", "1e308"),
    ("study", "runs", "[]"),
    ("study", "runs.0.head", '"nobody"'),
    ("study", "runs.0.head", '"Softmax"'),
    ("study", "budget", "1e9"),
    ("study", "budget", "5e-324"),
    ("study", "tuning", '{"trials":1000,"finalists":1000000000,"seed":0,"tried":[]}'),
    ("study", "tuning", '{"trials":2,"tried":[{"head":"softmax","lr":1e308,"epochs":1,"accuracy":null}]}'),
    ("study", "tuning", '{"trials":2,"tried":[{"head":"softmax","lr":-1e308,"epochs":1,"accuracy":1}]}'),
    ("study", "tuning", '{"trials":2,"tried":[{"head":"x","lr":NaN,"epochs":1,"accuracy":1}]}'),
    ("study", "published", '[{"head":"x","accuracy":1e308,"epoch_seconds":-1e308}]'),
    ("study", "published", '[{"head":"x","accuracy":NaN,"precision":Infinity}]'),
)


def stores(place: Place, known: Bases, number: int) -> Case:
    """A stored comparison in which something is changed."""
    random = place.random
    bases.copy(known.comparison / "work" / "out", place.work / "out")
    out = place.work / "out"
    runs = sorted((out / "runs").glob("*.json"))
    trees = [path for path in runs if json.loads(path.read_text())["tree"]]
    chosen, must_refuse = random.choice(trees), ""
    if number < len(NUMBERS):
        which, path, value = NUMBERS[number]
        file = {"run": chosen, "data": out / "data.json", "study": out / "study.json"}[which]
        put(file, path, value)
        about = f"{which}: {path} is {value[:40]}"
    elif number < len(NUMBERS) + len(CONTRADICTIONS):
        about, change = CONTRADICTIONS[number - len(NUMBERS)]
        file, must_refuse = chosen, "what is stored contradicts itself"
        record = json.loads(file.read_text())
        change(record)
        file.write_text(json.dumps(record))
    else:
        file = random.choice([out / "study.json", out / "data.json", chosen, chosen])
        about = f"{file.name if file != chosen else 'a run'}: {_changed(place, file, runs)}"
    words = ["report", "out"]
    result = str(chosen.relative_to(place.work))
    if file == chosen and not must_refuse and random.random() < 0.35:
        words = random.choice(of_trees(place, result))
    elif file == chosen and random.random() < 0.06:
        bases.copy(known.comparison / "work" / "photos", place.work / "photos")
        words = ["repeat", result, "--data", "photos", "--image-size", "16"]
    writes = ("out", "out.json", "out.html", "runs")
    return Case(about, Command(words), writes, must_refuse, keeps=words[0] == "repeat")


def of_trees(place: Place, result: str) -> list[list[str]]:
    """Words of the verbs for trees that read a result."""
    (place.work / "tree.json").write_text(TREE)
    return [
        ["tree", "build", "trained", "--result", result, "--out", "out.json"],
        ["tree", "build", "confusion", "--result", result, "--out", "out.json"],
        ["tree", "show", "tree.json", "--result", result, "--out", "out.html"],
        ["tree", "compare", "tree.json", "tree.json", "--result", result],
    ]


def rename_head(out: Path, old: str, new: str) -> None:
    """Give the runs of a head in a stored comparison another head's name."""
    from softmaxes.lab.records import Result, Study
    from softmaxes.lab.store import read_record, write_record

    study = read_record(out / "study.json", Study)
    runs = [run.model_copy(update={"head": new}) if run.head == old else run for run in study.runs]
    for before, after in zip(study.runs, runs, strict=True):
        result = read_record(out / "runs" / f"{before.key}.json", Result)
        (out / "runs" / f"{before.key}.json").unlink()
        write_record(out / "runs" / f"{after.key}.json", result.model_copy(update={"run": after}))
    write_record(out / "study.json", study.model_copy(update={"runs": tuple(runs)}))


def put(file: Path, path: str, value: str) -> None:
    """Set a value in a JSON file, given as it is written."""
    record = json.loads(file.read_text())
    holder = record
    *above, last = path.split(".")
    for key in above:
        holder = holder[int(key)] if isinstance(holder, list) else holder[key]
    holder[int(last) if isinstance(holder, list) else last] = "@@here@@"
    file.write_text(json.dumps(record).replace('"@@here@@"', value))


def _better(record: dict[str, Any]) -> None:
    scores = record["epochs"][-1]["scores"]
    scores["accuracy"] = 0.875 if scores["accuracy"] != 0.875 else 0.75


def _more(record: dict[str, Any]) -> None:
    record["confusion"][0][2] += 1


def _exchanged(record: dict[str, Any]) -> None:
    row = record["confusion"][0]
    row[1] = row[0] if row[1] != row[0] else (row[0] + 1) % 4


def _other_bits(record: dict[str, Any]) -> None:
    bits = bytearray(base64.b64decode(record["correct"]))
    bits[0] ^= 0x80
    record["correct"] = base64.b64encode(bytes(bits)).decode()


def _other_f1(record: dict[str, Any]) -> None:
    record["epochs"][-1]["scores"]["f1"] = 0.987654321


CONTRADICTIONS: tuple[tuple[str, Callable[[dict[str, Any]], None]], ...] = (
    ("a run: another accuracy than its counts say", _better),
    ("a run: one example more in its counts", _more),
    ("a run: an example that was predicted otherwise", _exchanged),
    ("a run: another example was right", _other_bits),
    ("a run: another F1 than its counts say", _other_f1),
)


def _changed(place: Place, file: Path, runs: list[Path]) -> str:
    random = place.random
    how = random.random()
    if how < 0.6:
        text, about = mutate.change_json(random, file.read_text("utf-8"))
        file.write_bytes(text.encode("utf-8", "surrogatepass"))
        return about
    if how < 0.85:
        content, about = mutate.change_bytes(random, file.read_bytes())
        file.write_bytes(content)
        return about
    if how < 0.9:
        file.unlink()
        return "missing"
    other = random.choice(runs)
    if other != file:
        shutil.copy(other, file)
    return "a copy of another"


# Measurements


def scales(place: Place, known: Bases, number: int) -> Case:
    """A stored measurement in which something is changed, or a table for `advise`."""
    random = place.random
    numbers = (
        ("step.median", "1e308"),
        ("step.median", "0"),
        ("step.median", "5e-324"),
        ("step.median", "null"),
        ("step", "null"),
        ("parameters", "null"),
        ("parameters", "9223372036854775807"),
        ("parameters", "0"),
        ("step_memory", "1e308"),
        ("step.rounds", "1000000000"),
        ("failures", '[{"phase":"step","reason":"=1+1"}]'),
        ("failures", '[{"phase":"build","reason":"a|b `c` <script>canary</script>"}]'),
        ("machine", "null"),
        ("machine.processor", '"=cmd"'),
        ("limits.seconds", "1e308"),
        ("cell.classes", "1000000000"),
    )
    if number % 2:
        text = (known.scale / "work" / "out" / "table.csv").read_text()
        if random.random() < 0.3:
            content, about = mutate.change_bytes(random, text.encode())
        else:
            changed, about = mutate.change_text(random, text)
            content = changed.encode("utf-8", "surrogatepass")
        (place.work / "table.csv").write_bytes(content)
        return Case(f"table.csv: {about}", Command(["advise", "--classes", "50", "--measured", "table.csv"]))
    out = place.work / "out"
    bases.copy(known.scale / "work" / "out", out)
    cells = sorted((out / "cells").glob("*.json"))
    file = random.choice([*cells, *cells, out / "scale.json"])
    if number // 2 < len(numbers):
        file = cells[0]
        path, value = numbers[number // 2]
        put(file, path, value)
        about = f"{path} is {value[:40]}"
    else:
        about = _changed(place, file, cells)
    return Case(f"{'scale.json' if file.name == 'scale.json' else 'a cell'}: {about}", Command(bases.SCALE), ("out",))


# Runs that were cut off


def resumed(place: Place, known: Bases, number: int) -> Case:
    """A comparison that was killed, and whose checkpoint or data were damaged since."""
    random = place.random
    out = place.work / "out"
    bases.copy(known.cut_off / "work", place.work)
    checkpoint = next(out.glob("runs/*.checkpoint"))
    kind = number % 6
    if kind == 0:
        content, about = mutate.change_bytes(random, checkpoint.read_bytes())
        checkpoint.write_bytes(content)
        about = f"checkpoint: {about}"
    elif kind == 1:
        import pickle

        from campaign.vectors import Runs

        checkpoint.write_bytes(pickle.dumps(Runs(place.canary)))
        about = "checkpoint: a pickle that executes"
    elif kind == 2:
        target = out / "data.safetensors"
        content, about = mutate.change_bytes(random, target.read_bytes() if target.exists() else b"")
        target.write_bytes(content)
        about = f"data.safetensors: {about}"
    elif kind == 3:
        for path in (checkpoint, out / "study.json"):
            path.unlink()
        about = "neither study.json nor checkpoint"
    else:
        file = out / ("study.json" if kind == 4 else "data.json")
        text, about = mutate.change_json(random, file.read_text("utf-8"))
        file.write_bytes(text.encode("utf-8", "surrogatepass"))
        about = f"{file.name}: {about}"
    return Case(about, Command(bases.LONG_RUN), writes=("out",), keeps=True)


# What is kept of data


def caches(place: Place, known: Bases, number: int) -> Case:
    """A cache of drawn or converted data that is damaged."""
    if number % 3 == 2:
        return _converted(place)
    bases.copy(known.glyphs / "cache", place.cache)
    (file,) = (place.cache / "glyphs").glob("*.safetensors")
    good = (known.glyphs / "work" / "sheet.png").read_bytes()
    content, about = mutate.change_bytes(place.random, file.read_bytes())
    file.write_bytes(content)

    def check(place: Place, ended: Ended) -> str:
        sheet = place.work / "sheet.png"
        return "" if ended.code or sheet.read_bytes() == good else "silently taken: other images than were drawn"

    command = Command([*bases.GLYPHS, "--out", "sheet.png"])
    return Case(f"glyphs in the cache: {about}", command, writes=("sheet.png",), check=check)


def _converted(place: Place) -> Case:
    """The .npy files of a parquet file, damaged after they were written."""
    bases.lay(place.work / "vectors", {f"{part}.parquet": bases.parquet(bases.table_of(part)) for part in bases.PARTS})
    command = Command(["data", "vectors"])

    def script(place: Place) -> Script:
        yield command
        files = sorted(place.cache.glob("features/*/*.npy"))
        file = place.random.choice(files)
        content, _ = mutate.change_bytes(place.random, file.read_bytes())
        file.write_bytes(content)
        before = judge.Seen.of(place)
        ended = yield command
        return judge.faults(case, place, before, ended)

    case = Case("vectors in the cache", command, script=script)
    return case
