"""One interval of service on one resource, as the simulator saw it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Span:
    """``queued_s ≤ start_s ≤ end_s``; ``n_bytes`` moved or produced (0 for compute)."""

    resource: str  # "storage", "decompress" or "compute"
    pass_index: int  # position in Plan.order
    step: int  # global step number
    queued_s: float
    start_s: float
    end_s: float
    n_bytes: int
