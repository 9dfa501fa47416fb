"""The result of compressing a model: stored bytes per chunk and the measured decompression rate. Small; no weights."""

from __future__ import annotations

from dataclasses import dataclass

from simio.records.model import Model
from simio.records.tensor_plan import TensorPlan


def plain_codec(name: str) -> str:
    """The codec at the heart of a name, filters taken off.

    >>> plain_codec("byteplane(zstd:1)")
    'zstd:1'
    """
    return name.rpartition("(")[2].rstrip(")")


@dataclass(frozen=True, slots=True)
class Rate:
    """A measured rate: median and quartiles over ``n`` timed repetitions. [bytes of output per second, one thread]"""

    median_bytes_per_s: float
    low_bytes_per_s: float
    high_bytes_per_s: float
    n: int


@dataclass(frozen=True, slots=True)
class HostFacts:
    """Where and with what a rate was measured."""

    cpu: str
    n_cpus: int
    library_version: str  # "zstandard 0.25.0 (libzstd 1.5.7)"
    date: str  # ISO date


@dataclass(frozen=True, slots=True)
class TensorCompression:
    """One tensor under one codec.

    ``raw_bytes`` and ``stored_bytes`` have one entry per chunk in file order (what did not shrink is stored raw).
    ``entropy_bits_per_byte`` is the order-0 entropy of the byte streams the codec sees: the bound beside every ratio.
    ``basis`` is ``measured``, ``sampled`` (stratified sample, chunk sizes extrapolated), ``statistics`` (stored
    statistics of the same layout and role, for presets) or ``packed`` (the chunks of a container; the entropy is then
    not known: 0).
    """

    tensor: str
    raw_bytes: tuple[int, ...]
    stored_bytes: tuple[int, ...]
    entropy_bits_per_byte: float
    basis: str


@dataclass(frozen=True, slots=True)
class CodecProfile:
    """A model's compression under one codec. ``ratio_interval`` is the 95 % interval of raw/stored when sampled.

    With a joint ``plan`` codecs differ by tensor: ``codec`` is then that of most bytes, ``decompress`` ÷ ``reference``
    how much faster the mixture decompresses than that codec's reference, on the device it is ``planned_for``.
    """

    model: Model
    codec: str  # "zstd:1", "byteplane(zstd:1)", "raw"
    chunk_bytes: int
    basis: str  # as in TensorCompression, for the whole
    tensors: tuple[TensorCompression, ...]  # same order as model.tensors
    decompress: Rate | None  # None for raw and for statistics: the device's own anchor is used
    host: HostFacts | None
    ratio_interval: tuple[float, float] | None = None
    reference: Rate | None = (
        None  # the same codec on the reference buffer, same host: carries the rate to other devices
    )
    plan: tuple[TensorPlan, ...] = ()  # what a joint choice decided, by tensor; empty: nothing was decided
    planned_for: str = ""  # id of the device that ``plan`` was made for; empty: not known, or no plan

    @property
    def raw_bytes(self) -> int:
        """Bytes before compression, over all chunks."""
        return sum(sum(t.raw_bytes) for t in self.tensors)

    @property
    def stored_bytes(self) -> int:
        """Bytes on storage, over all chunks."""
        return sum(sum(t.stored_bytes) for t in self.tensors)

    @property
    def ratio(self) -> float:
        """raw / stored; 1 when nothing shrinks."""
        return self.raw_bytes / max(1, self.stored_bytes)
