"""rANS over bytes: an entropy coder that spends fractions of a bit, with one frequency table a chunk or per N bytes.

Range asymmetric numeral systems (Duda 2013, arXiv 1311.2540; Townsend 2020, arXiv 2001.09186): with frequencies ``f_s``
that add up to ``2^k`` and ``c_s`` their running sum, a state ``x`` takes in the symbol ``s`` as
``⌊x / f_s⌋·2^k + c_s + (x mod f_s)`` and gives it back as the one whose range holds ``x mod 2^k``. States stay in
``[2^32, 2^64)`` by moving 32-bit words out and in. Eight states take turns, which hides the latency of each
(interleaving: Giesen 2014, arXiv 1402.3392).

Huffman spends a whole bit on a symbol of probability 0.9, rANS 0.15: it earns its cost below about two bits a symbol.

Format, little-endian: length of the tables, uint32; the tables, compressed with zstd; eight states, uint64; the words,
uint32; the last ``n mod 8`` bytes as they are. A table is 256 frequencies, uint32; over the chunk their lowest bytes
come first, their highest last. State ``i mod 8`` holds byte ``i``. ``k`` is not stored: a table is no finer than the
bytes it stands for. A decoder ends with all words read and all states at ``2^32``, which finds most damage.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numba import njit
from numpy.typing import NDArray

from simio.codecs.base import Buffer, Codec, damaged
from simio.codecs.entropy import byte_counts
from simio.codecs.zstd import Zstd
from simio.errors import UsageError

_LANES = 8
_LOW = 1 << 32  # the least state
_WORD = np.dtype("<u4")
_STATE = np.dtype("<u8")
_LENGTH = struct.Struct("<I")
_TABLES = Zstd(9)
#: Bits of a table, least and most. At 16, 100 bytes too rare for it cost 0.002 bit a byte; it stays in a core's cache.
_BITS = (10, 16)
_SEGMENTS = range(256, 1 << 30, _LANES)


@dataclass(frozen=True, slots=True)
class Rans(Codec):
    """``rans``, one table a chunk, or ``rans:N``, a table per N bytes: of a row, where N is the bytes of a row."""

    level: int = 0
    _coder: ClassVar[str] = "rans"

    def __post_init__(self) -> None:
        if self.level and self.level not in _SEGMENTS:
            raise UsageError(
                f"{self._coder} cannot have a table per {self.level} bytes",
                f"use {self._coder}, one table a chunk, or {self._coder}:N with N a multiple of {_LANES} "
                f"from {_SEGMENTS.start}",
            )

    @property
    def name(self) -> str:
        """``rans`` or ``rans:N``."""
        return f"{self._coder}:{self.level}" if self.level else self._coder

    @property
    def library_version(self) -> str:
        """Version of this module's format and the library that compresses its tables."""
        return f"{self._coder} format 1, tables by {_TABLES.library_version}"

    def compress(self, raw: Buffer) -> bytes:
        """Tables, states, words and tail."""
        symbols = np.frombuffer(raw, np.uint8, len(raw) - len(raw) % _LANES)
        symbols.flags.writeable = False  # one compiled variant, whatever the buffer
        segment, n_tables, bits = self._shape(len(symbols))
        frequencies = np.empty((n_tables, 256), _WORD)
        for table in range(n_tables):
            frequencies[table] = self._fit(byte_counts(symbols[table * segment :][:segment].data), bits)
        words, states = np.empty(len(symbols), _WORD), np.full(_LANES, _LOW, _STATE)
        first = _encode(symbols, segment, bits, frequencies, words, states)
        tables = _TABLES.compress(frequencies.reshape(-1, 1).view(np.uint8).T.tobytes())
        coded = (states.tobytes(), words[first:].tobytes())
        return b"".join((_LENGTH.pack(len(tables)), tables, *coded, memoryview(raw)[len(symbols) :]))

    def decompress(self, stored: Buffer, raw_bytes: int) -> bytes:
        """The bytes again; raises ``ModelFileError`` on damage."""
        view, n_tail = memoryview(stored), raw_bytes % _LANES
        if len(view) < _LENGTH.size:
            raise damaged(self.name, "it is cut off")
        start = _LENGTH.size + _LENGTH.unpack_from(view)[0]
        at_words = start + _LANES * _STATE.itemsize
        n_words, odd = divmod(len(view) - at_words - n_tail, _WORD.itemsize)
        if n_words < 0 or odd:
            raise damaged(self.name, "it is cut off")
        segment, n_tables, bits = self._shape(raw_bytes - n_tail)
        frequencies = self._tables(view[_LENGTH.size : start], n_tables, bits)
        states = np.frombuffer(view, _STATE, _LANES, start).copy()
        words = np.zeros(n_words + _LANES, _WORD)  # a damaged input may ask for eight too many
        words[:n_words] = np.frombuffer(view, _WORD, n_words, at_words)
        out = np.empty(raw_bytes, np.uint8)
        n_read = _decode(words, states, segment, bits, frequencies, out[: raw_bytes - n_tail])
        if n_read != n_words or (states != _LOW).any():
            raise damaged(self.name, "its states do not end as they began")
        out[raw_bytes - n_tail :] = np.frombuffer(view[len(view) - n_tail :], np.uint8)
        return out.tobytes()

    @staticmethod
    def _fit(counts: NDArray[np.int64], bits: int) -> NDArray[np.uint32]:
        """Frequencies (256,) that add up to ``2^bits``, as near to ``counts`` (256,) as may be."""
        frequencies: NDArray[np.uint32] = _rounded(counts, 1 << bits)
        return frequencies

    def _tables(self, stored: Buffer, n_tables: int, bits: int) -> NDArray[np.uint32]:
        """Frequencies (tables, 256), each row adding up to ``2^bits``."""
        n_bytes = n_tables * 256 * _WORD.itemsize
        planes = np.frombuffer(_TABLES.decompress(stored, n_bytes), np.uint8).reshape(_WORD.itemsize, -1)
        tables = np.ascontiguousarray(planes.T).view(_WORD).reshape(n_tables, 256)
        if (tables.sum(axis=1, dtype=np.uint64) != 1 << bits).any():
            raise damaged(self.name, "a frequency table does not add up")
        return tables

    def _shape(self, n_bytes: int) -> tuple[int, int, int]:
        """Bytes per table, tables, and the bits of each in a chunk of ``n_bytes``."""
        segment = max(_LANES, min(self.level or n_bytes, n_bytes))
        return segment, -(-n_bytes // segment), min(max((segment - 1).bit_length(), _BITS[0]), _BITS[1])


@njit(nogil=True)
def _rounded(counts: Any, total: int) -> Any:
    """``counts`` rounded to frequencies that add up to ``total``: each used byte has one at least.

    Single steps go where they cost the fewest bits: ``d/df (count·log2 f) = count / f``.
    """
    frequencies = np.zeros(256, np.uint32)
    n, left = counts.sum(), total
    for s in range(256):
        share = max(1, int(counts[s] * total / n + 0.5)) if counts[s] else 0
        frequencies[s] = share
        left -= share
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
    return frequencies


@njit(nogil=True)
def _encode(symbols: Any, segment: int, bits: int, frequencies: Any, words: Any, states: Any) -> int:
    """Fill ``states``, write ``words`` from their end; the index of the first one. The last byte goes in first."""
    k, room, word = np.uint64(bits), np.uint64(64 - bits), np.uint64(32)
    at, starts = len(words), np.empty(256, np.uint64)
    for table in range(len(frequencies) - 1, -1, -1):
        here, frequency = symbols[table * segment :][:segment], frequencies[table]
        starts[0] = 0
        for s in range(255):
            starts[s + 1] = starts[s] + frequency[s]
        for i in range(len(here) - 1, -1, -1):
            s, lane = here[i], i % _LANES
            x, f = states[lane], np.uint64(frequency[s])
            if x >> room >= f:
                at -= 1
                words[at] = np.uint32(x & np.uint64(0xFFFFFFFF))
                x >>= word
            states[lane] = ((x // f) << k) + x % f + starts[s]
    return at


@njit(nogil=True)
def _decode(words: Any, states: Any, segment: int, bits: int, frequencies: Any, out: Any) -> int:
    """Fill ``out``, leave ``states`` as they end; the number of words read, -1 where there were too few."""
    symbol_at, starts, wide = np.empty(1 << bits, np.uint8), np.empty(256, np.uint64), np.empty(256, np.uint64)
    at = 0
    for table in range(len(frequencies)):
        slot = 0
        for s in range(256):
            starts[s], wide[s] = slot, frequencies[table, s]
            symbol_at[slot : slot + wide[s]] = s
            slot += wide[s]
        at = _decode_segment(words, at, states, bits, symbol_at, wide, starts, out[table * segment :][:segment])
        if at < 0:
            break
    return at


@njit(nogil=True)
def _decode_segment(
    words: Any, at: int, states: Any, bits: int, symbol_at: Any, wide: Any, starts: Any, out: Any
) -> int:
    """The bytes of one table. No branch on whether a word is due, which cannot be foretold."""
    k, mask, low, word = np.uint64(bits), np.uint64((1 << bits) - 1), np.uint64(_LOW), np.uint64(32)
    x, n_words = states.copy(), len(words) - _LANES
    for first in range(0, len(out), _LANES):
        if at > n_words:
            return -1
        for lane in range(_LANES):
            state, next_word = x[lane], np.uint64(words[at])
            s = symbol_at[state & mask]
            out[first + lane] = s
            state = wide[s] * (state >> k) + (state & mask) - starts[s]
            due = state < low
            x[lane] = ((state << word) | next_word) if due else state
            at += int(due)
    states[:] = x
    return at
