"""From a comparison to a file that other programs run: train two heads, load one, ask it, export it as ONNX, run that.

    pip install 'softmaxes[lab,onnx]'
    python examples/load_and_serve.py
    python examples/load_and_serve.py --classes 100 --epochs 10

The file takes raw images, any number at a time, and has the names of the classes in it. ONNX Runtime needs neither
torch nor softmaxes.
"""

import argparse
import json
import math
from pathlib import Path

import onnxruntime

from softmaxes.lab import compare, export, load, load_data


def main() -> None:
    """Compare, load, predict, export, and run the file."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--classes", type=int, default=20, help="characters")
    parser.add_argument("--per-class", type=int, default=100, help="training images of each")
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--jobs", type=int, help="runs at a time; as many as there are cores if not given")
    parser.add_argument("--out", type=Path, default=Path("runs/served"))
    given = parser.parse_args()

    data = load_data(f"glyphs:{given.classes}", train_per_class=given.per_class)
    options = {"epochs": given.epochs, "lr": 0.03, "momentum": 0.9, "jobs": given.jobs, "out": given.out}
    comparison = compare(data, heads=["softmax", "hierarchical"], seeds=1, **options)
    for row in comparison.rows:
        print(f"{row['head']}: {100 * row['accuracy']:.1f} %; chance: {100 / given.classes:.1f} %")
    best = max(comparison.rows, key=lambda row: row["accuracy"])["head"]

    classifier = load(given.out, head=best, seed=0)
    images = data.test_inputs[:200]
    predicted = classifier.predict(images)

    exported = export(classifier, given.out / "classifier.onnx", k=3)
    print(f"{exported.path}: probabilities within {exported.difference:.1g} of the classifier's")

    session = onnxruntime.InferenceSession(exported.path)  # from here on another program
    names = json.loads(session.get_modelmeta().custom_metadata_map["classes"])
    log_prob, classes = session.run(None, {session.get_inputs()[0].name: images.numpy()})
    print(f"the same class for {(classes[:, 0] == predicted.numpy()).sum()} of {len(images)} images")
    print(f"the first image, {data.class_names[data.test_labels[0]]}:")
    for value, number in zip(log_prob[0], classes[0], strict=True):
        print(f"  {100 * math.exp(value):.0f} % {names[number]}")


if __name__ == "__main__":
    main()
