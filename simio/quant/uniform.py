"""Uniform integers of 2, 3, 4 or 8 bits with one scale per tensor, output channel or group along the input axis.

Three rules for a code of b bits:

* ``sym`` (absmax; LLM.int8(), arXiv 2208.07339): ``scale = max|w| / (2^(b-1) - 1)``, ``code = round(w / scale)``;
* ``affine`` (MLX, Q4_1): ``scale = (max w - min w) / (2^b - 1)``, ``code = round((w - min) / scale)``, min stored
  like scale;
* ``zero`` (GPTQ, arXiv 2210.17323, and AWQ, arXiv 2306.00978, checkpoints): the range made to include 0,
  ``zero = round(-min / scale)``, ``code = round(w / scale) + zero``, the zero points packed like the codes.

The scales and minima of groups are FP16, those of channels and tensors FP32. Codes are computed from them as stored.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from simio.errors import UsageError
from simio.quant.contract import FP16_MAX, FloatArray, Quantizer, Streams, TensorSummary, checked, integers
from simio.quant.packing import pack, packed_bytes, unpack

_GROUP = re.compile(r"group(\d+)")
_RULES = ("sym", "affine", "zero")
_HINT = "write for example int8:tensor, int8:channel, int8:group32, int4:group128:affine or int4:group128:zero"


@dataclass(frozen=True, slots=True)
class Uniform(Quantizer):
    """``bits`` per code; ``group`` weights share a scale: a count, ``"channel"`` (a row) or ``"tensor"``."""

    bits: int
    group: int | str = "tensor"
    rule: str = "sym"
    extent: tuple[float, float] | None = None  # (min, max) of the whole tensor, where rows come in runs

    def __post_init__(self) -> None:
        if self.bits not in (2, 3, 4, 8):
            raise UsageError(f"int{self.bits} is not a layout", "use int2, int3, int4 or int8")
        if isinstance(self.group, int) and self.group < 2:
            raise UsageError(f"a group of {self.group} weights cannot share a scale", _HINT)
        if isinstance(self.group, str) and self.group not in ("tensor", "channel"):
            raise UsageError(f"int{self.bits}: '{self.group}' is not a granularity", _HINT)
        if self.rule not in _RULES:
            raise UsageError(f"int{self.bits}: '{self.rule}' is not a rule (sym, affine, zero)", _HINT)

    @property
    def name(self) -> str:
        """The text that :func:`simio.quant.parse` reads back."""
        grain = self.group if isinstance(self.group, str) else f"group{self.group}"
        return f"int{self.bits}:{grain}" + ("" if self.rule == "sym" else f":{self.rule}")

    def for_tensor(self, summary: TensorSummary) -> Uniform:
        """With one scale for the tensor: that of all its rows."""
        return replace(self, extent=(summary.low, summary.high)) if self.group == "tensor" else self

    def quantize(self, w: FloatArray) -> Streams:
        """Streams ``codes`` (packed), ``scales`` and, by rule, ``mins`` or ``zeros`` (packed) of ``w (n_out, n_in)``.

        Symmetric codes are stored with the offset ``2^(b-1)``, except INT8, which is two's complement.
        """
        largest = float("inf") if isinstance(self.group, str) else FP16_MAX
        x = checked(w, self.group if isinstance(self.group, int) else 1, self.name, largest)
        groups = x.reshape(self._n_scales(x.shape), -1)
        if self.rule == "sym":
            return self._symmetric(groups)
        return self._affine(groups) if self.rule == "affine" else self._with_zeros(groups)

    def dequantize(self, streams: Streams, shape: tuple[int, int]) -> FloatArray:
        """The weights ``(n_out, n_in)``: ``code·scale``, ``code·scale + min`` or ``(code - zero)·scale``."""
        n_scales = self._n_scales(shape)
        codes = unpack(streams["codes"], self.bits, shape[0] * shape[1])
        scales = streams["scales"].astype(np.float32)[:, None]
        values = codes.astype(np.float32).reshape(n_scales, -1)
        if self.rule == "sym":
            values = codes.view(np.int8).astype(np.float32).reshape(n_scales, -1) if self.bits == 8 else values
            values = (values - self._offset) * scales
        elif self.rule == "affine":
            values = values * scales + streams["mins"].astype(np.float32)[:, None]
        else:
            values = (values - unpack(streams["zeros"], self.bits, n_scales)[:, None]) * scales
        return values.reshape(shape)

    def bits_per_weight(self, shape: tuple[int, int]) -> float:
        """Stored bits per weight of a matrix of ``shape``: codes, scales, minima and zeros, exact to the byte."""
        n, n_scales = shape[0] * shape[1], self._n_scales(shape)
        n_floats = 2 * n_scales if self.rule == "affine" else n_scales
        zeros = packed_bytes(n_scales, self.bits) if self.rule == "zero" else 0
        return 8 * (packed_bytes(n, self.bits) + n_floats * self._scale_type.itemsize + zeros) / n

    def symbols(self, streams: Streams, shape: tuple[int, int]) -> Streams:
        """Codes one an item; scales, minima and zeros as they are."""
        codes = unpack(streams["codes"], self.bits, shape[0] * shape[1])
        found = {key: integers(stream) for key, stream in streams.items()} | {"codes": codes}
        return found | (
            {"zeros": unpack(streams["zeros"], self.bits, self._n_scales(shape))} if self.rule == "zero" else {}
        )

    @property
    def _scale_type(self) -> np.dtype[Any]:
        return np.dtype(np.float32 if isinstance(self.group, str) else np.float16)

    @property
    def _offset(self) -> np.float32:
        return np.float32(0 if self.bits == 8 else 1 << (self.bits - 1))

    def _n_scales(self, shape: tuple[int, ...]) -> int:
        if self.group == "tensor":
            return 1
        return shape[0] if isinstance(self.group, str) else shape[0] * (shape[1] // self.group)

    def _extremes(self, groups: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Least and greatest weight of each group, or of the tensor that the rows are a part of."""
        if self.extent is None:
            return groups.min(axis=1), groups.max(axis=1)
        return np.array([self.extent[0]], np.float32), np.array([self.extent[1]], np.float32)

    def _symmetric(self, groups: FloatArray) -> Streams:
        top = (1 << (self.bits - 1)) - 1
        low, high = self._extremes(groups)
        scales = (np.maximum(high, -low) / top).astype(self._scale_type)
        codes = np.clip(_divided(groups, scales), -top, top) + self._offset
        return {"codes": pack(codes.astype(np.int8).view(np.uint8), self.bits), "scales": scales}

    def _affine(self, groups: FloatArray) -> Streams:
        top, (low, high) = (1 << self.bits) - 1, self._extremes(groups)
        scales = (high / top - low / top).astype(self._scale_type)
        mins = low.astype(self._scale_type)
        codes = np.clip(_divided(groups - mins.astype(np.float32)[:, None], scales), 0, top)
        return {"codes": pack(codes.astype(np.uint8), self.bits), "scales": scales, "mins": mins}

    def _with_zeros(self, groups: FloatArray) -> Streams:
        top, (low, high) = (1 << self.bits) - 1, self._extremes(groups)
        low = np.minimum(low, 0)
        scales = (np.maximum(high, 0) / top - low / top).astype(self._scale_type)
        zeros = np.clip(_divided(-low[:, None], scales), 0, top)
        codes = np.clip(_divided(groups, scales) + zeros, 0, top)
        packed = {"codes": pack(codes.astype(np.uint8), self.bits), "zeros": pack(zeros.astype(np.uint8), self.bits)}
        return packed | {"scales": scales}


def _divided(groups: FloatArray, scales: npt.NDArray[Any]) -> FloatArray:
    """``round(groups / scale)`` by row; 0 where the stored scale is 0."""
    wide = scales.astype(np.float32)[:, None]
    quotient = np.divide(groups, wide, out=np.zeros_like(groups), where=wide > 0)
    return np.rint(quotient, out=quotient)


def from_options(bits: int, options: str) -> Uniform:
    """The layout of ``tensor`` (default), ``channel`` or ``groupN``, with ``:affine`` or ``:zero`` behind it."""
    grain, _, rule = options.partition(":")
    match = _GROUP.fullmatch(grain)
    return Uniform(bits, int(match[1]) if match else grain or "tensor", rule or "sym")


int8 = partial(from_options, 8)
int4 = partial(from_options, 4)
int3 = partial(from_options, 3)
int2 = partial(from_options, 2)
