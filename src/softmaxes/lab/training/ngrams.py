"""The network for texts: the mean of vectors of their n-grams, as in fastText."""

import torch
from torch import Tensor, nn
from torch.nn import functional

SPACE = 32  # its code
BASE = 0x5851F42D4C957F2D  # odd, so that it has an inverse modulo 2^64
INVERSE = pow(BASE, -1, 2**64)
MIX = 0x2545F4914F6CDD1D
PLACE = 0x9E3779B97F4A7C15  # tells words apart by their distance from the end
SHIFT = 29
CELLS = 2**19  # bytes of texts, with the zeros after them, whose n-grams are looked for together: 4 MiB for each size


def hidden_layer(features: int, width: int | None) -> nn.Module:
    """A linear layer with ReLU, (N, features) -> (N, width); nothing where no width is given."""
    return nn.Identity() if width is None else nn.Sequential(nn.Linear(features, width), nn.ReLU())


class BagOfNgrams(nn.Module):
    r"""The mean of learned vectors, one for each n-gram of characters and of words in a text.

    .. math:: f(t) = \frac{1}{|G(t)|} \sum_{g \in G(t)} E_{h(g)}

    :math:`G(t)` has all n-grams of `min_chars` to `max_chars` characters, spaces among them, one at each end too; all
    sequences of 1 to `max_words` words; and the `last_words` words at the end, each with its distance from there, so
    that a word at another place has another vector. These last ones alone are the fixed window of a log-bilinear
    language model. :math:`h` hashes an n-gram to one of the `buckets` rows of E, which several
    may share. The gradient of E is sparse: it has the rows that the batch has met.

    Args:
        dim: size of a vector.
        buckets: rows of the table.
        min_chars: characters of the shortest n-gram.
        max_chars: characters of the longest one; 0 leaves out n-grams of characters.
        max_words: words of the longest sequence; 0 leaves sequences of words out.
        hidden_units: width of a linear layer with ReLU after the mean; none by default.
        last_words: words at the end that are told apart by their places.

    Shape:
        - text: (N, L), uint8: UTF-8 bytes of words with one space between them, with zeros after each text
        - features: (N, out_features)

    Attributes:
        out_features: size of a feature vector: `dim`, or `hidden_units`.

    Cost:
        Parameters `buckets` times `dim`. O(GD) time for G n-grams of D numbers.

    Raises:
        ValueError: there are n-grams neither of characters nor of words, or the shortest is longer than the longest.

    Example:
        >>> import torch
        >>> from softmaxes.lab.data.ragged import Texts
        >>> from softmaxes.lab.training.ngrams import BagOfNgrams
        >>> texts = Texts.of(["Köln", "Kolonia", "Cologne"])
        >>> BagOfNgrams(dim=16, buckets=1000)(texts.batch(torch.arange(3))).shape
        torch.Size([3, 16])

    Reference:
        P. Bojanowski, E. Grave, A. Joulin, T. Mikolov. Enriching word vectors with subword information. 2017.
        A. Joulin, E. Grave, P. Bojanowski, T. Mikolov. Bag of tricks for efficient text classification. 2017.
        A. Mnih, G. Hinton. Three new graphical models for statistical language modelling. 2007.
    """

    def __init__(
        self,
        dim: int = 128,
        buckets: int = 2**18,
        min_chars: int = 2,
        max_chars: int = 4,
        max_words: int = 1,
        hidden_units: int | None = None,
        last_words: int = 0,
    ) -> None:
        super().__init__()
        if max_chars == 0 and max_words == 0 and last_words == 0:
            raise ValueError("BagOfNgrams: expected n-grams of characters or of words, got neither.")
        if max_chars and min_chars > max_chars:
            raise ValueError(f"BagOfNgrams: expected min_chars of at most max_chars, {max_chars}, got {min_chars}.")
        self.buckets = buckets
        self.chars = range(min_chars, max_chars + 1) if max_chars else range(0)
        self.words = range(1, max_words + 1)
        self.last_words = last_words
        self.table = nn.EmbeddingBag(buckets, dim, mode="mean", sparse=True)
        nn.init.normal_(self.table.weight, std=1 / dim)
        self.hidden = hidden_layer(dim, hidden_units)
        self.out_features = dim if hidden_units is None else hidden_units

    def forward(self, text: Tensor) -> Tensor:
        """Features of a batch of texts."""
        parts = torch.split(text, max(1, CELLS // max(1, text.shape[1])))
        return torch.as_tensor(self.hidden(torch.cat([self._mean(part) for part in parts])))

    def _mean(self, text: Tensor) -> Tensor:
        found = self.ngrams(text)
        known = found >= 0
        number = known.sum(1)
        return torch.as_tensor(self.table(found[known], number.cumsum(0) - number))

    @torch.no_grad()
    def ngrams(self, text: Tensor) -> Tensor:
        r"""The row of the table for each n-gram of each text, (N, L) -> (N, G), -1 where a text has no more of them.

        The hash of bytes i to j is a difference of prefix sums, :math:`\sum_{i \le l < j} b_l B^l`, times
        :math:`B^{-i}`, all modulo 2^64.
        """
        length = (text != 0).sum(1)
        codes = functional.pad(text.long(), (1, 1))
        codes[:, 0] = SPACE
        codes[torch.arange(len(text), device=text.device), length + 1] = SPACE
        end = length + 2  # of the text with its two spaces
        power, inverse = (_powers(base, codes.shape[1] + 1, codes) for base in (BASE, INVERSE))
        prefix = functional.pad((codes * power[:-1]).cumsum(1), (1, 0))

        def hashes(marks: Tensor, after: int, more: int = 0, salt: Tensor | int = 0) -> Tensor:
            """Of what begins at a mark and ends `more` bytes behind one `after` places on: (N, P) -> (N, P - after)."""
            first, last = marks[:, :-after].clamp(min=0), marks[:, after:]
            value = (prefix.gather(1, last.clamp(min=0) + more) - prefix.gather(1, first)) * inverse[first] + salt
            value = (value ^ (value >> SHIFT)) * _signed(MIX)
            return ((value >> SHIFT) % self.buckets).where(last >= 0, -1)

        found = []
        if self.chars:
            begins = ((codes & 0xC0) != 0x80) & (codes != 0)  # what goes on within a character begins with bits 10
            marks = _marks(begins, end)
            found += [hashes(marks, size) for size in self.chars if size < marks.shape[1]]
        if self.words:
            marks = _marks(codes == SPACE, None)
            for size in self.words:
                if size < marks.shape[1]:
                    found.append(hashes(marks, size, more=1))  # the spaces at both ends are a part of it
        if self.last_words:
            marks = _marks(codes == SPACE, None)
            words = (marks >= 0).sum(1, keepdim=True) - 1
            distance = words - torch.arange(marks.shape[1] - 1, device=text.device)  # 1 for the last word
            seen = hashes(marks, 1, more=1, salt=distance * _signed(PLACE))
            found.append(seen.where(distance <= self.last_words, -1))
        return torch.cat(found, dim=1) if found else codes.new_full((len(text), 1), -1)


def _marks(at: Tensor, end: Tensor | None) -> Tensor:
    """Places that are marked in each row, in order, then the end if there is one: (N, L) -> (N, P), -1 for no more."""
    number = at.sum(1)
    marks = at.new_full((len(at), int(number.max()) + 1 if len(at) else 1), -1, dtype=torch.long)
    row, place = at.nonzero(as_tuple=True)
    marks[row, torch.arange(len(row), device=at.device) - (number.cumsum(0) - number)[row]] = place
    if end is not None:
        marks[torch.arange(len(at), device=at.device), number] = end
    return marks


def _powers(base: int, number: int, like: Tensor) -> Tensor:
    """Powers of a base from 0 on, modulo 2^64."""
    factors = like.new_full((number,), _signed(base))
    factors[0] = 1
    return factors.cumprod(0)


def _signed(value: int) -> int:
    return value - 2**64 if value >= 2**63 else value
