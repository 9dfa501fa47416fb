"""The profile file (``*.simio.json``): a ``CodecProfile`` as JSON, kilobytes instead of the model's gigabytes.

``{"simio_profile": 1, "model": …, "codec": …, "tensors": {"raw": …, "stored": …, …}, …}``. Chunk sizes are flat arrays
over the whole model; raw sizes are run-length pairs ``[n_bytes, n_chunks]`` per tensor, as nearly all are equal.
A joint plan adds ``"tensor_plan": {tensor: {"quant", "codec", "residency"}}`` and ``"planned_for"`` (docs/joint.md).
"""

from __future__ import annotations

import json
from dataclasses import asdict
from itertools import groupby, islice
from pathlib import Path
from typing import Any

from simio.errors import ProfileError
from simio.paths import write_whole
from simio.profiling.model_columns import model_from_json, model_to_json
from simio.records.codec_profile import CodecProfile, HostFacts, Rate, TensorCompression
from simio.records.tensor_plan import TensorPlan

#: The suffix by which a profile is recognised as one.
SUFFIX = ".simio.json"

VERSION = 1
_AGAIN = "profile the model again"
_PLAN_AGAIN = "make it again: simio study joint MODEL --study STUDY --device DEVICE --quality BUDGET -o FILE"
_BASES = ("measured", "sampled", "statistics", "packed")


def save(profile: CodecProfile, path: Path) -> None:
    """Write ``profile`` to ``path``, replacing it in one step; raises ``WriteError`` when it cannot be written."""
    write_whole(path, json.dumps(_to_json(profile), separators=(",", ":"), allow_nan=False))


def load(path: Path) -> CodecProfile:
    """The profile in ``path``; raises ``ProfileError`` when it is missing, damaged, not a profile, or newer."""
    try:
        data = json.loads(path.read_bytes())
    except OSError as error:
        raise ProfileError(
            f"cannot read the profile {path}: {error.strerror}", "simio profile MODEL --codec zstd:1 -o FILE makes one"
        ) from error
    except (ValueError, RecursionError) as error:
        raise ProfileError(f"{path}: damaged profile, not JSON: {_words(error)}", _AGAIN) from error
    version = data.get("simio_profile") if isinstance(data, dict) else None
    if not isinstance(version, int):
        raise ProfileError(f"{path}: not a simio profile", "simio profile MODEL --codec zstd:1 -o FILE makes one")
    if version > VERSION:
        raise ProfileError(f"{path}: profile version {version} is newer than this simio reads", "update simio")
    try:
        return _checked(_from_json(data))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        what, again = ("joint plan", _PLAN_AGAIN) if "tensor_plan" in data else ("profile", _AGAIN)
        raise ProfileError(f"{path}: damaged {what}: {_words(error)}", again) from error


def _words(error: Exception) -> str:
    """What is wrong with the file, in words of the file."""
    if isinstance(error, UnicodeDecodeError):
        return f"no text from byte {error.start} on"
    if isinstance(error, RecursionError):
        return "lists in lists without end"
    if isinstance(error, KeyError):
        return f"no '{error.args[0]}'"
    if str(error).startswith("zip()"):
        return "columns of different lengths"
    return str(error) if isinstance(error, ValueError) else "a value of the wrong kind"


def _to_json(profile: CodecProfile) -> dict[str, Any]:
    tensors = profile.tensors
    return {
        "simio_profile": VERSION,
        "codec": profile.codec,
        "chunk_bytes": profile.chunk_bytes,
        "basis": profile.basis,
        "ratio_interval": profile.ratio_interval,
        "decompress": profile.decompress and asdict(profile.decompress),
        "reference": profile.reference and asdict(profile.reference),
        "host": profile.host and asdict(profile.host),
        "model": model_to_json(profile.model),
        "tensors": {
            "raw": [[[size, len(list(run))] for size, run in groupby(t.raw_bytes)] for t in tensors],
            "stored": [size for t in tensors for size in t.stored_bytes],
            "entropy": [t.entropy_bits_per_byte for t in tensors],
            "basis": [t.basis for t in tensors],
        },
    } | _plan_to_json(profile.plan, profile.planned_for)


