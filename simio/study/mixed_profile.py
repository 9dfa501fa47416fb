"""A selection as a ``CodecProfile``: what ``predict`` plans, and what a plan file holds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import xxhash

from simio.plan.layout import Chunk, file_chunk
from simio.records.codec_profile import CodecProfile, Rate, TensorCompression
from simio.records.device import Device
from simio.records.model import Model, Tensor
from simio.records.tensor_plan import TensorPlan
from simio.service_times import base_codec
from simio.study.choices import Option


@dataclass(frozen=True, slots=True)
class Chosen:
    """One tensor with what was chosen for it."""

    tensor: Tensor
    option: Option
    residency: str


def chunk_sizes(n_bytes: int, stored_bytes: int, chunk_bytes: int) -> list[tuple[int, int]]:
    """``(raw, stored)`` of the chunks of ``n_bytes`` that become ``stored_bytes``, all of one ratio; exact sums."""
    starts = [*range(0, n_bytes, chunk_bytes), n_bytes]
    ends = [start * stored_bytes // max(1, n_bytes) for start in starts]
    return [(b - a, max(1, d - c)) for (a, b), (c, d) in zip(pairwise(starts), pairwise(ends), strict=True)]


def option_chunks(option: Option, chunk_bytes: int) -> list[tuple[int, int]]:
    """The chunks of one option: first those that shrank, then those stored raw."""
    packed = round(option.compressed_share * option.raw_bytes)
    rest = option.raw_bytes - packed
    if option.stored_bytes - rest <= 0 or option.stored_bytes >= option.raw_bytes:
        packed, rest = (0, option.raw_bytes) if option.stored_bytes >= option.raw_bytes else (option.raw_bytes, 0)
    return [
        *chunk_sizes(packed, option.stored_bytes - rest, chunk_bytes),
        *chunk_sizes(rest, rest, chunk_bytes),
    ]


def padded_chunks(option: Option, chunk_bytes: int) -> list[Chunk]:
    """The same as a planner sees them: padded to the alignment, raw where that leaves no gain."""
    return [file_chunk(raw, stored) for raw, stored in option_chunks(option, chunk_bytes)]


def mixed_profile(model: Model, chosen: Sequence[Chosen], device: Device, chunk_bytes: int, name: str) -> CodecProfile:
    """``model`` with every tensor as chosen; the others as they are, in RAM where they are multiplied.

    ``codec`` is that of most compressed bytes. ``decompress`` ÷ ``reference`` is the mean rate of the bytes that tokens
    decompress on ``device``, whose anchors of the codecs it rests on, ÷ the anchor of ``codec``.
    """
    by_name = {one.tensor.name: one for one in chosen}
    tensors, sizes, plan = [], [], []
    for tensor in model.tensors:
        one = by_name.get(tensor.name)
        if one is None:
            tensors.append(tensor)
            pairs = chunk_sizes(tensor.n_bytes, tensor.n_bytes, chunk_bytes)
            if tensor.role not in ("embedding", "other"):
                plan.append(TensorPlan(tensor.name, tensor.dtype.lower(), "raw", "ram"))
        else:
            option = one.option
            tensors.append(replace(tensor, dtype=option.dtype, n_bytes=option.raw_bytes, streams=()))
            pairs = option_chunks(option, chunk_bytes)
            plan.append(TensorPlan(tensor.name, option.quant, option.codec, one.residency))
        raw, stored = tuple(r for r, _ in pairs), tuple(s for _, s in pairs)
        sizes.append(TensorCompression(tensor.name, raw, stored, 0.0, "measured"))
    codec, decompress, reference = _mean_rate(chosen, device, chunk_bytes)
    mixed = replace(
        model,
        name=f"{model.name} ({name})",
        source="file",
        format="plan",
        digest=xxhash.xxh3_64_hexdigest(repr((model.digest, plan)).encode()),
        n_bytes=sum(t.n_bytes for t in tensors),
        tensors=tuple(tensors),
        files=(),
    )
    return CodecProfile(
        mixed, codec, chunk_bytes, "measured", tuple(sizes), decompress, None, None, reference, tuple(plan), device.id
    )


def _mean_rate(chosen: Sequence[Chosen], device: Device, chunk_bytes: int) -> tuple[str, Rate | None, Rate | None]:
    """The codec of most decompressed bytes, and the rate of all of them beside its anchor on one core."""
    packed_of: dict[str, int] = {}
    seconds, n_bytes = 0.0, 0
    for one in chosen:
        packed = sum(c.raw_bytes for c in padded_chunks(one.option, chunk_bytes) if c.is_compressed)
        if packed and one.residency != "ram":
            n_bytes += packed
            seconds += packed / (_anchor(device, one.option.codec) * one.option.relative_rate)
            packed_of[one.option.codec] = packed_of.get(one.option.codec, 0) + packed
    if not n_bytes:
        stored = [one.option.codec for one in chosen if one.option.stored_bytes < one.option.raw_bytes]
        return (stored[0] if stored else "raw"), None, None
    codec = max(packed_of, key=lambda name: packed_of[name])
    anchor, mean = _anchor(device, codec), n_bytes / seconds
    return codec, Rate(mean, mean, mean, 1), Rate(anchor, anchor, anchor, 1)


def _anchor(device: Device, codec: str) -> float:
    return device.cpu.decompress[base_codec(codec)].value
