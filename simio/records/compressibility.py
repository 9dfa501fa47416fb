"""How far the weight layouts of one model still compress: per tensor, layout and codec, with what it is worth where."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from simio.records.codec_profile import HostFacts, Rate


@dataclass(frozen=True, slots=True)
class StreamSize:
    """One byte stream of a layout (codes, scales …) under one codec."""

    name: str
    raw_bytes: int
    stored_bytes: int


@dataclass(frozen=True, slots=True)
class TensorCompressibility:
    """One matrix under one layout and one codec.

    ``entropy_bits`` is the order-0 entropy of its codes, per weight; ``bound_bytes`` what an order-0 coder over the
    bytes that the codec sees would need at least; ``compressed_bytes`` the raw bytes of the chunks that shrank (the
    others are stored raw). ``weight_error`` is ``‖W − Wq‖² / ‖W‖²`` and ``output_error`` ``‖X(W − Wq)ᵀ‖² / ‖XWᵀ‖²``.
    """

    tensor: str
    role: str  # one of simio.records.model.ROLES
    layer: int | None
    n_weights: int
    streams: tuple[StreamSize, ...]
    entropy_bits: float
    bound_bytes: float
    compressed_bytes: int
    weight_error: float
    output_error: float | None = None

    @property
    def raw_bytes(self) -> int:
        """Bytes of all streams."""
        return sum(stream.raw_bytes for stream in self.streams)

    @property
    def stored_bytes(self) -> int:
        """Bytes of all streams after the codec."""
        return sum(stream.stored_bytes for stream in self.streams)

    def to_json(self) -> dict[str, Any]:
        """Sizes, ratios and streams."""
        return {
            "tensor": self.tensor,
            "role": self.role,
            "layer": self.layer,
            **Sizes.of([self]).to_json(),
            "streams": [
                {"name": s.name, "raw_bytes": s.raw_bytes, "stored_bytes": s.stored_bytes} for s in self.streams
            ],
            "weight_error": self.weight_error,
            "output_error": self.output_error,
        }


@dataclass(frozen=True, slots=True)
class Sizes:
    """Sums over some tensors; ``entropy_bits`` is their mean by weights: each tensor has a code of its own."""

    n_weights: int
    raw_bytes: int
    stored_bytes: int
    compressed_bytes: int
    bound_bytes: float
    entropy_bits: float

    @staticmethod
    def of(tensors: Iterable[TensorCompressibility]) -> Sizes:
        """The sums over ``tensors``; all zero for none."""
        found = list(tensors)
        n_weights = sum(t.n_weights for t in found)
        return Sizes(
            n_weights=n_weights,
            raw_bytes=sum(t.raw_bytes for t in found),
            stored_bytes=sum(t.stored_bytes for t in found),
            compressed_bytes=sum(t.compressed_bytes for t in found),
            bound_bytes=sum(t.bound_bytes for t in found),
            entropy_bits=sum(t.entropy_bits * t.n_weights for t in found) / max(1, n_weights),
        )

    @property
    def bits_per_weight(self) -> float:
        """Of the layout, all streams."""
        return 8 * self.raw_bytes / max(1, self.n_weights)

    @property
    def stored_bits_per_weight(self) -> float:
        """After the codec."""
        return 8 * self.stored_bytes / max(1, self.n_weights)

    @property
    def ratio(self) -> float:
        """raw / stored; 1 for no bytes."""
        return self.raw_bytes / self.stored_bytes if self.stored_bytes else 1.0

    @property
    def bound_ratio(self) -> float | None:
        """raw / the order-0 bound; None where the bound is no bytes (every symbol the same)."""
        return self.raw_bytes / self.bound_bytes if self.bound_bytes else None

    @property
    def compressed_share(self) -> float:
        """How much of the raw bytes a reader has to decompress."""
        return self.compressed_bytes / self.raw_bytes if self.raw_bytes else 0.0

    def to_json(self) -> dict[str, Any]:
        """Every number above."""
        return {
            "n_weights": self.n_weights,
            "bits_per_weight": self.bits_per_weight,
            "stored_bits_per_weight": self.stored_bits_per_weight,
            "entropy_bits": self.entropy_bits,
            "ratio": self.ratio,
            "bound_ratio": self.bound_ratio,
            "raw_bytes": self.raw_bytes,
            "stored_bytes": self.stored_bytes,
            "bound_bytes": self.bound_bytes,
            "compressed_share": self.compressed_share,
        }


@dataclass(frozen=True, slots=True)
class KeptTensor:
    """A tensor that a layout leaves as it is, and why."""

    tensor: str
    role: str
    n_weights: int
    reason: str


@dataclass(frozen=True, slots=True)
class SkippedLayout:
    """A layout that was asked for and not studied, and why."""

    quant: str
    reason: str


@dataclass(frozen=True, slots=True)
class Decompression:
    """How fast one thread of this machine decompresses a layout's chunks, and against what that rate travels.

    ``relative_rate``: this rate ÷ that of ``anchor``, a key of ``cpu.decompress`` in device files, on the reference.
    """

    rate: Rate
    anchor: str
    relative_rate: float


@dataclass(frozen=True, slots=True)
class BreakEven:
    """What compressing is worth on one device; see ``simio.study.break_even``. Rates are in bytes of output per second.

    ``gain`` and ``serial_gain`` are time without ÷ time with compression of a token that waits for storage alone,
    decompression beside the reads or after them.
    """

    device: str
    storage_bytes_per_s: float
    decompress_bytes_per_s: float | None  # all workers; None where nothing is decompressed
    ratio: float
    gain: float
    serial_gain: float
    verdict: str

    def to_json(self) -> dict[str, Any]:
        """Every field by its name."""
        return {name: getattr(self, name) for name in self.__slots__}


@dataclass(frozen=True, slots=True)
class CompressibilityRow:
    """One layout under one codec, over all matrices that it takes; ``kl`` is in nats per token."""

    quant: str
    codec: str
    tensors: tuple[TensorCompressibility, ...]
    kept: tuple[KeptTensor, ...]
    decompression: Decompression | None = None  # None: nothing is decompressed, or it was not measured
    break_even: tuple[BreakEven, ...] = ()
    kl: float | None = None
    perplexity: float | None = None

    @property
    def sizes(self) -> Sizes:
        """Sums over all tensors."""
        return Sizes.of(self.tensors)

    def by_role(self) -> dict[str, Sizes]:
        """Sums by role, in order of first appearance."""
        return {
            role: Sizes.of(t for t in self.tensors if t.role == role)
            for role in dict.fromkeys(t.role for t in self.tensors)
        }

    def by_layer(self) -> dict[int, Sizes]:
        """Sums by layer, ascending; without the tensors that are in none."""
        layers = sorted({t.layer for t in self.tensors if t.layer is not None})
        return {layer: Sizes.of(t for t in self.tensors if t.layer == layer) for layer in layers}

    def to_json(self) -> dict[str, Any]:
        """One of ``rows``; ``decompress_bytes_per_s`` is the median of one thread."""
        found = self.decompression
        return {
            "quant": self.quant,
            "codec": self.codec,
            **self.sizes.to_json(),
            "decompress_bytes_per_s": found and found.rate.median_bytes_per_s,
            "decompress_quartiles": found and [found.rate.low_bytes_per_s, found.rate.high_bytes_per_s],
            "relative_rate": found and found.relative_rate,
            "rate_anchor": found and found.anchor,
            "kl": self.kl,
            "perplexity": self.perplexity,
            "roles": [{"role": role, **sizes.to_json()} for role, sizes in self.by_role().items()],
            "break_even": [device.to_json() for device in self.break_even],
            "tensors": [tensor.to_json() for tensor in self.tensors],
            "kept": [{"tensor": k.tensor, "role": k.role, "n_weights": k.n_weights, "reason": k.reason}
                     for k in self.kept],
        }  # fmt: skip


@dataclass(frozen=True, slots=True)
class Compressibility:
    """The whole study: rows by layout, then by codec, in the order asked for."""

    model: str
    digest: str  # of the model's content
    chunk_bytes: int
    host: HostFacts
    rows: tuple[CompressibilityRow, ...]
    skipped: tuple[SkippedLayout, ...]

    def to_json(self) -> dict[str, Any]:
        """The document of ``simio study compressibility --json``."""
        return {
            "model": self.model,
            "digest": self.digest,
            "chunk_bytes": self.chunk_bytes,
            "host": {"cpu": self.host.cpu, "date": self.host.date},
            "rows": [row.to_json() for row in self.rows],
            "skipped": [{"quant": s.quant, "reason": s.reason} for s in self.skipped],
        }
