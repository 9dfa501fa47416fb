"""Quantizers: weights to named byte streams and back, each layout a plug-in of the group ``simio.quantizers``."""

from __future__ import annotations

from typing import cast

from simio import registry
from simio.quant.contract import Factory, Quantizer


def parse(text: str) -> Quantizer:
    """The quantizer named by ``text``: ``q4_k``, ``bf16``, ``int8:tensor``, ``int8:channel``, ``int4:group128:affine``.

    Raises ``UnknownNameError`` with the close matches for an unknown layout, ``UsageError`` for options it cannot take.
    """
    name, _, options = text.strip().lower().partition(":")
    factory = cast(Factory, registry.get("quantizers", name))
    return factory(options)
