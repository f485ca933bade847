"""A head in a LightningModule, trained by Lightning's Trainer: images of characters, accuracy on held-out ones.

    pip install lightning
    python examples/lightning_module.py
    python examples/lightning_module.py --classes 200 --epochs 20

The head is a module like any other. Only the loss and the scores are asked of it, in place of a linear layer.
Needs `pip install 'softmaxes[lab]'`, too, which draws the images.
"""

import argparse

import lightning
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from softmaxes import Softmax
from softmaxes.lab import load_data
from softmaxes.optim import for_model


class Classifier(lightning.LightningModule):
    """A small convolutional network and a head."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            *(nn.Conv2d(3, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
            *(nn.Conv2d(32, 64, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
            *(nn.Flatten(), nn.Linear(64 * 8 * 8, 128), nn.ReLU()),
        )
        self.head = Softmax(128, classes)

    def training_step(self, batch: tuple[Tensor, Tensor], number: int) -> Tensor:
        """The mean loss of a batch."""
        loss = self.head(self.body(batch[0]), batch[1]).mean()
        self.log("loss", loss, on_epoch=True)
        return loss

    def test_step(self, batch: tuple[Tensor, Tensor], number: int) -> None:
        """Accuracy and NLL; the latter is of `log_prob`, for every head."""
        features = self.body(batch[0])
        self.log("accuracy", (self.head.predict(features) == batch[1]).float().mean())
        self.log("nll", -self.head.target_log_prob(features, batch[1]).mean())

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """One optimiser for the network and the head."""
        return for_model(self.body, self.head, lr=0.001)


def main() -> None:
    """Train, test and print the scores."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--classes", type=int, default=50, help="characters")
    parser.add_argument("--per-class", type=int, default=60, help="training images of each")
    parser.add_argument("--epochs", type=int, default=8)
    given = parser.parse_args()

    torch.manual_seed(0)
    data = load_data(f"glyphs:{given.classes}", train_per_class=given.per_class)
    train = TensorDataset(data.train_inputs.float() / 255, data.train_labels)
    test = TensorDataset(data.test_inputs.float() / 255, data.test_labels)
    trainer = lightning.Trainer(
        max_epochs=given.epochs,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    model = Classifier(given.classes)
    trainer.fit(model, DataLoader(train, batch_size=64, shuffle=True))
    print(f"training loss in the last epoch: {trainer.callback_metrics['loss_epoch']:.3f}")
    (scores,) = trainer.test(model, DataLoader(test, batch_size=256), verbose=False)
    print(f"test accuracy: {100 * scores['accuracy']:.1f} %; chance: {100 / given.classes:.1f} %")
    print(f"test NLL: {scores['nll']:.3f}")


if __name__ == "__main__":
    main()
