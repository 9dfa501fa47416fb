"""What a layout's streams become under some codecs, added up while they arrive in runs: sizes, bounds, entropies.

Every stream is cut into chunks by itself, as a weights file would be packed, and a chunk that does not shrink is stored
raw (``simio.codecs.chunk``). Beside it stand two order-0 entropies (``simio.codecs.entropy``), both over the histogram
of a whole tensor: that of the codes per weight, and that of the bytes a codec sees, the bound of its ratio.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simio.codecs.base import Codec
from simio.codecs.chunk import compress_chunk
from simio.codecs.entropy import byte_counts, entropy_bits
from simio.quant.contract import FloatArray, Quantizer, Streams
from simio.records.weight_types import WEIGHT_TYPES


def stream_layout(quantizer: Quantizer, key: str, stream: NDArray[Any]) -> str:
    """The weight type a codec is told of: ``Q4_K`` for the blocks of ``q4_k``, ``F16`` for a stream of halves …"""
    if key == "data" and (name := quantizer.name.upper()) in WEIGHT_TYPES:
        return name
    kind = "F" if stream.dtype.kind == "f" else stream.dtype.kind.upper()
    return f"{kind}{8 * stream.itemsize}"


class Chunks:
    """Cuts a stream that arrives in parts into chunks of whole blocks; equal for all ways of cutting the parts."""

    def __init__(self, layout: str, chunk_bytes: int) -> None:
        block_bytes = WEIGHT_TYPES[layout].block_bytes
        self._step = max(1, chunk_bytes // block_bytes) * block_bytes
        self._begun = bytearray()

    def add(self, part: memoryview) -> Iterator[memoryview | bytes]:
        """The chunks that ``part`` completes."""
        start = 0
        if self._begun:
            start = min(len(part), self._step - len(self._begun))
            self._begun += part[:start]
            if len(self._begun) < self._step:
                return
            yield bytes(self._begun)
            self._begun.clear()
        whole = start + (len(part) - start) // self._step * self._step
        for at in range(start, whole, self._step):
            yield part[at : at + self._step]
        self._begun += part[whole:]

    def end(self) -> Iterator[bytes]:
        """The last chunk, which is shorter, if there is one."""
        if self._begun:
            yield bytes(self._begun)
            self._begun.clear()


@dataclass(slots=True)
class Facts:
    """One stream under one codec. [bytes]"""

    stored: int = 0
    compressed: int = 0  # raw bytes of the chunks that shrank
    bound: float = 0.0


@dataclass(slots=True)
class Outcome:
    """A tensor under a layout: raw bytes by stream, facts by codec and stream, entropy of the codes per weight.

    ``weight_error`` is ``‖W − Wq‖² / ‖W‖²``, 0 for a matrix of zeros.
    """

    raw: dict[str, int] = field(default_factory=dict)
    facts: dict[str, dict[str, Facts]] = field(default_factory=dict)
    entropy_bits: float = 0.0
    weight_error: float = 0.0


class Tally:
    """Takes streams run by run, gives one ``Outcome``; memory does not grow with the tensor."""

    def __init__(self, quantizer: Quantizer, codecs: Sequence[Codec], chunk_bytes: int) -> None:
        self._quantizer = quantizer
        self._codecs = codecs
        self._chunk_bytes = chunk_bytes
        self._chunks: dict[str, Chunks] = {}
        self._set_up: dict[str, list[Codec]] = {}
        self._facts: dict[str, dict[str, Facts]] = {codec.name: defaultdict(Facts) for codec in codecs}
        self._bytes: dict[tuple[str, str], list[NDArray[Any]]] = {}
        self._codes: dict[tuple[str, int], NDArray[Any]] = {}
        self._raw: dict[str, int] = {}
        self._square = self._square_off = 0.0

    def count_error(self, w: FloatArray, streams: Streams) -> None:
        """Add the errors of ``w``, which became ``streams``."""
        off = w - self._quantizer.dequantize(streams, (w.shape[0], w.shape[1]))
        self._square += sum_of_squares(w)
        self._square_off += sum_of_squares(off)

    def count_codes(self, streams: Streams, shape: tuple[int, int]) -> None:
        """Add the codes of ``shape`` weights to the histograms; a 32-bit symbol counts as its two halves."""
        for key, symbols in code_symbols(self._quantizer, streams, shape):
            halves = symbols.view(np.uint16).reshape(-1, 2).T if symbols.itemsize == 4 else [symbols]
            for place, values in enumerate(halves):
                counts = np.bincount(values, minlength=1 << 8 * values.itemsize)
                at = (key, place)
                self._codes[at] = self._codes[at] + counts if at in self._codes else counts

    def add(self, streams: Mapping[str, NDArray[Any]]) -> None:
        """Compress what these streams complete."""
        for key, stream in streams.items():
            if key not in self._chunks:
                layout = stream_layout(self._quantizer, key, stream)
                self._chunks[key] = Chunks(layout, self._chunk_bytes)
                self._set_up[key] = [codec.for_layout(layout) for codec in self._codecs]
                self._raw[key] = 0
            self._raw[key] += stream.nbytes
            for chunk in self._chunks[key].add(stream.view(np.uint8).data):
                self._compress(key, chunk)

    def end(self, n_weights: int) -> Outcome:
        """Everything, once all runs of a tensor of ``n_weights`` are in."""
        for key, chunks in self._chunks.items():
            for chunk in chunks.end():
                self._compress(key, chunk)
        for key, codecs in self._set_up.items():
            for codec, set_up in zip(self._codecs, codecs, strict=True):
                counted = self._bytes.get((key, _view(set_up)), [])
                bits = sum(entropy_bits(counts) * float(counts.sum()) for counts in counted)
                self._facts[codec.name][key].bound = bits / 8
        code_bits = sum(entropy_bits(counts) * float(counts.sum()) for counts in self._codes.values())
        facts = {name: dict(by_stream) for name, by_stream in self._facts.items()}
        error = self._square_off / self._square if self._square else 0.0
        return Outcome(self._raw, facts, code_bits / max(1, n_weights), error)

    def _compress(self, key: str, raw: memoryview | bytes) -> None:
        seen: set[str] = set()
        for codec, set_up in zip(self._codecs, self._set_up[key], strict=True):
            stored = len(compress_chunk(set_up, raw))
            facts = self._facts[codec.name][key]
            facts.stored += stored
            facts.compressed += len(raw) if stored < len(raw) else 0
            if (view := _view(set_up)) not in seen:
                seen.add(view)
                self._count_bytes((key, view), set_up, raw)

    def _count_bytes(self, at: tuple[str, str], codec: Codec, raw: memoryview | bytes) -> None:
        counted = [byte_counts(stream) for stream in codec.streams(raw)]
        before = self._bytes.get(at)
        self._bytes[at] = counted if before is None else [a + b for a, b in zip(before, counted, strict=True)]


def sum_of_squares(w: FloatArray) -> float:
    """``‖w‖²`` in float64: float32 overflows at weights of 1e19 and loses those below 1e-23."""
    return float(np.einsum("ij,ij->", w, w, dtype=np.float64))


def _view(codec: Codec) -> str:
    """What tells apart how codecs see bytes: nothing for plain ones, else the filters of the name (or all of it)."""
    if type(codec).streams is Codec.streams:
        return ""
    return codec.name.rpartition("(")[0] or codec.name


def code_symbols(quantizer: Quantizer, streams: Streams, shape: tuple[int, int]) -> Iterator[tuple[str, NDArray[Any]]]:
    """What stands for the weights, by name: all symbols but scales and other floats.

    Of ggml blocks, whose one stream holds everything, these are ``codes``; of most layouts, too; others have masks,
    planes, signs or places beside them.
    """
    symbols = quantizer.symbols(streams, shape)
    if set(streams) == {"data"}:
        yield "codes", symbols["codes"]
        return
    for key, values in symbols.items():
        if "scale" not in key and streams[key].dtype.kind != "f":
            yield key, values
