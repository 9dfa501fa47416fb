"""What a sweep offers: speed against RAM, and which scenarios no other one beats in both."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Offer:
    """One scenario that can run. ``varied``: the fields in which it differs, as text, by name."""

    peak_ram_bytes: float
    tokens_per_s: float
    ttft_s: float
    varied: Mapping[str, str]
    colour: float | str  # its value of ``TradeOff.coloured_by``
    on_front: bool


@dataclass(frozen=True, slots=True)
class TradeOff:
    """``offers`` of a sweep, the front (less RAM, more tokens/s) by rising RAM first; all of it, of the others some.

    ``fixed``: what all scenarios have in common, as text by name. ``coloured_by``: the field shown as colour, if any.
    ``n`` scenarios were evaluated, of which ``n_stuck`` cannot run.
    """

    fixed: Mapping[str, str]
    coloured_by: str | None
    n: int
    n_stuck: int
    offers: tuple[Offer, ...]
