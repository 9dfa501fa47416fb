"""Uniform integers of 2 … 6 or 8 bits with one scale per tensor, channel or group within a channel.

A channel is an output channel (a row; the default) or, with ``input``, an input channel (a column): groups of inputs
isolate the outliers of input channels (AdaDim, arXiv 2309.15531). The rules ``sym``, ``affine`` and ``zero`` are those
of :mod:`simio.quant.integer_grid`. A clip factor narrows every range before it makes a scale; ``search`` finds the
factor (:mod:`simio.quant.clip_search`).

The scales and minima of groups are FP16, those of channels and tensors FP32.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from simio.errors import UsageError
from simio.quant.clip_search import searched
from simio.quant.contract import ByteArray, FloatArray, Quantizer, Streams, TensorSummary, checked, integers
from simio.quant.granularity import NAMES, Granularity
from simio.quant.integer_grid import RULES, IntegerGrid, extremes
from simio.quant.packing import pack, packed_bytes, unpack

_CLIP = re.compile(r"clip(\d*\.?\d+(?:e-\d+)?)")
_HINT = (
    "write for example int8:tensor, int8:channel, int8:input, int8:group32, int4:group128:affine, int4:group128:input, "
    "int4:group128:zero:clip0.9 or int4:group128:search"
)


@dataclass(frozen=True, slots=True)
class Uniform(Quantizer):
    """``bits`` per code; ``group`` weights share a scale: a count, ``"channel"`` or ``"tensor"``.

    ``axis`` says which channels groups lie in, ``"output"`` (rows) or ``"input"`` (columns). ``clip`` is the part of a
    group's range that its levels span, in (0, 1], or ``"search"``.
    """

    bits: int
    group: int | str = "tensor"
    rule: str = "sym"
    axis: str = "output"
    clip: float | str = 1.0
    extent: tuple[float, float] | None = None  # (min, max) of the whole tensor, where rows come in runs

    def __post_init__(self) -> None:
        what = f"int{self.bits}"
        if self.bits not in (2, 3, 4, 5, 6, 8):
            raise UsageError(f"{what} is not a layout", "use int2, int3, int4, int5, int6 or int8")
        Granularity.parse(str(self.grain), what, _HINT)  # refuses what is none
        if self.rule not in RULES:
            raise UsageError(f"{what}: '{self.rule}' is not a rule (sym, affine, zero)", _HINT)
        if self.axis not in ("output", "input") or (self.axis == "input" and self.group == "tensor"):
            raise UsageError(f"{what}: a {self.group} has no axis '{self.axis}'", _HINT)
        if self.clip != "search" and not (isinstance(self.clip, float | int) and 0 < self.clip <= 1):
            raise UsageError(f"{what}: '{self.clip}' is not a part of the range in (0, 1]", _HINT)

    @property
    def name(self) -> str:
        """The text that :func:`simio.quant.parse` reads back."""
        parts = [f"int{self.bits}", str(self.grain)]
        if self.axis == "input":
            parts = [parts[0], "input"] if self.group == "channel" else [*parts, "input"]
        if self.rule != "sym":
            parts.append(self.rule)
        if self.clip != 1:
            parts.append("search" if self.clip == "search" else f"clip{self.clip}")
        return ":".join(parts)

    @property
    def grain(self) -> Granularity:
        """Which weights share a scale, whichever the axis."""
        return Granularity(self.group)

    @property
    def rows_apart(self) -> bool:
        """Whether no scale depends on other rows, but for the range of a tensor."""
        return self.axis == "output" and not (self.group == "tensor" and self.clip == "search")

    def for_tensor(self, summary: TensorSummary) -> Uniform:
        """With one scale for the tensor: that of all its rows."""
        return replace(self, extent=(summary.low, summary.high)) if self.group == "tensor" else self

    def quantize(self, w: FloatArray) -> Streams:
        """Streams ``codes`` (packed, by row), ``scales`` and, by rule, ``mins`` or ``zeros`` (packed) of ``w``.

        Symmetric codes are stored with the offset ``2^(b-1)``, except INT8, which is two's complement. The scales of
        input channels are stored by row, too: first those of the first group of every column. Where ``n_out`` is not a
        multiple of the group, the last group of a column is shorter.
        """
        x = checked(w, self.row_multiple, self.name, self.grain.largest)
        groups = self.grouped(x)
        grid = self.grid(groups)
        return self.streams(grid.codes(groups).reshape(-1)[: x.size], grid)

    def dequantize(self, streams: Streams, shape: tuple[int, int]) -> FloatArray:
        """The weights ``(n_out, n_in)``: ``code·scale``, ``code·scale + min`` or ``(code - zero)·scale``."""
        a, b = self._scales_shape(shape)
        codes = self.grouped(unpack(streams["codes"], self.bits, shape[0] * shape[1]).reshape(shape))
        grid = IntegerGrid(
            self.bits,
            self.rule,
            streams["scales"].reshape(a, b),
            streams["mins"].reshape(a, b) if self.rule == "affine" else None,
            unpack(streams["zeros"], self.bits, a * b).reshape(a, b) if self.rule == "zero" else None,
        )
        return grid.values(codes).reshape(-1)[: shape[0] * shape[1]].reshape(shape)

    def bits_per_weight(self, shape: tuple[int, int]) -> float:
        """Stored bits per weight of a matrix of ``shape``: codes, scales, minima and zeros, exact to the byte."""
        a, b = self._scales_shape(shape)
        n, n_scales = shape[0] * shape[1], a * b
        n_floats = 2 * n_scales if self.rule == "affine" else n_scales
        zeros = packed_bytes(n_scales, self.bits) if self.rule == "zero" else 0
        return 8 * (packed_bytes(n, self.bits) + n_floats * self.grain.scale_type.itemsize + zeros) / n

    def symbols(self, streams: Streams, shape: tuple[int, int]) -> Streams:
        """Codes one an item; scales and minima as they are, zeros one an item."""
        a, b = self._scales_shape(shape)
        found = {key: integers(stream) for key, stream in streams.items()}
        found["codes"] = unpack(streams["codes"], self.bits, shape[0] * shape[1])
        return found | ({"zeros": unpack(streams["zeros"], self.bits, a * b)} if self.rule == "zero" else {})

    def columns_per_scale(self, n_in: int) -> int:
        """Neighbouring columns that share scales, of ``n_in``."""
        if self.axis == "input":
            return 1
        return self.group if isinstance(self.group, int) else n_in

    def grouped(self, x: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """``x (n_out, n_in)`` as groups ``(a, m, b)``; a last group of fewer rows is filled up with the last row."""
        a, b = self._scales_shape(x.shape)
        if a > 1 and isinstance(self.group, int) and self.axis == "input" and len(x) % self.group:
            x = np.pad(x, ((0, -len(x) % self.group), (0, 0)), mode="edge")
        return x.reshape(a, -1, b)

    def grid(self, groups: FloatArray) -> IntegerGrid:
        """The levels of ``groups (a, m, b)``."""
        if self.extent is None:
            low, high = extremes(groups)
        else:
            low, high = np.full((1, 1), self.extent[0], np.float32), np.full((1, 1), self.extent[1], np.float32)
        if isinstance(self.clip, str):
            return searched(groups, low, high, self.bits, self.rule, self.grain.scale_type)
        factor = np.float32(self.clip)
        return IntegerGrid.over(factor * low, factor * high, self.bits, self.rule, self.grain.scale_type)

    def streams(self, codes: ByteArray, grid: IntegerGrid) -> Streams:
        """The byte streams of ``codes``, in the order of the weights, and their grid."""
        streams: Streams = {"codes": pack(codes, self.bits)}
        if grid.zeros is not None:
            streams["zeros"] = pack(grid.zeros, self.bits)
        streams["scales"] = grid.scales.reshape(-1)
        if grid.mins is not None:
            streams["mins"] = grid.mins.reshape(-1)
        return streams

    def _scales_shape(self, shape: tuple[int, ...]) -> tuple[int, int]:
        """``(a, b)``: groups of rows, and of columns within them where groups lie down columns."""
        n_out, n_in = shape
        if self.axis == "input":
            return (-(-n_out // self.group) if isinstance(self.group, int) else 1), n_in
        return self.grain.n_scales(shape), 1

    @property
    def row_multiple(self) -> int:
        """What the weights in a row must be a multiple of."""
        return self.grain.multiple if self.axis == "output" else 1


def from_options(bits: int, options: str) -> Uniform:
    """The layout of options between colons, in any order, each kind at most once.

    ``tensor`` (default), ``channel`` or ``groupN``; ``input``; ``affine`` or ``zero``; ``clipX`` or ``search``.
    """
    found: dict[str, Any] = {}
    for option in options.split(":") if options else ():
        field, value = _option(bits, option)
        if field in found:
            raise UsageError(f"int{bits}: '{option}' comes after another option of its kind", _HINT)
        found[field] = value
    if found.get("axis") == "input":
        found.setdefault("group", "channel")
    return Uniform(bits, **found)


def _option(bits: int, text: str) -> tuple[str, Any]:
    """The field of :class:`Uniform` that an option sets, and its value."""
    if NAMES.fullmatch(text):
        return "group", Granularity.parse(text, f"int{bits}", _HINT).group
    if match := _CLIP.fullmatch(text):
        return "clip", float(match[1])
    for field, values in (("axis", ("input",)), ("rule", RULES), ("clip", ("search",))):
        if text in values:
            return field, text
    raise UsageError(f"int{bits} has no option '{text}'", _HINT)


int8 = partial(from_options, 8)
int6 = partial(from_options, 6)
int5 = partial(from_options, 5)
int4 = partial(from_options, 4)
int3 = partial(from_options, 3)
int2 = partial(from_options, 2)
