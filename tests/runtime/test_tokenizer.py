"""Text to tokens and back."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import decoders
import pytest
import tokenizers
from decoders import Shape
from tokenizers import decoders as token_decoders
from tokenizers import models, pre_tokenizers, trainers

from simio.errors import UsageError
from simio.formats.opening import open_model
from simio.runtime import pieces
from simio.runtime.hyperparameters import Files
from simio.runtime.pieces import Pieces
from simio.runtime.tokenizer import TokenIds, Tokenizer, continued, tokenizer_of

TEXTS = [
    "Once upon a time, there was a little girl named Lily.",
    "  two  spaces\nand a line ",
    "naïve café 漢字 🙂",
    "",
    "aaaaaaaaaa banana",
]


def small_pieces() -> Pieces:
    """Letters, a few joins, and all bytes."""
    joined = ["he", "hel", "lo", "ll", " w", "or", " wor", "ban", "an", "ana", "na"]
    texts = ["<unk>", "<s>", "</s>", *(f"<0x{b:02X}>" for b in range(256)), *joined, *"abcdefghijklmnopqrstuvwxyz "]
    scores = [0.0] * 259 + [-float(i) for i in range(len(joined))] + [-100.0 - i for i in range(27)]
    return Pieces(tuple(texts), tuple(scores), frozenset((0, 1, 2)), 1, frozenset((2,)))


def test_neighbours_with_the_best_score_are_joined_first() -> None:
    vocabulary = small_pieces()
    words = [vocabulary.pieces[token] for token in vocabulary.encode("hello world banana")]
    assert words == ["<s>", " ", "hel", "lo", " wor", "l", "d", " ", "ban", "ana"]


@pytest.mark.parametrize("text", TEXTS)
def test_what_is_encoded_comes_back(text: str) -> None:
    vocabulary = small_pieces()
    assert vocabulary.decode(vocabulary.encode(text)) == text


def test_a_continuation_begins_with_the_space_that_parts_it_from_the_prompt() -> None:
    vocabulary = small_pieces()
    tokens = vocabulary.encode("hello world")
    n = len(vocabulary.encode("hello"))
    assert continued(vocabulary, tokens[:n], tokens[n:]) == " world"


def test_a_character_without_piece_becomes_its_bytes() -> None:
    assert small_pieces().encode("é")[2:] == [3 + 0xC3, 3 + 0xA9]


def test_a_character_with_neither_piece_nor_bytes_is_named() -> None:
    poor = Pieces(("<unk>", "a"), (0.0, 0.0), frozenset((0,)), None, frozenset(), has_space_prefix=False)
    assert poor.encode("aa") == [1, 1]
    with pytest.raises(UsageError, match="'b'"):
        poor.encode("ab")


@pytest.mark.parametrize("text", [*TEXTS, "The quick brown fox jumps over the lazy dog. " * 5])
def test_pieces_agree_with_the_tokenizers_package(text: str, shared: Path) -> None:
    data = (shared / "models/stories260K-fp32/tok512.bin").read_bytes()
    ours = pieces.of_llama2c(data, 512)
    assert ours.encode(text)[1:] == _with_package(ours).encode(" " + text if text else "").ids


def _with_package(vocabulary: Pieces) -> tokenizers.Tokenizer:
    """The same vocabulary as byte pairs: all ways to make a piece of two, the best scores first."""
    ids = {piece: i for i, piece in reversed(list(enumerate(vocabulary.pieces)))}
    merges = [
        (vocabulary.scores[i], piece[:cut], piece[cut:])
        for piece, i in ids.items()
        if i > 258
        for cut in range(1, len(piece))
        if piece[:cut] in ids and piece[cut:] in ids
    ]
    merges.sort(key=lambda merge: -merge[0])
    return tokenizers.Tokenizer(
        models.BPE(ids, [merge[1:] for merge in merges], byte_fallback=True, unk_token="<unk>", fuse_unk=False)
    )


def gguf_with(path: Path, **metadata: object) -> Tokenizer:
    decoders.write_gguf(path, Shape(n_layers=1), decoders.random_arrays(Shape(n_layers=1)), **metadata)
    model = open_model(path)
    return tokenizer_of(model, Files(model))


def test_a_gguf_vocabulary_of_pieces_is_read(tmp_path: Path) -> None:
    source = small_pieces()
    tokenizer = gguf_with(
        tmp_path / "m.gguf",
        tokenizer_model="llama",
        token_list=[piece.replace(" ", "▁") for piece in source.pieces],
        token_scores=list(source.scores),
        token_types=[2, 3, 3] + [6] * 256 + [1] * (len(source.pieces) - 259),
        bos_token_id=1,
        eos_token_id=2,
    )
    assert tokenizer.ends == {2}
    for text in TEXTS:
        assert tokenizer.encode(text) == source.encode(text)
        assert tokenizer.decode(tokenizer.encode(text)) == text


def trained(pre: pre_tokenizers.PreTokenizer) -> tokenizers.Tokenizer:
    tokenizer = tokenizers.Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre
    tokenizer.decoder = token_decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=400, initial_alphabet=alphabet, special_tokens=["<end>"])
    tokenizer.train_from_iterator([*TEXTS, "it's 12345 o'clock; we'll see", "people there were there"] * 3, trainer)
    return tokenizer


QWEN2 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
CUTS = {
    "gpt-2": pre_tokenizers.ByteLevel(add_prefix_space=False),
    "qwen2": pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(tokenizers.Regex(QWEN2), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    ),
}


@pytest.mark.parametrize("cut", CUTS)
def test_a_gguf_vocabulary_of_byte_pairs_is_read(cut: str, tmp_path: Path) -> None:
    source = trained(CUTS[cut])
    table = json.loads(source.to_str())["model"]
    tokens = sorted(table["vocab"], key=table["vocab"].__getitem__)
    tokenizer = gguf_with(
        tmp_path / "m.gguf",
        tokenizer_model="gpt2",
        tokenizer_pre=cut,
        token_list=tokens,
        token_merges=[" ".join(pair) for pair in table["merges"]],
        token_types=[3] + [1] * (len(tokens) - 1),
        eos_token_id=0,
    )
    assert tokenizer.ends == {0}
    for text in [*TEXTS, "it's 12345 o'clock", "over<end>"]:
        assert tokenizer.encode(text) == source.encode(text).ids
    assert tokenizer.decode(source.encode("it's over<end>").ids) == "it's over"


def test_a_cut_that_is_not_known_leaves_token_ids(tmp_path: Path) -> None:
    tokenizer = gguf_with(
        tmp_path / "m.gguf", tokenizer_model="gpt2", tokenizer_pre="strange", token_list=["a", "b"], token_merges=[]
    )
    assert isinstance(tokenizer, TokenIds)
    with pytest.raises(UsageError, match="strange"):
        tokenizer.encode("a")


def test_tokenizer_json_is_read_and_the_end_is_that_of_the_configuration(tmp_path: Path) -> None:
    source = trained(CUTS["gpt-2"])
    decoders.write_transformers(tmp_path / "m", Shape(), decoders.random_arrays(Shape()), "llama")
    (tmp_path / "m" / "tokenizer.json").write_text(source.to_str())
    (tmp_path / "m" / "generation_config.json").write_text('{"eos_token_id": [0, 7]}')
    model = open_model(tmp_path / "m")
    tokenizer = tokenizer_of(model, Files(model))
    assert tokenizer.ends == {0, 7}
    assert tokenizer.encode(TEXTS[0]) == source.encode(TEXTS[0]).ids


def test_without_a_vocabulary_tokens_are_numbers(tmp_path: Path) -> None:
    tokenizer = gguf_with(tmp_path / "m.gguf")
    assert tokenizer.encode("1, 403 407") == [1, 403, 407]
    assert tokenizer.decode([1, 403]) == "1 403"
    with pytest.raises(UsageError, match="no vocabulary") as error:
        tokenizer.encode("Once upon a time")
    assert "token ids" in error.value.hint


def test_a_vocabulary_of_another_size_is_refused() -> None:
    from simio.errors import ModelFileError

    entry = struct.pack("<fi", 0.0, 1) + b"a"
    assert pieces.of_llama2c(struct.pack("<i", 1) + entry * 2, 2).pieces == ("a", "a")
    for data, n in ((entry * 2, 3), (entry * 2, 1), (entry + b"x", 1)):
        with pytest.raises(ModelFileError, match=f"{n} tokens"):
            pieces.of_llama2c(struct.pack("<i", 1) + data, n)
