"""Models with the shapes, types and metadata of a preset and random weights, for measuring time; labelled generated.

Rows are Gaussian, each with its own scale (log-normal around ``1/√n_in``), quantized as the preset says. Quantizing is
slow and time does not depend on which row stands where, so a pool of rows is made for every type and width, and every
tensor is a cycle through it in an order of its own: equal rows lie a whole pool (8 MiB) apart, further than a codec
sees within a chunk. Bounded memory, whatever the size of the model.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, BinaryIO
from zlib import crc32

import numpy as np

from simio.errors import UnknownNameError, UsageError, WriteError
from simio.models import build, facts, resolve_name
from simio.models.facts import Facts
from simio.quant import parse
from simio.records.model import Model, Tensor
from simio.runtime.hyperparameters import FAMILIES
from simio.runtime.kernels import row_bytes
from simio.runtime.scratch import ByteArray, FloatArray
from simio.units import MIB, format_bytes

POOL_BYTES = 8 * MIB
_BATCH_WEIGHTS = 1 << 22  # quantized at a time
_PIECE_BYTES = 16 * MIB  # written at a time
_ROW_SPREAD = 0.3  # standard deviation of the logarithm of a row's scale
_ALIGNMENT = 32


def shape_of(name: str, n_layers: int | None = None, changes: Mapping[str, int] | None = None) -> Model:
    """The preset ``name`` with another number of layers, or other ``changes`` of its facts (``d_model=256`` …).

    Raises ``UnknownNameError`` for a name, ``UsageError`` for a family that cannot be run or a fact that cannot change.
    """
    preset_id, quant = resolve_name(name)
    known = facts(preset_id)
    if known.family not in FAMILIES:
        raise UsageError(
            f"{preset_id}: a model of the family '{known.family}' could not be run", f"families: {', '.join(FAMILIES)}"
        )
    known = _changed(known, dict(changes or {}) | ({} if n_layers is None else {"n_layers": n_layers}))
    return build(known, quant or known.default_quant)


def generate(model: Model, path: Path, seed: int = 0, progress: Callable[[int, int], None] | None = None) -> None:
    """Write ``model`` (of :func:`shape_of`) to ``path`` as GGUF, whole or not at all; the same bytes for a ``seed``.

    ``progress`` is told bytes done and in all. Raises ``UsageError`` for a type that nothing here can quantize to,
    ``WriteError`` when there is no room or no permission.
    """
    total = sum(tensor.n_bytes for tensor in model.tensors)
    rows = _Rows(model, seed)
    with _written_whole(path, total) as temporary:
        _write_header(model, temporary, seed)
        with temporary.open("ab") as file:
            _pad(file)
            done = 0
            for tensor in model.tensors:
                for piece in rows.of(tensor):
                    file.write(memoryview(piece).cast("B"))
                    done += piece.nbytes
                    if progress:
                        progress(done, total)
                _pad(file)


def _changed(known: Facts, changes: dict[str, int]) -> Facts:
    countable = sorted(f.name for f in fields(Facts) if f.type == "int")
    for name, value in changes.items():
        if name not in countable:
            raise UnknownNameError("fact of a shape", name, countable)
        if value < 1:
            raise UsageError(f"{name}={value} is no shape", "give at least 1")
    as_id = "-".join([known.id, *(f"{name}{value}" for name, value in changes.items())])
    values: dict[str, Any] = {"id": as_id, **changes}
    if known.rope_factors and "head_dim" in changes:
        values = {"rope_factors": changes["head_dim"] // 2} | values  # one for each pair that is rotated
    changed = replace(known, **values)
    if changed.n_heads % changed.n_kv_heads or changed.head_dim % 2:
        raise UsageError(f"{changed.n_heads} heads cannot share {changed.n_kv_heads} KV heads of {changed.head_dim}")
    return changed


class _Rows:
    """The bytes of every tensor, out of one pool of rows for each type and width."""

    def __init__(self, model: Model, seed: int) -> None:
        self._seed = seed
        self._pools: dict[tuple[str, int], ByteArray] = {}
        self._wanted: dict[tuple[str, int], int] = {}
        for tensor in model.tensors:
            if len(tensor.shape) > 1:
                key, n_rows = _key(tensor), tensor.n_weights // tensor.shape[-1]
                self._wanted[key] = max(n_rows, self._wanted.get(key, 0))

    def of(self, tensor: Tensor) -> Iterator[Any]:
        """Arrays that together are the bytes of ``tensor``."""
        rng = np.random.default_rng([self._seed, crc32(tensor.name.encode())])
        if len(tensor.shape) == 1:
            yield _small(tensor, rng)
            return
        key = _key(tensor)
        if key not in self._pools:
            self._pools[key] = self._pool(*key)
        pool = self._pools[key]
        order = rng.permutation(len(pool))
        n_rows, step = tensor.n_weights // tensor.shape[-1], max(1, _PIECE_BYTES // pool.shape[1])
        for first in range(0, n_rows, step):
            numbers = np.arange(first, min(first + step, n_rows)) % len(pool)
            yield pool[order[numbers]]

    def _pool(self, dtype: str, n_cols: int) -> ByteArray:
        size = row_bytes(dtype, n_cols)
        n_rows = max(1, min(POOL_BYTES // size, self._wanted[dtype, n_cols]))
        rng = np.random.default_rng([self._seed, crc32(f"{dtype} {n_cols}".encode())])
        pool, step = np.empty((n_rows, size), np.uint8), max(1, _BATCH_WEIGHTS // n_cols)
        for first in range(0, n_rows, step):
            some = pool[first : first + step]
            some[...] = _quantized(_gaussian(len(some), n_cols, rng), dtype).reshape(some.shape)
        return pool


def _key(tensor: Tensor) -> tuple[str, int]:
    return tensor.dtype, tensor.shape[-1]


def _gaussian(n_rows: int, n_cols: int, rng: np.random.Generator) -> FloatArray:
    scales = np.exp(rng.normal(0, _ROW_SPREAD, (n_rows, 1))) / np.sqrt(n_cols)
    rows: FloatArray = rng.standard_normal((n_rows, n_cols), dtype=np.float32) * scales.astype(np.float32)
    return rows


def _quantized(weights: FloatArray, dtype: str) -> ByteArray:
    try:
        layout = parse(dtype.lower())
    except UnknownNameError as error:
        raise UsageError(f"nothing here can quantize to {dtype}", "choose q8_0, q4_k_m, q4_0, f16 …") from error
    data: ByteArray = np.ascontiguousarray(layout.quantize(weights)["data"]).view(np.uint8)
    return data


def _small(tensor: Tensor, rng: np.random.Generator) -> Any:
    """Norms around 1, biases around 0; rotary factors 1."""
    if tensor.dtype != "F32":
        raise UsageError(f"'{tensor.name}' would be a vector of {tensor.dtype}", "choose another quantization")
    if tensor.name.startswith("rope"):
        return np.ones(tensor.shape, "<f4")
    mean, spread = (0.0, 0.02) if tensor.name.endswith("bias") else (1.0, 0.1)
    return rng.normal(mean, spread, tensor.shape).astype("<f4")


def _write_header(model: Model, path: Path, seed: int) -> None:
    import gguf

    a = model.architecture
    writer = gguf.GGUFWriter(path, a.family)
    writer.add_name(f"{model.name} (generated weights)")
    writer.add_bool("simio.generated", True)
    writer.add_uint64("simio.seed", seed)
    writer.add_block_count(a.n_layers)
    writer.add_context_length(a.context_length)
    writer.add_embedding_length(a.d_model)
    writer.add_feed_forward_length(a.d_ff)
    writer.add_head_count(a.n_heads)
    writer.add_head_count_kv(a.n_kv_heads)
    writer.add_key_length(a.head_dim)
    writer.add_value_length(a.head_dim)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(a.head_dim)
    writer.add_vocab_size(a.vocab_size)
    if a.n_experts:
        writer.add_expert_count(a.n_experts)
        writer.add_expert_used_count(a.n_experts_used)
        writer.add_expert_feed_forward_length(_expert_width(model))
    for tensor in model.tensors:
        kind = gguf.GGMLQuantizationType[tensor.dtype]
        writer.add_tensor_info(tensor.name, tensor.shape, np.dtype(np.float32), tensor.n_bytes, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    writer.close()


def _expert_width(model: Model) -> int:
    return next(t.shape[-1] for t in model.tensors if t.name.endswith("ffn_down_exps.weight"))


def _pad(file: BinaryIO) -> None:
    file.write(bytes(-file.tell() % _ALIGNMENT))


@contextmanager
def _written_whole(path: Path, n_bytes: int) -> Iterator[Path]:
    """A file beside ``path`` that takes its place in the end, and is gone if anything goes wrong."""
    target = path.resolve()
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        free = shutil.disk_usage(target.parent).free
        if free < n_bytes:
            raise WriteError(f"{path}: needs {format_bytes(n_bytes)}, {format_bytes(free)} are free", "free some space")
        yield temporary
        os.replace(temporary, target)
    except OSError as error:
        reason = error.strerror or str(error)
        raise WriteError(f"{path}: cannot be written: {reason}", "free some space or choose another place") from error
    finally:
        temporary.unlink(missing_ok=True)
