"""Text to tokens and back, with whatever vocabulary came with the model; without one, tokens are numbers.

GGUF files carry their vocabulary (``tokenizer.ggml.*``), llama2.c models have it in a file beside them, transformers
checkpoints in ``tokenizer.json``.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from simio.errors import MissingPackageError, UnknownNameError, UsageError
from simio.formats.gguf_header import Array
from simio.formats.llama2c import vocabulary_files
from simio.records.model import Model
from simio.runtime import byte_pairs, pieces
from simio.runtime.hyperparameters import Source, gguf_metadata

_MAX_TOKENS = 1 << 22


class Tokenizer(Protocol):
    """``ends`` are the tokens after which a text is over."""

    @property
    def ends(self) -> frozenset[int]:
        """The tokens that end a text."""

    def encode(self, text: str) -> list[int]:
        """The tokens of a prompt, that which begins a text included."""

    def decode(self, tokens: Sequence[int]) -> str:
        """The text of tokens, control tokens left out."""


@dataclass(frozen=True, slots=True)
class TokenIds:
    """No vocabulary: a prompt is token ids such as ``1 403 407``, and so is what comes out. ``why`` it is so."""

    why: str
    ends: frozenset[int] = frozenset()

    def encode(self, text: str) -> list[int]:
        """The ids in ``text``; raises ``UsageError`` with the reason for anything else."""
        try:
            return [int(word) for word in text.replace(",", " ").split()]
        except ValueError as error:
            raise UsageError(f"{self.why}: the prompt '{text[:40]}' cannot be read", _HINT) from error

    def decode(self, tokens: Sequence[int]) -> str:
        """The ids with spaces between."""
        return " ".join(str(token) for token in tokens)


_HINT = "give the prompt as token ids, for example '1 403 407'"


def tokenizer_of(model: Model, source: Source) -> Tokenizer:
    """The tokenizer that came with ``model``; :class:`TokenIds`, which says why, where none did or none can be used."""
    try:
        if model.format == "gguf":
            return _of_gguf(model, source)
        if model.format == "llama2c":
            return _of_llama2c(model, source)
        return _of_transformers(model, source)
    except MissingPackageError as error:
        return TokenIds(f"{error.message} ({error.hint})")


def _of_gguf(model: Model, source: Source) -> Tokenizer:
    metadata = gguf_metadata(model, source, _MAX_TOKENS)

    def items(key: str) -> tuple[Any, ...]:
        value = metadata.get(f"tokenizer.ggml.{key}")
        return (value.items or ()) if isinstance(value, Array) else ()

    kind, cut = metadata.get("tokenizer.ggml.model"), str(metadata.get("tokenizer.ggml.pre", "default"))
    ends = frozenset(_ids(metadata, "eos_token_id", "eot_token_id"))
    add_begin = metadata.get("tokenizer.ggml.add_bos_token", kind == "llama" or cut.startswith("llama"))
    begin = next(iter(_ids(metadata, "bos_token_id")), None) if add_begin else None
    tokens, kinds = items("tokens"), items("token_type")
    if kind == "llama" and len(items("scores")) == len(tokens) > 0:
        has_prefix = bool(metadata.get("tokenizer.ggml.add_space_prefix", True))
        return pieces.of_gguf(tokens, items("scores"), kinds, begin, ends, has_prefix)
    if kind == "gpt2" and tokens and cut in byte_pairs.CUTS:
        return byte_pairs.of_gguf(tokens, items("merges"), kinds, cut, begin, ends)
    named = f"a vocabulary of the kind '{kind}' ('{cut}'), which is not known here" if kind else "no vocabulary"
    return TokenIds(f"{model.name} has {named}", ends)


def _ids(metadata: dict[str, Any], *keys: str) -> list[int]:
    values = (metadata.get(f"tokenizer.ggml.{key}") for key in keys)
    return [value for value in values if isinstance(value, int)]


def _of_llama2c(model: Model, source: Source) -> Tokenizer:
    for name in vocabulary_files(model):
        try:
            return pieces.of_llama2c(source.read_file(name), model.architecture.vocab_size)
        except UnknownNameError:
            continue
    return TokenIds(f"{model.name} has no {' or '.join(vocabulary_files(model))} beside it", frozenset((1, 2)))


def _of_transformers(model: Model, source: Source) -> Tokenizer:
    ends = _ends(source, "generation_config.json") or _ends(source, "config.json")
    try:
        return byte_pairs.of_json(source.read_file("tokenizer.json"), ends)
    except UnknownNameError:
        return TokenIds(f"{model.name} has no tokenizer.json beside it", ends)


def _ends(source: Source, name: str) -> frozenset[int]:
    try:
        stated = json.loads(source.read_file(name)).get("eos_token_id")
    except (UnknownNameError, ValueError, AttributeError):
        return frozenset()
    return frozenset(i for i in (stated if isinstance(stated, list) else [stated]) if isinstance(i, int))


def continued(tokenizer: Tokenizer, prompt: Sequence[int], new: Sequence[int]) -> str:
    """The text that ``new`` tokens add behind those of a prompt: the space between them is theirs."""
    before = tokenizer.decode(prompt)
    whole = tokenizer.decode([*prompt, *new])
    return whole[len(before) :] if whole.startswith(before) else tokenizer.decode(new)
