"""NF4: 4-bit codes of levels that are equally likely under a Gaussian, one FP32 scale (absmax) for 64 weights.

QLoRA (Dettmers et al. 2023, arXiv 2305.14314): levels from appendix E, as bitsandbytes holds them; double quantization
from section 3. Doubly quantized scales are bytes that name one of 256 levels of dynamic 8-bit numbers (Dettmers 2015,
arXiv 1511.04561; ``create_dynamic_map`` of bitsandbytes) of the scale less the mean of all scales, in blocks of 256
with an FP32 absmax each: 8/64 + 32/(64·256) = 0.127 bits a weight instead of 0.5. As in bitsandbytes, codes come from
the scales before that. Unlike there, the first of two codes lies in the low half of a byte.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache

import numpy as np

from simio.errors import UsageError
from simio.quant.contract import ByteArray, FloatArray, Quantizer, Streams, checked
from simio.quant.packing import pack, packed_bytes, unpack, unpacked
from simio.quant.rows import divided, in_runs, magnitudes

#: QLoRA, appendix E.
LEVELS = np.array(
    [
        -1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453,
        -0.28444138169288635, -0.18477343022823334, -0.09105003625154495, 0.0,
        0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224,
        0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0,
    ],
    np.float32,
)  # fmt: skip
SCALES_PER_BLOCK = 256

_BORDERS = (LEVELS[1:] + LEVELS[:-1]) / 2
_OPTIONS = re.compile(r"(?:group(\d+))?(?:(?:^|(?<=\d):)(double))?")
_HINT = "write nf4, nf4:double, nf4:group128 or nf4:group128:double"


@cache
def dynamic_levels() -> FloatArray:
    """The 256 dynamic 8-bit numbers, ascending: 0, 1, and for each decade 10^-6 … 1 its middles of 1, 2 … 64 steps."""
    positive = []
    for i in range(7):
        borders = np.linspace(0.1, 1, 2**i + 1)
        positive.append(10.0 ** (i - 6) * (borders[:-1] + borders[1:]) / 2)
    magnitude = np.concatenate(positive)
    return np.sort(np.concatenate([-magnitude, magnitude, [0.0, 1.0]])).astype(np.float32)


@dataclass(frozen=True, slots=True)
class Nf4(Quantizer):
    """``group`` weights share a scale; ``double`` quantizes the scales themselves."""

    group: int = 64
    double: bool = False

    def __post_init__(self) -> None:
        if self.group < 2:
            raise UsageError(f"nf4: a group of {self.group} weights cannot share a scale", _HINT)

    @property
    def name(self) -> str:
        """The text that :func:`simio.quant.parse` reads back."""
        return "nf4" + ("" if self.group == 64 else f":group{self.group}") + (":double" if self.double else "")

    @property
    def rows_apart(self) -> bool:
        """Not with double quantization: all scales share a mean, and blocks of 256 of them run over rows."""
        return not self.double

    def quantize(self, w: FloatArray) -> Streams:
        """Streams ``codes`` (packed) and ``scales`` (FP32) of ``w (n_out, n_in)``.

        With double quantization ``scales`` are bytes; ``scale_scales`` (FP32, one for 256) and ``scale_mean`` follow.
        """
        groups = checked(w, self.group, self.name).reshape(-1, self.group)
        scales = magnitudes(groups)
        streams: Streams = {"codes": pack(in_runs(_codes, groups, scales), 4), "scales": scales}
        return streams | _quantized(scales) if self.double else streams

    def dequantize(self, streams: Streams, shape: tuple[int, int]) -> FloatArray:
        """The weights ``(n_out, n_in)``: level of the code times scale."""
        codes = unpack(streams["codes"], 4, shape[0] * shape[1]).reshape(-1, self.group)
        scales = _dequantized(streams) if self.double else streams["scales"]
        weights: FloatArray = np.take(LEVELS, codes, mode="clip") * scales[:, None]
        return weights.reshape(shape)

    def bits_per_weight(self, shape: tuple[int, int]) -> float:
        """Stored bits per weight of a matrix of ``shape``: codes and all levels of scales, exact to the byte."""
        n = shape[0] * shape[1]
        n_scales = n // self.group
        scales = n_scales + 4 * -(-n_scales // SCALES_PER_BLOCK) + 4 if self.double else 4 * n_scales
        return 8 * (packed_bytes(n, 4) + scales) / n

    def symbols(self, streams: Streams, shape: tuple[int, int]) -> Streams:
        """Codes one an item; scales as they are."""
        return unpacked(streams, 4, shape[0] * shape[1])


def _codes(groups: FloatArray, scales: FloatArray) -> ByteArray:
    """Index of the nearest level of each weight: as many borders as lie below it."""
    x = divided(groups, scales[:, None])
    codes = np.zeros(x.shape, np.uint8)
    for border in _BORDERS:
        codes += x > border
    return codes


def _quantized(scales: FloatArray) -> Streams:
    mean = np.array([scales.mean(dtype=np.float64)], np.float32)
    blocks = np.pad(scales - mean, (0, -scales.size % SCALES_PER_BLOCK)).reshape(-1, SCALES_PER_BLOCK)
    peaks, levels = magnitudes(blocks), dynamic_levels()
    codes = np.searchsorted((levels[1:] + levels[:-1]) / 2, divided(blocks, peaks[:, None]))
    return {
        "scales": codes.reshape(-1)[: scales.size].astype(np.uint8),
        "scale_scales": peaks,
        "scale_mean": mean,
    }


def _dequantized(streams: Streams) -> FloatArray:
    codes = streams["scales"]
    scales: FloatArray = dynamic_levels()[codes] * np.repeat(streams["scale_scales"], SCALES_PER_BLOCK)[: codes.size]
    return scales + streams["scale_mean"]


def nf4(options: str) -> Nf4:
    """The layout of ``groupN`` (default 64), with ``:double`` behind it."""
    match = _OPTIONS.fullmatch(options)
    if match is None:
        raise UsageError(f"nf4: cannot read '{options}'", _HINT)
    return Nf4(int(match[1] or 64), match[2] is not None)
