"""Tokens by byte pairs (GPT-2, Llama 3, Qwen), through the ``tokenizers`` package."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from simio.errors import MissingPackageError, ModelFileError

_CONTROL, _USER_DEFINED = 3, 4

_WORDS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|"
_REST = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
#: ``tokenizer.ggml.pre`` → how text is cut before pairs are joined (``llm_tokenizer_bpe`` of llama.cpp): a pattern, or
#: that of GPT-2, with numbers cut into digits first or not.
_LLAMA3, _QWEN2, _GPT2, _DIGITS = _WORDS + r"\p{N}{1,3}" + _REST, _WORDS + r"\p{N}" + _REST, "gpt-2", "digits"
CUTS = {
    "llama-bpe": _LLAMA3, "llama3": _LLAMA3, "llama-v3": _LLAMA3, "qwen2": _QWEN2, "deepseek-r1-qwen": _QWEN2,
    "gpt-2": _GPT2, "default": _GPT2, "smollm": _DIGITS,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class BytePairs:
    """A tokenizer of the ``tokenizers`` package; ``begin`` is put before every text unless the package does."""

    tokenizer: Any
    begin: int | None
    ends: frozenset[int]

    def encode(self, text: str) -> list[int]:
        """The tokens of ``text``."""
        ids = [int(token) for token in self.tokenizer.encode(text).ids]
        return ids if self.begin is None or ids[:1] == [self.begin] else [self.begin, *ids]

    def decode(self, tokens: Sequence[int]) -> str:
        """The text of ``tokens``, without control tokens."""
        return str(self.tokenizer.decode(list(tokens), skip_special_tokens=True))


def of_json(text: bytes, ends: frozenset[int]) -> BytePairs:
    """The tokenizer of a ``tokenizer.json``; raises ``ModelFileError`` for one that the package cannot read."""
    tokenizers = _package()
    try:
        return BytePairs(tokenizers.Tokenizer.from_str(text.decode()), None, ends)
    except Exception as error:  # the package raises plain Exception for anything malformed
        raise ModelFileError(f"tokenizer.json cannot be read: {error}", "download it again") from error


def of_gguf(
    tokens: Sequence[str], merges: Sequence[str], kinds: Sequence[int], cut: str, begin: int | None,
    ends: frozenset[int],
) -> BytePairs:  # fmt: skip
    """The tokenizer of a GGUF file whose ``tokenizer.ggml.model`` is ``gpt2``; ``cut`` is a key of ``CUTS``."""
    package = _package()
    pairs = [tuple(merge.split(" ", 1)) for merge in merges]
    vocabulary = {token: i for i, token in enumerate(tokens)}
    # Llama 3 takes a whole word that is a token as that token, whatever the merges say.
    model = package.models.BPE(vocabulary, pairs, ignore_merges=CUTS[cut] == _LLAMA3)
    tokenizer = package.Tokenizer(model)
    tokenizer.pre_tokenizer = _cutter(package.pre_tokenizers, CUTS[cut])
    tokenizer.decoder = package.decoders.ByteLevel()
    for kind, add in ((_CONTROL, tokenizer.add_special_tokens), (_USER_DEFINED, tokenizer.add_tokens)):
        add([package.AddedToken(token, normalized=False) for token, k in zip(tokens, kinds, strict=False) if k == kind])
    return BytePairs(tokenizer, begin, ends)


def _cutter(pre: Any, cut: str) -> Any:
    if cut == _GPT2:
        return pre.ByteLevel(add_prefix_space=False)
    if cut == _DIGITS:
        return pre.Sequence([pre.Digits(individual_digits=True), pre.ByteLevel(add_prefix_space=False)])
    from tokenizers import Regex

    bytes_only = pre.ByteLevel(add_prefix_space=False, use_regex=False)
    return pre.Sequence([pre.Split(Regex(cut), "isolated"), bytes_only])


def _package() -> Any:
    try:
        import tokenizers
        import tokenizers.decoders
        import tokenizers.models
        import tokenizers.pre_tokenizers
    except ModuleNotFoundError as error:
        raise MissingPackageError("this vocabulary needs the package 'tokenizers'", "pip install tokenizers") from error
    return tokenizers