def _plan_to_json(plan: tuple[TensorPlan, ...], planned_for: str) -> dict[str, Any]:
    rows = {one.tensor: {"quant": one.quant, "codec": one.codec, "residency": one.residency} for one in plan}
    return ({"tensor_plan": rows} if rows else {}) | ({"planned_for": planned_for} if planned_for else {})


def _plan_from_json(table: dict[str, dict[str, str]]) -> tuple[TensorPlan, ...]:
    return tuple(_row_of(name, row) for name, row in table.items())


def _row_of(name: str, row: Any) -> TensorPlan:
    found = [row.get(key) for key in ("quant", "codec", "residency")] if isinstance(row, dict) else [None]
    if not all(isinstance(value, str) for value in found):
        raise ValueError(f"tensor_plan: {name} needs 'quant', 'codec' and 'residency'")
    return TensorPlan(name, *found)


def _from_json(data: dict[str, Any]) -> CodecProfile:
    interval, host = data["ratio_interval"], data["host"]
    rate, reference = data["decompress"], data["reference"]
    return CodecProfile(
        model=(model := model_from_json(data["model"])),
        codec=data["codec"],
        chunk_bytes=data["chunk_bytes"],
        basis=data["basis"],
        tensors=_tensors([t.name for t in model.tensors], data["tensors"]),
        decompress=None if rate is None else Rate(**rate),
        reference=None if reference is None else Rate(**reference),
        host=None if host is None else HostFacts(**host),
        ratio_interval=None if interval is None else (float(interval[0]), float(interval[1])),
        plan=_plan_from_json(data.get("tensor_plan", {})),
        planned_for=str(data.get("planned_for", "")),
    )


def _tensors(names: list[str], columns: dict[str, Any]) -> tuple[TensorCompression, ...]:
    counts = [n_chunks for runs in columns["raw"] for _, n_chunks in runs]
    if min(counts, default=1) < 1 or sum(counts) != len(columns["stored"]):
        raise ValueError(f"{len(columns['stored'])} stored chunks do not fit the {sum(counts)} raw ones")
    stored = iter(columns["stored"])
    rows = zip(names, columns["raw"], columns["entropy"], columns["basis"], strict=True)
    return tuple(_tensor(name, runs, stored, entropy, basis) for name, runs, entropy, basis in rows)


def _tensor(name: str, runs: list[list[int]], stored: Any, entropy: float, basis: str) -> TensorCompression:
    raw = tuple(size for size, n_chunks in runs for _ in range(n_chunks))
    return TensorCompression(name, raw, tuple(islice(stored, len(raw))), float(entropy), basis)


def _checked(profile: CodecProfile) -> CodecProfile:
    """``profile`` if its numbers are possible; raises ``ValueError`` with the tensor otherwise."""
    if profile.basis not in _BASES or not isinstance(profile.codec, str) or profile.chunk_bytes <= 0:
        raise ValueError(f"basis {profile.basis!r}, codec {profile.codec!r}, chunks of {profile.chunk_bytes!r} B")
    for tensor, compression in zip(profile.model.tensors, profile.tensors, strict=True):
        raw, stored = compression.raw_bytes, compression.stored_bytes
        if len(raw) != len(stored) or not all(0 < s <= r for r, s in zip(raw, stored, strict=True)):
            raise ValueError(f"{tensor.name}: stored chunks do not fit the raw ones")
        if sum(raw) != tensor.n_bytes or not 0 <= compression.entropy_bits_per_byte <= 8:
            raise ValueError(f"{tensor.name}: {sum(raw)} bytes in chunks, {tensor.n_bytes} in the model")
    unknown = {one.tensor for one in profile.plan} - {tensor.name for tensor in profile.model.tensors}
    if unknown:
        raise ValueError(f"tensor_plan: the model has no tensor {min(unknown)}")
    for rate in (profile.decompress, profile.reference):
        if rate is not None and not 0 < rate.low_bytes_per_s <= rate.median_bytes_per_s <= rate.high_bytes_per_s < 1e15:
            raise ValueError(f"decompression rate {rate}")
    return profile
