"""A head behind a transformer of Hugging Face, trained by its Trainer: sequences of words, accuracy on held-out ones.

    pip install transformers accelerate
    python examples/hugging_face_trainer.py
    python examples/hugging_face_trainer.py --classes 1000 --examples 20000

The encoder is a tiny BERT from a random start, so that nothing is downloaded. The sequences are made here: each topic
has five words of its own, and a sequence has four of them among eight words drawn at random.
"""

import argparse
from tempfile import TemporaryDirectory

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset
from transformers import BertConfig, BertModel, EvalPrediction, Trainer, TrainingArguments

from softmaxes import Head, Softmax
from softmaxes.optim import for_model

LENGTH, OWN, WORDS = 12, 4, 5  # of a sequence; its topic's words in it; words of a topic


class Classifier(nn.Module):
    """An encoder and a head, as the Trainer calls them."""

    def __init__(self, encoder: BertModel, head: Head) -> None:
        super().__init__()
        self.encoder, self.head = encoder, head

    def forward(self, input_ids: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """The mean loss, and log-probabilities where the Trainer looks for logits."""
        features = self.encoder(input_ids).last_hidden_state.mean(1)
        loss = self.head(features, labels).mean()
        return {"loss": loss} if self.training else {"loss": loss, "logits": self.head.log_prob(features)}


class Topics(Dataset[dict[str, Tensor]]):
    """Sequences of word numbers, and their topics."""

    def __init__(self, classes: int, examples: int) -> None:
        self.labels = torch.randint(classes, (examples,))
        own = self.labels.unsqueeze(1) * WORDS + torch.randint(WORDS, (examples, OWN))
        words = torch.cat([own, torch.randint(classes * WORDS, (examples, LENGTH - OWN))], 1)
        self.words = words.gather(1, torch.rand(words.shape).argsort(1))  # in any order

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return {"input_ids": self.words[index], "labels": self.labels[index]}


def accuracy(said: EvalPrediction) -> dict[str, float]:
    """The share of examples whose most probable class is right."""
    return {"accuracy": float((said.predictions.argmax(-1) == said.label_ids).mean())}


def main() -> None:
    """Train, and print the accuracy on sequences that were held out."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--classes", type=int, default=100, help="topics")
    parser.add_argument("--examples", type=int, default=6000)
    parser.add_argument("--epochs", type=int, default=4)
    given = parser.parse_args()

    torch.manual_seed(0)
    size = BertConfig(
        vocab_size=given.classes * WORDS,
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=128,
    )
    encoder = BertModel(size, add_pooling_layer=False)
    head = Softmax(64, given.classes)
    with TemporaryDirectory() as folder:
        settings = TrainingArguments(
            folder,
            num_train_epochs=given.epochs,
            per_device_train_batch_size=64,
            max_grad_norm=0,  # torch's clipping refuses the sparse gradients that large heads have
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            dataloader_pin_memory=torch.cuda.is_available(),
        )
        trainer = Trainer(
            Classifier(encoder, head),
            settings,
            train_dataset=Topics(given.classes, given.examples),
            eval_dataset=Topics(given.classes, 1000),
            compute_metrics=accuracy,
            optimizers=(for_model(encoder, head, lr=0.003), None),
        )
        trainer.train()
        scores = trainer.evaluate()
    print(f"test accuracy: {100 * scores['eval_accuracy']:.1f} %; chance: {100 / given.classes:.1f} %")


if __name__ == "__main__":
    main()
