"""Tokens of SentencePiece vocabularies (Llama 1 and 2, Mistral, llama2.c): pieces with scores, bytes for the rest.

The text becomes characters; the neighbours whose union is the piece with the highest score are joined, leftmost first
among equals, until no union is a piece; what is no piece becomes its UTF-8 bytes (``llm_tokenizer_spm`` of llama.cpp,
``encode`` of run.c in llama2.c).
"""

from __future__ import annotations

import heapq
import re
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field

from simio.errors import ModelFileError, UsageError

_BYTE = re.compile(r"<0x([0-9A-Fa-f]{2})>")
_ENTRY = struct.Struct("<fi")
#: Types of tokens in ``tokenizer.ggml.token_type``.
_UNKNOWN, _CONTROL = 2, 3


@dataclass(frozen=True, slots=True)
class Pieces:
    """``pieces[i]`` is the text of token i, spaces as spaces; ``silent`` tokens have none (control tokens)."""

    pieces: tuple[str, ...]
    scores: tuple[float, ...]
    silent: frozenset[int]
    begin: int | None  # put before every text
    ends: frozenset[int]
    has_space_prefix: bool = True
    _ids: dict[str, int] = field(init=False, repr=False, compare=False)
    _bytes: dict[int, int] = field(init=False, repr=False, compare=False)  # token → byte

    def __post_init__(self) -> None:
        loud = ((piece, i) for i, piece in reversed(list(enumerate(self.pieces))) if i not in self.silent)
        found = ((i, _BYTE.fullmatch(piece)) for i, piece in enumerate(self.pieces))
        object.__setattr__(self, "_ids", dict(loud))
        object.__setattr__(self, "_bytes", {i: int(match[1], 16) for i, match in found if match})

    def encode(self, text: str) -> list[int]:
        """The tokens of ``text``; raises ``UsageError`` for a character that has neither a piece nor bytes."""
        prefix = " " if self.has_space_prefix and text else ""
        tokens = [token for piece in self._joined(prefix + text) for token in self._tokens(piece)]
        return tokens if self.begin is None else [self.begin, *tokens]

    def decode(self, tokens: Sequence[int]) -> str:
        """The text of ``tokens``, without the space that every text begins with; broken UTF-8 becomes ``\ufffd``."""
        data = bytearray()
        for token in tokens:
            if token in self._bytes:
                data.append(self._bytes[token])
            elif token not in self.silent:
                data += self.pieces[token].encode()
        text = data.decode(errors="replace")
        return text.removeprefix(" ") if self.has_space_prefix else text

    def _joined(self, text: str) -> list[str]:
        """Pieces by repeated joining; the heap holds candidates, stale ones are recognised by their text."""
        parts: list[str | None] = list(text)
        after, before = list(range(1, len(parts) + 1)), list(range(-1, len(parts) - 1))
        heap: list[tuple[float, int, str]] = []

        def consider(left: int) -> None:
            if left >= 0 and after[left] < len(parts):
                union = f"{parts[left]}{parts[after[left]]}"
                if union in self._ids:
                    heapq.heappush(heap, (-self.scores[self._ids[union]], left, union))

        for left in range(len(parts)):
            consider(left)
        while heap:
            _, left, union = heapq.heappop(heap)
            right = after[left] if parts[left] is not None else len(parts)
            if right >= len(parts) or f"{parts[left]}{parts[right]}" != union:
                continue
            parts[left], parts[right], after[left] = union, None, after[right]
            if after[left] < len(parts):
                before[after[left]] = left
            consider(before[left])
            consider(left)
        return [part for part in parts if part is not None]

    def _tokens(self, piece: str) -> list[int]:
        if piece in self._ids:
            return [self._ids[piece]]
        of_byte = {byte: token for token, byte in self._bytes.items()}
        try:
            return [of_byte[byte] for byte in piece.encode()]
        except KeyError as error:
            raise UsageError(f"the vocabulary has no token for '{piece}'", "leave it out of the prompt") from error


def of_gguf(
    tokens: Sequence[str], scores: Sequence[float], kinds: Sequence[int], begin: int | None, ends: frozenset[int],
    has_space_prefix: bool,
) -> Pieces:  # fmt: skip
    """The vocabulary of a GGUF file whose ``tokenizer.ggml.model`` is ``llama``; ``▁`` there is a space."""
    silent = frozenset(i for i, kind in enumerate(kinds) if kind in (_UNKNOWN, _CONTROL))
    pieces = tuple(token.replace("▁", " ") for token in tokens)
    return Pieces(pieces, tuple(scores), silent, begin, ends, has_space_prefix)


def of_llama2c(data: bytes, n_tokens: int) -> Pieces:
    """The vocabulary in a ``tokenizer.bin`` of llama2.c: an int32, then score, length and bytes of every token.

    Tokens 0, 1 and 2 are unknown, beginning and end of a text. Raises ``ModelFileError`` unless it has ``n_tokens``.
    """
    pieces: list[str] = []
    scores: list[float] = []
    at = 4
    while len(pieces) < n_tokens and at + _ENTRY.size <= len(data):
        score, n_bytes = _ENTRY.unpack_from(data, at)
        at += _ENTRY.size + max(0, n_bytes)
        pieces.append(data[at - max(0, n_bytes) : at].decode(errors="replace"))
        scores.append(score)
    if len(pieces) != n_tokens or at != len(data):
        raise ModelFileError(
            f"the vocabulary file does not hold {n_tokens} tokens", "use the one the model was made with"
        )
    return Pieces(tuple(pieces), tuple(scores), frozenset((0, 1, 2)), 1, frozenset((1, 2)))
