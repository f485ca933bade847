"""A head and a network of your own in the lab, from Python: beside softmax, at the same seeds, with differences.

    python examples/own_head_and_backbone.py
    python examples/own_head_and_backbone.py --epochs 20 --seeds 5

The parts are those of the package `own_parts` beside this file: a softmax with a temperature, a network of mean
colours, images of rings. Put yours in their place. own_parts/README.md has the same as commands.
Needs `pip install 'softmaxes[lab]'`.
"""

import argparse
import sys
from pathlib import Path

from softmaxes.lab import compare

sys.path.insert(0, str(Path(__file__).parent / "own_parts" / "src"))  # in place of: pip install -e examples/own_parts

from own_parts.backbones import pooled
from own_parts.data import rings
from own_parts.heads import tempered


def main() -> None:
    """Compare, and print what the page says."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--jobs", type=int, help="runs at a time; as many as there are cores if not given")
    parser.add_argument("--out", type=Path, default=Path("runs/own-head"))
    given = parser.parse_args()

    comparison = compare(
        rings,
        heads={"softmax": "softmax", "mine": tempered},
        backbone=pooled,
        epochs=given.epochs,
        seeds=given.seeds,
        jobs=given.jobs,
        out=given.out,
    )
    for row in comparison.rows:
        print(f"{row['label']}: {100 * row['accuracy']:.1f} %, NLL {row['nll']:.3f}")
    for row in comparison.differences:
        half = row["high"] - row["difference"]
        print(f"{row['label']} less {row['reference']}: {100 * row['difference']:+.1f} ± {100 * half:.1f} points")
    print(f"the page is {comparison.page}")


if __name__ == "__main__":
    main()
