"""How far the next token's distribution is from that of full precision, token by token.

``KL(full ‖ quantized) = Σ p·(ln p − ln q)`` over the vocabulary [nats], the measure of llama.cpp's ``--kl-divergence``
and of arXiv 2407.09141, which shows that equal accuracy and perplexity can hide changed answers.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from simio.quality.backend import Tensor, load_torch
from simio.quality.decoder import Decoder, Weights
from simio.quality.texts import Tokens

#: Full-precision distributions are kept up to this size, else computed anew for every layout. Own choice.
_KEPT_BYTES = 512 * 1024**2
#: Logits that are compared at once.
_BATCH_LOGITS = 4 * 1024**2


@dataclass(frozen=True, slots=True)
class Predictions:
    """Per predicted token: divergence from full precision, −ln of the token's probability, entropy. [nats]"""

    kl: npt.NDArray[np.float64]
    surprise: npt.NDArray[np.float64]
    entropy: npt.NDArray[np.float64]

    @property
    def perplexity(self) -> float:
        """``exp`` of the mean surprise."""
        return float(np.exp(self.surprise.mean()))


class Reference:
    """The full-precision distribution of every token but the first of each text. Memory stays bounded."""

    def __init__(self, decoder: Decoder, outer: Weights, states: Tensor, tokens: Tokens) -> None:
        self._decoder, self._outer, self._states = decoder, outer, states
        self._next = load_torch().from_numpy(tokens[:, 1:])
        vocab = len(outer["output"] if "output" in outer else outer["token_embd"])
        self._n_texts = max(1, _BATCH_LOGITS // (tokens.shape[1] * vocab))
        self._is_kept = 4 * self._next.numel() * vocab <= _KEPT_BYTES
        self._kept: dict[int, Tensor] = {}

    def compare(self, outer: Weights, states: Tensor) -> Predictions:
        """The predictions of a decoder with the head in ``outer``, given its ``states`` behind the last layer."""
        parts = [self._compare(first, outer, states) for first in self._batches()]
        return Predictions(*(np.concatenate([part[i] for part in parts]) for i in range(3)))

    def _batches(self) -> Iterator[int]:
        yield from range(0, len(self._next), self._n_texts)

    def _compare(self, first: int, outer: Weights, states: Tensor) -> tuple[npt.NDArray[np.float64], ...]:
        some = slice(first, first + self._n_texts)
        full = self._full(first).double().log_softmax(dim=-1)
        if outer is self._outer and states is self._states:
            new = full
        else:
            new = self._decoder.logits(outer, states[some, :-1]).double().log_softmax(dim=-1)
        kl = (full.exp() * (full - new)).sum(dim=-1)
        surprise = -new.gather(-1, self._next[some].unsqueeze(-1))
        entropy = -(new.exp() * new).sum(dim=-1)
        return tuple(values.flatten().numpy() for values in (kl, surprise, entropy))

    def _full(self, first: int) -> Tensor:
        if first in self._kept:
            return self._kept[first]
        logits = self._decoder.logits(self._outer, self._states[first : first + self._n_texts, :-1])
        if self._is_kept:
            self._kept[first] = logits
        return logits
