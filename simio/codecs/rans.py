"""rANS over bytes: an entropy coder that spends fractions of a bit, with one frequency table a chunk or per N bytes.

Range asymmetric numeral systems (Duda 2013, arXiv 1311.2540, §2.3): with frequencies ``f_s`` that add up to ``2^k`` and
``c_s`` their running sum, a state ``x`` takes in the symbol ``s`` as ``⌊x / f_s⌋·2^k + c_s + (x mod f_s)`` and gives it
back as the one whose range holds ``x mod 2^k``. States stay in ``[2^16, 2^32)`` by moving 16-bit words out and in.
Eight states take turns, which hides the latency of each (interleaving: Giesen 2014, arXiv 1402.3392).

Huffman spends a whole bit on a symbol of probability 0.9, rANS 0.15: it earns its cost below about two bits a symbol.

Format: length of the tables as little-endian uint32; the tables, compressed with zstd; eight states, uint32; the words,
uint16. A table is 256 frequencies, uint16, all low bytes before all high bytes over the chunk. ``k`` is not stored: a
table is no finer than the bytes it stands for. State ``i mod 8`` holds byte ``i`` of the bytes of one table. A decoder ends with
all states at ``2^16``, which finds most damage.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from simio.codecs.base import Buffer, Codec, damaged
from simio.codecs.zstd import Zstd
from simio.errors import UsageError

_LANES = 8
_LOW = 1 << 16  # the least state
_LENGTH = struct.Struct("<I")
_TABLES = Zstd(9)
#: Bits of a table, at least and at most. 14 cost under 0.01 bit for 100 rare bytes, and the table stays in a core's cache.
_BITS = (10, 14)
_SEGMENTS = (256, 1 << 30)


@dataclass(frozen=True, slots=True)
class Rans(Codec):
    """``rans``, one table a chunk, or ``rans:N``, a table per N bytes: of a row, where N is the bytes of a row."""

    level: int = 0

    def __post_init__(self) -> None:
        if self.level and not _SEGMENTS[0] <= self.level <= _SEGMENTS[1]:
            raise UsageError(
                f"rans cannot have a table per {self.level} bytes", "use rans, one table a chunk, or rans:256 and above"
            )

    @property
    def name(self) -> str:
        """``rans`` or ``rans:N``."""
        return f"rans:{self.level}" if self.level else "rans"

    @property
    def library_version(self) -> str:
        """Version of this module's format and the library that compresses its tables."""
        return f"rans format 1, tables by {_TABLES.library_version}"

    def compress(self, raw: Buffer) -> bytes:
        """Tables, states and words; nothing for nothing."""
        if not len(raw):
            return b""
        symbols = np.frombuffer(raw, np.uint8)
        symbols.flags.writeable = False  # one compiled variant, whatever the buffer
        segment, n_tables, bits = self._shape(len(raw))
        frequencies = np.empty((n_tables, 256), np.uint16)
        words, states = np.empty(len(raw), np.uint16), np.full(_LANES, _LOW, np.uint32)
        first = _encode(symbols, segment, bits, frequencies, words, states)
        tables = _TABLES.compress(frequencies.astype("<u2").reshape(-1, 1).view(np.uint8).T.tobytes())
        coded = states.astype("<u4").tobytes() + words[first:].astype("<u2").tobytes()
        return _LENGTH.pack(len(tables)) + tables + coded

    def decompress(self, stored: Buffer, raw_bytes: int) -> bytes:
        """The bytes again; raises ``ModelFileError`` on damage."""
        view = memoryview(stored)
        if not raw_bytes:
            if len(view):
                raise damaged(self.name, f"{len(view)} bytes too many")
            return b""
        segment, n_tables, bits = self._shape(raw_bytes)
        start = _LENGTH.size + _LENGTH.unpack_from(view)[0] if len(view) >= _LENGTH.size else len(view)
        n_words, odd = divmod(len(view) - start - 4 * _LANES, 2)
        if n_words < 0 or odd:
            raise damaged(self.name, "it is cut off")
        planes = np.frombuffer(_TABLES.decompress(view[_LENGTH.size : start], 512 * n_tables), np.uint8).reshape(2, -1)
        frequencies = np.ascontiguousarray(planes.T).view("<u2").astype(np.uint16).reshape(n_tables, 256)
        if (frequencies.sum(axis=1, dtype=np.int64) != 1 << bits).any():
            raise damaged(self.name, "a frequency table does not add up")
        states = np.frombuffer(view[start : start + 4 * _LANES], "<u4").astype(np.uint32)
        words = np.zeros(n_words + _LANES, np.uint16)  # a damaged input may ask for eight too many
        words[:n_words] = np.frombuffer(view[start + 4 * _LANES :], "<u2")
        out = np.empty(raw_bytes, np.uint8)
        n_read = _decode(words, states, segment, bits, frequencies, out)
        if n_read != n_words or (states != _LOW).any():
            raise damaged(self.name, "its states do not end as they began")
        return out.tobytes()

    def _shape(self, n_bytes: int) -> tuple[int, int, int]:
        """Bytes per table, tables, and the bits of each in a chunk of ``n_bytes``."""
        segment = min(self.level or n_bytes, n_bytes)
        return segment, -(-n_bytes // segment), min(max((segment - 1).bit_length(), _BITS[0]), _BITS[1])


@njit(nogil=True)  # type: ignore[untyped-decorator]
def _fit(counts: NDArray[np.int64], total: int, frequencies: NDArray[np.uint16]) -> None:
    """``counts`` rounded to frequencies that add up to ``total``: each used byte has one at least.

    Single steps go where they cost the fewest bits: ``d/df (count·log2 f) = count / f``.
    """
    n, left = counts.sum(), total
    for s in range(256):
        f = max(1, int(counts[s] * total / n + 0.5)) if counts[s] else 0
        frequencies[s] = f
        left -= f
    while left:
        step, best, at = (1 if left > 0 else -1), -1.0, 0
        for s in range(256):
            f = float(frequencies[s])
            if f + step < 1 or not counts[s]:
                continue
            gain = counts[s] / (f + 0.5) if step > 0 else (f - 0.5) / counts[s]
            if gain > best:
                best, at = gain, s
        frequencies[at] += step
        left -= step


@njit(nogil=True)  # type: ignore[untyped-decorator]
def _encode(symbols: Any, segment: int, bits: int, frequencies: Any, words: Any, states: Any) -> int:
    """Fill ``frequencies`` and ``states``, write ``words`` from their end on; the index of the first one. Last byte first."""
    at, starts = len(words), np.empty(256, np.uint32)
    for table in range(len(frequencies) - 1, -1, -1):
        first, frequency = table * segment, frequencies[table]
        here = symbols[first : first + segment]
        counts = np.zeros(256, np.int64)
        for s in here:
            counts[s] += 1
        _fit(counts, 1 << bits, frequency)
        starts[0] = 0
        for s in range(255):
            starts[s + 1] = starts[s] + frequency[s]
        for i in range(len(here) - 1, -1, -1):
            s, lane = here[i], i % _LANES
            x, f = np.uint32(states[lane]), np.uint32(frequency[s])
            if x >> np.uint32(32 - bits) >= f:
                at -= 1
                words[at] = x & np.uint32(0xFFFF)
                x >>= np.uint32(16)
            states[lane] = ((x // f) << np.uint32(bits)) + starts[s] + x % f
    return at


@njit(nogil=True)  # type: ignore[untyped-decorator]
def _decode(words: Any, states: Any, segment: int, bits: int, frequencies: Any, out: Any) -> int:
    """Fill ``out``, leave ``states`` as they end; the number of words read, -1 where there were too few."""
    k, mask, low, word = np.uint32(bits), np.uint32((1 << bits) - 1), np.uint32(_LOW), np.uint32(16)
    symbol_at, starts, wide = np.empty(1 << bits, np.uint8), np.empty(256, np.uint32), np.empty(256, np.uint32)
    at, n_words = 0, len(words) - _LANES
    for table in range(len(frequencies)):
        slot = 0
        for s in range(256):
            starts[s], wide[s] = slot, frequencies[table, s]
            symbol_at[slot : slot + wide[s]] = s
            slot += wide[s]
        end = min(len(out), (table + 1) * segment)
        for first in range(table * segment, end, _LANES):
            if at > n_words:
                return -1
            for lane in range(min(_LANES, end - first)):
                x = states[lane]
                s = symbol_at[x & mask]
                out[first + lane] = s
                x = wide[s] * (x >> k) + (x & mask) - starts[s]
                refill = x < low
                x = (x << word) | np.uint32(words[at]) if refill else x
                at += refill
                states[lane] = x
    return at
