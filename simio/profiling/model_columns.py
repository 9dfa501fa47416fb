"""A ``Model`` as JSON in columns: one array per field over all tensors, small to store and quick to load."""

from __future__ import annotations

from dataclasses import asdict, fields
from itertools import islice
from typing import Any

from simio.records.model import Architecture, KvLayer, Model, Stream, Tensor

_TENSOR_FIELDS = tuple(f.name for f in fields(Tensor) if f.name != "streams")
_STREAM_FIELDS = tuple(f.name for f in fields(Stream))


def model_to_json(model: Model) -> dict[str, Any]:
    """``model`` without weights, ready for ``json.dumps``."""
    streams = [stream for tensor in model.tensors for stream in tensor.streams]
    return {
        "name": model.name,
        "source": model.source,
        "format": model.format,
        "digest": model.digest,
        "n_bytes": model.n_bytes,
        "architecture": asdict(model.architecture),
        "files": model.files,
        "notes": model.notes,
        "tensors": {name: [getattr(tensor, name) for tensor in model.tensors] for name in _TENSOR_FIELDS},
        "n_streams": [len(tensor.streams) for tensor in model.tensors],
        "streams": {name: [getattr(stream, name) for stream in streams] for name in _STREAM_FIELDS},
    }


def model_from_json(data: dict[str, Any]) -> Model:
    """The model in ``data``; raises ``KeyError``, ``TypeError`` or ``ValueError`` when it is not one."""
    streams = iter(_streams(data["streams"]))
    columns = [data["tensors"][name] for name in _TENSOR_FIELDS]
    tensors = tuple(
        Tensor(*_tuples([*row, list(islice(streams, n_streams))]))
        for *row, n_streams in zip(*columns, data["n_streams"], strict=True)
    )
    return Model(
        name=data["name"],
        source=data["source"],
        format=data["format"],
        digest=data["digest"],
        n_bytes=data["n_bytes"],
        architecture=_architecture(data["architecture"]),
        tensors=tensors,
        files=tuple(data["files"]),
        notes=tuple(data["notes"]),
    )


def _streams(columns: dict[str, list[Any]]) -> list[Stream]:
    rows = zip(*(columns[name] for name in _STREAM_FIELDS), strict=True)
    return [Stream(*_tuples(row)) for row in rows]


def _tuples(row: Any) -> list[Any]:
    """JSON knows lists only; shapes are tuples."""
    return [tuple(value) if isinstance(value, list) else value for value in row]


def _architecture(data: dict[str, Any]) -> Architecture:
    layers = tuple(KvLayer(**layer) for layer in data["kv_layers"])
    return Architecture(**{**data, "kv_layers": layers})
