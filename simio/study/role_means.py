"""The means of the tensors of a role in a study, and what they say of a tensor of another size."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from simio.records.model import Tensor
from simio.study.study_file import Record


def by_role_of(records: Iterable[Record]) -> Iterator[tuple[tuple[str, str, str], Record]]:
    """Sums of bytes and means of errors by role, quantizer and codec; an embedding also stands for a head."""
    groups: dict[tuple[str, str, str], list[Record]] = {}
    for r in records:
        groups.setdefault((r.role, r.quant, r.codec), []).append(r)
    for (role, quant, codec), group in list(groups.items()):
        other = {"embedding": "head", "head": "embedding"}.get(role)
        if other is not None:
            groups.setdefault((other, quant, codec), group)
    for key, group in groups.items():
        n = sum(r.n_weights for r in group)
        raw = sum(r.raw_bytes for r in group)
        share = sum(r.compressed_share * r.raw_bytes for r in group) / max(1, raw)
        yield (
            key,
            replace(
                group[0],
                n_weights=n,
                raw_bytes=raw,
                stored_bytes=sum(r.stored_bytes for r in group),
                compressed_share=share,
                weight_error=_mean([(r.weight_error, r.n_weights) for r in group]),
                output_error=_mean([(r.output_error, r.n_weights) for r in group]),
                kl=None if any(r.kl is None for r in group) else sum(r.kl or 0.0 for r in group),
            ),
        )


def _mean(values: list[tuple[float | None, int]]) -> float | None:
    known = [(value, n) for value, n in values if value is not None]
    return sum(value * n for value, n in known) / sum(n for _, n in known) if known else None


def scaled(role: Record | None, tensor: Tensor) -> Record | None:
    """``role``'s means for as many weights as ``tensor`` has; KL by the share of weights."""
    if role is None:
        return None
    share = tensor.n_weights / role.n_weights
    raw = -(-role.raw_bytes * tensor.n_weights // role.n_weights)
    stored = min(raw, -(-role.stored_bytes * tensor.n_weights // role.n_weights))
    kl = None if role.kl is None else role.kl * share
    return replace(role, tensor=tensor.name, n_weights=tensor.n_weights, raw_bytes=raw, stored_bytes=stored, kl=kl)
