"""A model in numbers: what ``simio inspect`` prints, for files and presets alike."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from typing import Any

from simio.records.model import ROLES, Architecture, Model, Tensor, kv_bytes

_SHOWN_NAMES = 8


@dataclass(frozen=True, slots=True)
class Share:
    """What some tensors of a model add up to; ``name`` is the role, the weight type or the layer's number."""

    name: str
    n_tensors: int
    n_weights: int
    n_bytes: int

    @property
    def bits_per_weight(self) -> float:
        """Stored bits per logical weight, scales included."""
        return 8 * self.n_bytes / self.n_weights if self.n_weights else 0.0


@dataclass(frozen=True, slots=True)
class ModelSummary:
    """``n_bytes`` is the size of the weights file(s), header included; ``tensor_bytes`` that of the tensors alone.

    ``outside_layers`` are the tensors that belong to no layer: embedding, head, final norm. ``kv_bytes_per_token`` is
    what one token adds to an FP16 KV cache before any window is full. ``unknown_names`` have role ``other``.
    """

    name: str
    source: str
    format: str
    digest: str
    files: tuple[str, ...]
    n_bytes: int
    tensor_bytes: int
    n_weights: int
    bits_per_weight: float
    n_tensors: int
    architecture: Architecture
    kv_bytes_per_token: float
    by_role: tuple[Share, ...]
    by_dtype: tuple[Share, ...]
    by_layer: tuple[Share, ...]
    outside_layers: Share
    unknown_names: tuple[str, ...]
    notes: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """The summary as plain JSON types with stable keys; layers and shares as lists of objects."""
        plain = asdict(self)
        for key in ("by_role", "by_dtype", "by_layer"):
            plain[key] = [_share_json(share) for share in getattr(self, key)]
        plain["by_layer"] = [{"layer": int(row.pop("name")), **row} for row in plain["by_layer"]]
        plain["outside_layers"] = _share_json(self.outside_layers)
        plain["architecture"]["kv_layers"] = [asdict(layer) for layer in self.architecture.kv_layers]
        return {key: list(value) if isinstance(value, tuple) else value for key, value in plain.items()}


def summarize(model: Model) -> ModelSummary:
    """Add up ``model`` by role, weight type and layer; needs no files."""
    tensors = model.tensors
    layered = [t for t in tensors if t.layer is not None]
    unknown = tuple(t.name for t in tensors if t.role == "other")
    return ModelSummary(
        name=model.name,
        source=model.source,
        format=model.format,
        digest=model.digest,
        files=model.files,
        n_bytes=model.n_bytes,
        tensor_bytes=sum(t.n_bytes for t in tensors),
        n_weights=model.n_weights,
        bits_per_weight=model.bits_per_weight,
        n_tensors=len(tensors),
        architecture=model.architecture,
        kv_bytes_per_token=kv_bytes(model.architecture, 1) - kv_bytes(model.architecture, 0),
        by_role=_shares(tensors, lambda t: t.role, lambda share: ROLES.index(share.name)),
        by_dtype=_shares(tensors, lambda t: t.dtype, lambda share: -share.n_bytes),
        by_layer=_shares(layered, lambda t: str(t.layer), lambda share: int(share.name)),
        outside_layers=_share("", [t for t in tensors if t.layer is None]),
        unknown_names=unknown,
        notes=(*model.notes, *_unknown_note(unknown)),
    )


def _shares(
    tensors: Iterable[Tensor], key: Callable[[Tensor], str], order: Callable[[Share], int]
) -> tuple[Share, ...]:
    groups: dict[str, list[Tensor]] = {}
    for tensor in tensors:
        groups.setdefault(key(tensor), []).append(tensor)
    return tuple(sorted((_share(name, members) for name, members in groups.items()), key=order))


def _share(name: str, tensors: list[Tensor]) -> Share:
    return Share(name, len(tensors), sum(t.n_weights for t in tensors), sum(t.n_bytes for t in tensors))


def _share_json(share: Share) -> dict[str, Any]:
    return {**asdict(share), "bits_per_weight": share.bits_per_weight}


def _unknown_note(names: tuple[str, ...]) -> tuple[str, ...]:
    if not names:
        return ()
    shown = ", ".join(names[:_SHOWN_NAMES]) + (f", … ({len(names)} in all)" if len(names) > _SHOWN_NAMES else "")
    return (f"role 'other' (buffers, parts beside the language model, or unknown names): {shown}",)
