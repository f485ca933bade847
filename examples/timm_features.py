"""Features of a timm model, saved as files and compared by the lab: which head is best on them?

    pip install timm                       # and the torchvision that is made for your build of torch
    python examples/timm_features.py --network resnet18 --pretrained
    python examples/timm_features.py       # without timm: a small network of torch, from its random start

The network gives a vector for each image and is not trained; the lab trains heads on the vectors. `--pretrained`
downloads weights. Needs `pip install 'softmaxes[lab]'`, which draws the images and compares.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from softmaxes.lab import compare, load_data


def small_network(features: int = 512) -> nn.Sequential:
    """Two convolutions, then the mean over a grid of 4 by 4 fields."""
    return nn.Sequential(
        *(nn.Conv2d(3, 32, 5, stride=2), nn.ReLU()),
        *(nn.Conv2d(32, features // 16, 5, stride=2), nn.ReLU()),
        *(nn.AdaptiveAvgPool2d(4), nn.Flatten()),
    )


def timm_network(name: str, pretrained: bool) -> nn.Module:
    """A model of timm without its last layer."""
    try:
        import timm
    except (ImportError, RuntimeError) as error:  # a torchvision of another build than torch gives the latter
        raise SystemExit(f"--network: expected timm, got {error}; leave the option out, or: pip install timm") from None
    network: nn.Module = timm.create_model(name, pretrained=pretrained, num_classes=0)
    return network


def main() -> None:
    """Write features.npy, labels.npy and class_names.npy, and compare heads on them."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--network", help="a name of timm's, such as resnet18; a small network of torch if not given")
    parser.add_argument("--pretrained", action="store_true", help="with downloaded weights")
    parser.add_argument("--classes", type=int, default=50, help="characters")
    parser.add_argument("--per-class", type=int, default=60, help="images of each")
    parser.add_argument("--size", type=int, default=64, help="pixels that images are scaled to")
    parser.add_argument("--heads", nargs="+", default=["softmax", "cosine", "one-vs-rest"])
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--jobs", type=int, help="runs at a time; as many as there are cores if not given")
    parser.add_argument("--out", type=Path, help="runs/features-NETWORK if not given")
    given = parser.parse_args()
    if given.pretrained and given.network is None:
        parser.error("--pretrained: expected --network, got none")

    torch.manual_seed(0)
    data = load_data(f"glyphs:{given.classes}", train_per_class=given.per_class)
    network = small_network() if given.network is None else timm_network(given.network, given.pretrained)
    network.eval()

    @torch.no_grad()
    def features(images: Tensor) -> Tensor:
        scaled = F.interpolate(images.float() / 255, given.size, mode="bilinear")
        return network((scaled - 0.5) / 0.25)

    vectors = torch.cat([features(images) for images in data.train_inputs.split(64)])
    out = given.out or Path(f"runs/features-{given.network or 'small'}{'-pretrained' * given.pretrained}")
    folder = out / "vectors"
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / "features.npy", vectors.numpy())
    np.save(folder / "labels.npy", data.train_labels.numpy())
    np.save(folder / "class_names.npy", np.array(data.class_names))
    print(f"{len(vectors):,} vectors of {vectors.shape[1]} numbers in {folder}; a tenth is held out")

    options = {"epochs": given.epochs, "seeds": given.seeds, "jobs": given.jobs}
    comparison = compare(folder, heads=given.heads, out=out / "comparison", **options)
    for row in comparison.rows:
        print(f"{row['head']}: {100 * row['accuracy']:.1f} %")
    print(f"chance: {100 / given.classes:.1f} %; the page is {comparison.page}")


if __name__ == "__main__":
    main()
