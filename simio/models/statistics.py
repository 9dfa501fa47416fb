"""Stored compression statistics: how far a weight layout compresses in a role, for presets that have no weights.

``statistics.json`` beside this file is measured on real trained weights by ``examples/measure_statistics.py``, which
names them in it; layouts that simio cannot quantize to carry published ratios with their citation.

Where no row fits exactly, in this order, each with a note: a dtype with the same packing (``I8`` as ``INT8``); the role
that resembles it (``expert`` as ``mlp``), then all roles together; the nearest level of the same codec. What is not
known then has ratio 1, the safe guess.
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from simio.errors import UsageError
from simio.records.codec_profile import CodecProfile, TensorCompression, plain_codec
from simio.records.model import Model, Tensor
from simio.records.weight_types import WEIGHT_TYPES

#: Layouts with the same kind of codes as a measured one.
_SAME_CODES = {"I8": "INT8", "BNB_INT8": "INT8", "INT4": "GPTQ4"}

#: Roles without weights of their own among the measured models.
_SIMILAR_ROLE = {"expert": "mlp", "head": "embedding"}

#: Codecs that find matches but do not code entropy: the published ratios are not theirs.
_MATCH_ONLY = ("lz4",)

_LEVEL = re.compile(r"(?P<head>.*?)(?::(?P<level>-?\d+))?(?P<tail>\)*)")
_FILTERED = re.compile(r"([\w.-]+)\((.*)\)")


@dataclass(frozen=True, slots=True)
class LayoutStatistics:
    """Compression of one layout in one role under one codec.

    ``ratio`` is raw/stored over all the weights, ``ratio_low`` and ``ratio_high`` the 10th and 90th percentile over
    tensors; ``entropy_bits_per_byte`` is the order-0 entropy of the streams the codec sees. ``basis`` is ``measured``,
    ``published`` or ``unknown`` (ratio 1); ``weights`` names the models, ``note`` what was substituted.
    """

    ratio: float
    ratio_low: float
    ratio_high: float
    entropy_bits_per_byte: float
    basis: str
    weights: tuple[str, ...]
    note: str


@lru_cache(maxsize=1)
def document() -> dict[str, Any]:
    """The whole of statistics.json: version, date, host, libraries, weights, layouts, published."""
    loaded: dict[str, Any] = json.loads(Path(__file__).with_name("statistics.json").read_text(encoding="utf-8"))
    return loaded


@lru_cache(maxsize=4096)
def compression_of(dtype: str, role: str, codec_name: str) -> LayoutStatistics:
    """How far tensors of type ``dtype`` in ``role`` compress with ``codec_name``; fallbacks in the module's text."""
    layout = document()["layouts"].get(_SAME_CODES.get(dtype, dtype))
    if layout is None:
        return _published(dtype, codec_name)
    roles = layout["roles"]
    used = next(name for name in (role, _SIMILAR_ROLE.get(role, role), "any") if name in roles)
    cell = roles[used]
    notes = [f"{dtype} as {_SAME_CODES[dtype]}"] if dtype in _SAME_CODES else []
    notes += [f"role {role} as {used}"] if used != role else []
    weights = tuple(document()["weights"][i] for i in cell["weights"])
    wanted = effective_codec(codec_name, dtype)
    name = _nearest(wanted, tuple(cell["codecs"]))
    entropy = cell["entropy"].get(_filter_of(wanted), cell["entropy"][""])
    if name is None:
        notes += [] if wanted == "raw" else [f"{wanted} was not measured: taken as incompressible"]
        basis = "measured" if wanted == "raw" else "unknown"
        return LayoutStatistics(1.0, 1.0, 1.0, entropy, basis, weights, "; ".join(notes))
    notes += [f"{wanted} as {name}"] if name != wanted else []
    ratio, low, high = cell["codecs"][name]
    return LayoutStatistics(ratio, low, high, entropy, "measured", weights, "; ".join(notes))


def effective_codec(codec_name: str, dtype: str) -> str:
    """``codec_name`` without the filters that pass ``dtype`` through: ``byteplane(zstd:1)`` is ``zstd:1`` on Q4_K.

    The outermost filter that applies is kept; one further in sees plain bytes and does nothing.
    """
    layouts = document()["layouts"]
    known = layouts.get(_SAME_CODES.get(dtype, dtype), {"roles": {}})["roles"]
    filters = {name for cell in known.values() for name in cell["entropy"]}
    kept = ""
    while match := _FILTERED.fullmatch(codec_name):
        kept = kept or (match[1] if match[1] in filters else "")
        codec_name = match[2]
    return f"{kept}({codec_name})" if kept else codec_name


