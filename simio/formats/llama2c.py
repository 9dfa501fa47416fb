"""Read the checkpoints of llama2.c, version 0: seven int32, then float32 arrays in a fixed order.

Format: ``legacy_export`` in export.py and ``memory_map_weights`` in run.c of github.com/karpathy/llama2.c. The file has
no magic; the sign is that its seven numbers can be those of a model, and its size exactly what they ask for. Arrays
stacked over the layers become one tensor a layer, named as in GGUF; queries and keys rotate neighbours, as in GGUF
files of the family ``llama``.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from simio.errors import ModelFileError
from simio.formats.damage import DOWNLOAD_AGAIN, damaged
from simio.formats.digest import digest
from simio.formats.shapes import complete
from simio.formats.tensors import in_file_order, plain_tensor
from simio.formats.weights import read_bytes
from simio.records.model import Architecture, Model, Stream

_HEADER = struct.Struct("<7i")
_SUFFIX = ".bin"
_MAX_COUNT, _MAX_LAYERS = 1 << 24, 4096


@dataclass(frozen=True, slots=True)
class _Config:
    """``Config`` of run.c; a negative vocabulary says that the head is a matrix of its own."""

    dim: int
    hidden_dim: int
    n_layers: int
    n_heads: int
    n_kv_heads: int
    vocab_size: int
    seq_len: int
    has_head: bool

    @property
    def head_dim(self) -> int:
        return self.dim // self.n_heads

    def is_possible(self) -> bool:
        """Whether these numbers can be those of a model."""
        counts = (
            self.dim,
            self.hidden_dim,
            self.n_layers,
            self.n_heads,
            self.n_kv_heads,
            self.vocab_size,
            self.seq_len,
        )
        if not all(0 < count < _MAX_COUNT for count in counts) or self.n_layers > 4096:
            return False
        return self.dim % self.n_heads == 0 and self.n_heads % self.n_kv_heads == 0 and self.head_dim % 2 == 0

    def arrays(self) -> Iterator[tuple[str, tuple[int, ...]]]:
        """(name, shape) in file order; ``{}`` in a name stands for the layer of an array stacked over layers."""
        kv_dim = self.n_kv_heads * self.head_dim
        yield "token_embd.weight", (self.vocab_size, self.dim)
        yield "blk.{}.attn_norm.weight", (self.dim,)
        yield "blk.{}.attn_q.weight", (self.dim, self.dim)
        yield "blk.{}.attn_k.weight", (kv_dim, self.dim)
        yield "blk.{}.attn_v.weight", (kv_dim, self.dim)
        yield "blk.{}.attn_output.weight", (self.dim, self.dim)
        yield "blk.{}.ffn_norm.weight", (self.dim,)
        yield "blk.{}.ffn_gate.weight", (self.hidden_dim, self.dim)
        yield "blk.{}.ffn_down.weight", (self.dim, self.hidden_dim)
        yield "blk.{}.ffn_up.weight", (self.hidden_dim, self.dim)
        yield "output_norm.weight", (self.dim,)
        yield "freq_cis_real", (self.seq_len, self.head_dim // 2)  # rotary tables, which no runtime reads
        yield "freq_cis_imag", (self.seq_len, self.head_dim // 2)
        if self.has_head:
            yield "output.weight", (self.vocab_size, self.dim)

    def streams(self) -> list[Stream]:
        """All tensors, named, in file order; an array over layers is as many tensors."""
        streams: list[Stream] = []
        at = _HEADER.size
        for name, shape in self.arrays():
            n_bytes = 4 * shape[0] * (shape[1] if len(shape) > 1 else 1)
            for layer in range(self.n_layers if "{}" in name else 1):
                streams.append(Stream(name.format(layer), "F32", shape, 0, at, n_bytes))
                at += n_bytes
        return streams

    @property
    def n_bytes(self) -> int:
        """The size of the file."""
        last = self.streams()[-1]
        return last.offset + last.n_bytes

    def architecture(self) -> Architecture:
        return Architecture(
            "llama", self.n_layers, self.dim, self.n_heads, self.n_kv_heads, self.head_dim, self.hidden_dim,
            self.vocab_size, context_length=self.seq_len, tied_embeddings=not self.has_head,
        )  # fmt: skip


class Llama2c:
    """The entry point ``simio.formats: llama2c``."""

    @staticmethod
    def sniff(path: Path) -> bool:
        """Whether ``path`` is meant as a llama2.c checkpoint by its header; damaged files included."""
        if path.is_dir():
            return any(_config(file) is not None for file in sorted(path.iterdir()) if _is_candidate(file))
        return _is_candidate(path) and _config(path) is not None

    @staticmethod
    def open(path: Path) -> Model:
        """The model at ``path``, a file or a directory with one; raises ``ModelFileError`` for anything else."""
        path = _only_model(path) if path.is_dir() else path
        config = _config(path)
        if config is None:
            raise damaged(path, "its first bytes are no header of llama2.c")
        n_bytes, expected = path.stat().st_size, config.n_bytes
        if n_bytes != expected:
            raise damaged(
                path,
                f"its llama2.c header asks for {expected} bytes, the file has {n_bytes}: "
                + ("truncated" if n_bytes < expected else "not a checkpoint of version 0"),
                f"{DOWNLOAD_AGAIN}; weights of another program: convert them to safetensors",
            )
        tensors = in_file_order(plain_tensor(stream, 0) for stream in config.streams())
        architecture, notes = complete(config.architecture(), tensors)
        return Model(
            name=path.name.removesuffix(_SUFFIX),
            source="file",
            format="llama2c",
            digest=digest([(path, _HEADER.size)]),
            n_bytes=path.stat().st_size,
            architecture=replace(architecture, tied_embeddings=not config.has_head),
            tensors=tensors,
            files=(str(path),),
            notes=notes,
        )


def vocabulary_files(model: Model) -> tuple[str, ...]:
    """The names under which a model's vocabulary may lie beside it, the more particular first."""
    return f"tok{model.architecture.vocab_size}.bin", "tokenizer.bin"


def _is_candidate(path: Path) -> bool:
    return path.is_file() and path.name.endswith(_SUFFIX) and path.stat().st_size > _HEADER.size


def _config(path: Path) -> _Config | None:
    """The header of ``path``, or nothing where it cannot be one."""
    dim, hidden, layers, heads, kv_heads, vocab, seq_len = _HEADER.unpack(read_bytes(path, 0, _HEADER.size))
    config = _Config(dim, hidden, layers, heads, kv_heads, abs(vocab), seq_len, vocab < 0)
    return config if config.is_possible() else None


def _only_model(directory: Path) -> Path:
    models = [file for file in sorted(directory.iterdir()) if _is_candidate(file) and _config(file) is not None]
    if len(models) != 1:
        raise ModelFileError(
            f"{directory}: holds {len(models)} llama2.c models", "name one of: " + ", ".join(m.name for m in models)
        )
    return models[0]
