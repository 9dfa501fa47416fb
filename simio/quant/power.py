"""Power-law levels: whole numbers in the domain of ``|w|^a``, the exponent a searched.

PowerQuant (Yvinec et al., ICLR 2023, arXiv 2301.09858) and NUPES (Yvinec et al. 2023, arXiv 2308.05600): the
automorphisms of the positive numbers under multiplication are the powers, so that codes still multiply. For b bits
``code = round((2^(b-1) - 1)·sign(w)·(|w| / max|w|)^a)`` and back by the power 1/a; a = 1 is the uniform layout.
PowerQuant searches one exponent a layer, of least error of the weights; NUPES goes on to train it. Here it is searched
for a tensor, or for each output channel, in steps of 1/64 and stored as that many 64ths, a byte.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, partial

import numpy as np
import numpy.typing as npt

from simio.quant.contract import ByteArray, FloatArray, Quantizer, Streams, checked
from simio.quant.granularity import TENSOR, Granularity
from simio.quant.packing import pack, packed_bytes, unpack, unpacked
from simio.quant.rows import divided, in_runs

Whole = npt.NDArray[np.intp]

_UNITS = 64  # exponents are whole numbers of 1/_UNITS
_COARSE = tuple(range(16, _UNITS + 1, 4))
_FINE = (-3, -2, -1, 1, 2, 3)


@dataclass(frozen=True, slots=True)
class Power(Quantizer):
    """Codes of ``bits`` bits with the offset ``2^(bits-1)``, scales (max|w|) as ``grain`` says."""

    bits: int
    grain: Granularity

    @property
    def name(self) -> str:
        """The text that :func:`simio.quant.parse` reads back."""
        return f"power{self.bits}:{self.grain}"

    @property
    def rows_apart(self) -> bool:
        """Not with one exponent for the tensor: its search needs all weights."""
        return self.grain != TENSOR

    def quantize(self, w: FloatArray) -> Streams:
        """Streams ``codes`` (packed), ``scales`` and ``exponents`` (a byte) of ``w (n_out, n_in)``."""
        rows = self.grain.rows(checked(w, self.grain.multiple, self.name, self.grain.largest))
        scales = self.grain.peaks(rows).astype(self.grain.scale_type)
        column = np.broadcast_to(scales.astype(np.float32)[:, None], (len(rows), 1))
        exponents = self._searched(rows, column, len(w))
        codes = in_runs(self._codes, rows, column, _beside(exponents, len(rows)))
        return {"codes": pack(codes, self.bits), "scales": scales, "exponents": exponents.astype(np.uint8)}

    def dequantize(self, streams: Streams, shape: tuple[int, int]) -> FloatArray:
        """The weights ``(n_out, n_in)``."""
        codes = unpack(streams["codes"], self.bits, shape[0] * shape[1])
        scales = streams["scales"].astype(np.float32)[:, None]
        steps = codes.reshape(len(scales), -1).astype(np.int16) - (self._top + 1)
        exponents = _beside(streams["exponents"].astype(np.intp), len(scales))
        magnitude = self._levels(exponents, np.abs(steps).astype(np.uint8))
        values: FloatArray = np.copysign(magnitude, steps) * scales
        return values.reshape(shape)

    def bits_per_weight(self, shape: tuple[int, int]) -> float:
        """Stored bits per weight of a matrix of ``shape``: codes, scales and exponents, exact to the byte."""
        n, n_exponents = shape[0] * shape[1], 1 if self.grain == TENSOR else shape[0]
        return 8 * (packed_bytes(n, self.bits) + self.grain.scale_bytes(shape) + n_exponents) / n

    def symbols(self, streams: Streams, shape: tuple[int, int]) -> Streams:
        """Codes one an item; scales and exponents as they are."""
        return unpacked(streams, self.bits, shape[0] * shape[1])

    @property
    def _top(self) -> int:
        return (1 << (self.bits - 1)) - 1

    def _searched(self, rows: FloatArray, scales: FloatArray, n_out: int) -> Whole:
        """The exponent of least squared error for each of ``n_out`` rows of the matrix, or the one for all."""
        best = np.zeros(1 if self.grain == TENSOR else n_out, np.intp)
        least = np.full(len(best), np.inf)
        for steps in (_COARSE, _FINE):
            for exponents in [np.minimum(best + step, _UNITS) for step in steps]:
                errors = in_runs(self._errors, rows, scales, _beside(exponents, len(rows)))
                error = errors.reshape(len(best), -1).sum(axis=1)
                best, least = np.where(error < least, exponents, best), np.minimum(error, least)
        return best

    def _errors(self, rows: FloatArray, scales: FloatArray, exponents: Whole) -> npt.NDArray[np.float64]:
        """Squared error of each row."""
        magnitude = np.abs(divided(rows, scales))
        difference = self._levels(exponents, self._steps(magnitude, exponents)) - magnitude
        error: npt.NDArray[np.float64] = np.square(difference, out=difference).sum(axis=1) * np.square(
            scales[:, 0], dtype=np.float64
        )
        return error

    def _steps(self, magnitude: FloatArray, exponents: Whole) -> ByteArray:
        """``round(top·magnitude^a)``."""
        powers = np.power(magnitude, (exponents[:, None] / _UNITS).astype(np.float32))
        powers *= self._top
        return np.minimum(np.rint(powers, out=powers), self._top, out=powers).astype(np.uint8)

    def _codes(self, rows: FloatArray, scales: FloatArray, exponents: Whole) -> ByteArray:
        steps = self._steps(np.abs(divided(rows, scales)), exponents)
        offset = np.uint8(self._top + 1)
        return np.where(rows < 0, offset - steps, offset + steps)

    def _levels(self, exponents: Whole, steps: ByteArray) -> FloatArray:
        """``(steps / top)^(1/a)``, from a table of every exponent and step."""
        table = _level_table(self._top)
        levels: FloatArray = np.take(table, exponents[:, None] * (self._top + 1) + steps, mode="clip")
        return levels


@cache
def _level_table(top: int) -> FloatArray:
    exponents = np.arange(_UNITS + 1)[:, None] / _UNITS
    with np.errstate(divide="ignore"):
        table: FloatArray = ((np.arange(top + 1) / top) ** (1 / exponents)).astype(np.float32)
    return table


def _beside(exponents: Whole, n_rows: int) -> Whole:
    """An exponent beside each of ``n_rows`` rows or groups of rows."""
    return np.repeat(exponents, n_rows // len(exponents))


def from_options(bits: int, options: str) -> Power:
    """The layout of ``channel`` (default), ``tensor`` or ``groupN``."""
    return Power(bits, Granularity.parse(options or "channel", f"power{bits}"))


power8 = partial(from_options, 8)
power4 = partial(from_options, 4)
power3 = partial(from_options, 3)
