"""FP8 with scales per tensor, as FP8 checkpoints hold them (``f8_e4m3``), per output channel or per group.

Formats: arXiv 2209.05433, Table 1 (:mod:`simio.quant.minifloat`). Scales are FP32.
"""

from __future__ import annotations

from functools import partial

from simio.quant.granularity import Granularity
from simio.quant.minifloat import E4M3, E5M2, MiniFloat
from simio.quant.scaled_float import ScaledFloat


def from_options(layout: str, number: MiniFloat, options: str) -> ScaledFloat:
    """The layout of ``tensor`` (default), ``channel`` or ``groupN``."""
    return ScaledFloat(layout, number, Granularity.parse(options or "tensor", layout))


f8_e4m3 = partial(from_options, "f8_e4m3", E4M3)
f8_e5m2 = partial(from_options, "f8_e5m2", E5M2)
