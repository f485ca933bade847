"""The next word of a text by an adaptive softmax: perplexity on paragraphs that were held out.

    python examples/next_word.py
    python examples/next_word.py my-book.txt --words 20000 --window 6 --epochs 5

Words are as unequal as classes can be: the most frequent have the full width of the features, the rare ones share
clusters with less. Without a file the text is the documentation in Python's own standard library.
"""

import argparse
import collections
import inspect
import itertools
import math
import re
import sys
from pathlib import Path

import torch
from torch import Tensor, nn

from softmaxes import AdaptiveSoftmax
from softmaxes.optim import for_model


def documentation() -> str:
    """What the modules of the standard library say of themselves: those that torch has imported."""
    texts: list[object] = []
    for name in sorted(sys.stdlib_module_names & sys.modules.keys()):
        members = [value for key, value in vars(sys.modules[name]).items() if not key.startswith("_")]
        classes = [vars(one) for one in members if inspect.isclass(one)]
        routines = filter(inspect.isroutine, [*members, *(part for one in classes for part in one.values())])
        texts += [vars(sys.modules[name]).get("__doc__"), *(one.get("__doc__") for one in classes)]
        texts += map(inspect.getdoc, routines)
    return "\n\n".join(text for text in texts if isinstance(text, str))


def windows(numbers: Tensor, length: int) -> tuple[Tensor, Tensor]:
    """The words before each word, (N, length), and the word, (N,)."""
    rows = numbers.unfold(0, length + 1, 1)
    return rows[:, :-1], rows[:, -1]


def main() -> None:
    """Train, and print the perplexity after each epoch, and words that may come next."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("text", nargs="?", type=Path, help="a file in UTF-8; paragraphs are parted by empty lines")
    parser.add_argument("--words", type=int, default=8000, help="of the vocabulary, with <unk> for all others")
    parser.add_argument("--window", type=int, default=4, help="words that are seen before the next one")
    parser.add_argument("--features", type=int, default=128)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--most", type=int, help="paragraphs that are read; all if not given")
    given = parser.parse_args()

    torch.manual_seed(0)
    text = documentation() if given.text is None else given.text.read_text(encoding="utf-8")
    paragraphs = list(dict.fromkeys(re.split(r"\n\s*\n", text)))[: given.most]  # each once
    shuffled = [re.findall(r"\w+|[^\w\s]", paragraphs[i].lower()) for i in torch.randperm(len(paragraphs)).tolist()]
    tenth = len(shuffled) // 10
    parts = [list(itertools.chain.from_iterable(some)) for some in (shuffled[tenth:], shuffled[:tenth])]
    if min(map(len, parts)) <= given.window:
        sys.exit(f"{given.text}: expected ten paragraphs or more, parted by empty lines, got {len(paragraphs)}.")
    ranked = collections.Counter(parts[0]).most_common(given.words - 1)
    names = ["<unk>", *(word for word, _ in ranked)]
    known = {word: number for number, word in enumerate(names)}
    train, test = (torch.tensor([known.get(word, 0) for word in words]) for words in parts)
    counts = train.bincount(minlength=len(names))

    body = nn.Sequential(
        nn.Embedding(len(names), 64), nn.Flatten(), nn.Linear(64 * given.window, given.features), nn.ReLU()
    )
    head = AdaptiveSoftmax(given.features, counts)
    print(f"{len(train):,} words, vocabulary of {len(names):,}, clusters begin at ranks {head.cutoffs}")
    share = (counts + 1) / (counts + 1).sum()
    print(f"perplexity of the words' frequencies alone: {math.exp(-share[test].log().mean()):.0f}")
    optimiser = for_model(body, head, lr=0.002)
    before, word = windows(train, given.window)
    for epoch in range(1, given.epochs + 1):
        for batch in torch.randperm(len(word)).split(128):
            optimiser.zero_grad()
            head(body(before[batch]), word[batch]).mean().backward()
            optimiser.step()
        with torch.no_grad():
            pairs = zip(*(part.split(512) for part in windows(test, given.window)), strict=True)
            nll = torch.cat([-head.target_log_prob(body(x), y) for x, y in pairs]).mean()
        print(f"epoch {epoch}: perplexity {math.exp(nll):.0f}")

    seen = test.unfold(0, given.window, 1)[:3]
    with torch.no_grad():
        log_prob, classes = head.topk(body(seen), 3)
    for words, values, best in zip(seen, log_prob.exp(), classes, strict=True):
        said = ", ".join(f"{names[c]} {100 * p:.0f} %" for p, c in zip(values, best, strict=True))
        print(f"{' '.join(names[c] for c in words)} ... {said}")


if __name__ == "__main__":
    main()