def profile_from_statistics(model: Model, codec_name: str, chunk_bytes: int) -> CodecProfile:
    """The codec profile of a model without weights, from the statistics of each tensor's layout and role.

    Every tensor is cut into chunks of whole quant blocks, the largest multiple that fits ``chunk_bytes``; all have the
    ratio of :func:`compression_of`, rounded up to whole bytes. Decompression is not measured: ``decompress`` is None.
    Raises ``UsageError`` unless ``chunk_bytes`` is positive.
    """
    if chunk_bytes < 1:
        raise UsageError(f"chunks of {chunk_bytes} bytes", "give a positive size such as 1MiB")
    tensors = tuple(_compressed(tensor, codec_name, chunk_bytes) for tensor in model.tensors)
    bounds = _ratio_bounds(model, codec_name) if codec_name != "raw" else None
    return CodecProfile(model, codec_name, chunk_bytes, "statistics", tensors, None, None, ratio_interval=bounds)


def _ratio_bounds(model: Model, codec_name: str) -> tuple[float, float]:
    """Ratio of the whole model if every tensor were at the 10th, or at the 90th, percentile of its statistics."""
    raw = low = high = 0.0
    for tensor in model.tensors:
        found = compression_of(tensor.dtype, tensor.role, codec_name)
        raw += tensor.n_bytes
        low += tensor.n_bytes / max(1.0, found.ratio_low)
        high += tensor.n_bytes / max(1.0, found.ratio_high)
    return (raw / low, raw / high) if raw else (1.0, 1.0)


def relative_rate(model: Model, codec_name: str) -> float:
    """Decompression rate of ``model``'s layouts under ``codec_name`` ÷ that of BF16 weights under its plain codec.

    Both were measured on the host that ``statistics.json`` names; BF16 weights are the reference that device files
    refer to (``profiling/reference.py``). 1 where either rate is unknown.
    """
    reference = _rate("BF16", plain_codec(codec_name))
    n_bytes = seconds = 0.0
    for tensor in model.tensors:
        rate = _rate(tensor.dtype, codec_name)
        if rate:
            n_bytes += tensor.n_bytes
            seconds += tensor.n_bytes / rate
    return n_bytes / seconds / reference if seconds and reference else 1.0


@lru_cache(maxsize=4096)
def _rate(dtype: str, codec_name: str) -> float:
    """Bytes of output per second and thread; 0 where not measured or nothing shrank."""
    layout = document()["layouts"].get(_SAME_CODES.get(dtype, dtype), {})
    rates = layout.get("decompress_bytes_per_s", {})
    name = _nearest(effective_codec(codec_name, dtype), tuple(rates))
    return float(rates[name]) if name else 0.0


def _compressed(tensor: Tensor, codec_name: str, chunk_bytes: int) -> TensorCompression:
    found = compression_of(tensor.dtype, tensor.role, codec_name)
    known = WEIGHT_TYPES.get(tensor.dtype)
    block = known.block_bytes if known else 1
    chunk = max(block, chunk_bytes // block * block)
    n_full, rest = divmod(tensor.n_bytes, chunk)
    tail = (rest,) if rest else ()
    stored_tail = (_stored(rest, found.ratio),) if rest else ()
    raw, stored = (chunk,) * n_full + tail, (_stored(chunk, found.ratio),) * n_full + stored_tail
    return TensorCompression(tensor.name, raw, stored, found.entropy_bits_per_byte, "statistics")


def _stored(n_bytes: int, ratio: float) -> int:
    return min(n_bytes, math.ceil(n_bytes / ratio))


def _published(dtype: str, codec_name: str) -> LayoutStatistics:
    row = document()["published"].get(dtype)
    codec = effective_codec(codec_name, dtype)
    if row is None:
        return LayoutStatistics(
            1.0, 1.0, 1.0, 8.0, "unknown", (), f"no statistics for {dtype}: taken as incompressible"
        )
    ratio = 1.0 if codec == "raw" or codec.startswith(_MATCH_ONLY) else row["ratio"]
    return LayoutStatistics(ratio, 1.0, ratio, row["entropy"], "published", (), row["source"])


def _nearest(wanted: str, measured: tuple[str, ...]) -> str | None:
    """``wanted``, or the same codec at the nearest level (a filter's inner codec counts), or None."""
    if wanted in measured:
        return wanted
    head, level = _split(wanted)
    same = [(abs(_split(name)[1] - level), name) for name in measured if _split(name)[0] == head]
    return min(same)[1] if same else None


def _split(codec_name: str) -> tuple[str, int]:
    """``byteplane(zstd:3)`` → ``("byteplane(zstd)", 3)``; no level counts as 1."""
    match = _LEVEL.fullmatch(codec_name)
    return (match["head"] + match["tail"], int(match["level"] or 1)) if match else (codec_name, 1)


def _filter_of(codec_name: str) -> str:
    match = _FILTERED.fullmatch(codec_name)
    return match[1] if match else ""
