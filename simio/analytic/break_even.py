"""When does lossless compression pay? The closed form, on storage and decompression rates alone.

S raw bytes come from storage at B bytes/s; compressed they are S/r bytes, and the share f of S (the chunks that shrank)
is decompressed at D bytes of output/s, all workers together. A token that waits for storage alone takes

    raw                S/B
    pipelined          max(S/(r·B), f·S/D)   →  gain = min(r, D/(f·B)), above 1 iff r > 1 and D > f·B     (E1)
    one after another  S/(r·B) + f·S/D       →  gain = 1/(1/r + f·B/D), above 1 iff D > f·B·r/(r − 1)     (E2)

A pipeline is as fast as its slower stage. ZipServ (arXiv 2603.17435) and ZipMoE (arXiv 2601.21198) measure both
regimes. Computing and the memory bus are left out.
"""

from __future__ import annotations

from math import inf


def pipelined_gain(ratio: float, share: float, decompress: float, storage: float) -> float:
    """E1: time raw ÷ time compressed, decompression beside the reads. Rates in bytes/s, ``share`` is f.

    >>> pipelined_gain(1.5, 1.0, 4e9, 2e9), pipelined_gain(1.5, 1.0, 2.4e9, 2e9)
    (1.5, 1.2)
    """
    return min(ratio, decompress / (share * storage)) if share else ratio


def serial_gain(ratio: float, share: float, decompress: float, storage: float) -> float:
    """E2: the same when every byte is decompressed after it was read.

    >>> serial_gain(2.0, 1.0, 2e9, 1e9)
    1.0
    """
    return 1 / (1 / ratio + (share * storage / decompress if share else 0.0))


def pipelined_storage(share: float, decompress: float) -> float:
    """E1 solved for B at a gain of 1: storage above ``D/f`` is too fast for the codec. [bytes/s]

    >>> pipelined_storage(0.5, 1e9)
    2000000000.0
    """
    return decompress / share if share else inf


def serial_storage(ratio: float, share: float, decompress: float) -> float:
    """E2 solved for B at a gain of 1: ``D·(r − 1)/(f·r)``; 0 where nothing shrinks. [bytes/s]

    >>> serial_storage(2.0, 1.0, 2e9)
    1000000000.0
    """
    return decompress * max(0.0, ratio - 1) / (share * ratio) if share else inf


def pipelined_decompress(share: float, storage: float) -> float:
    """E1 solved for D at a gain of 1: ``f·B``. The full gain r takes r times that. [bytes of output/s]

    >>> pipelined_decompress(1.0, 3e9)
    3000000000.0
    """
    return share * storage


def serial_decompress(ratio: float, share: float, storage: float) -> float:
    """E2 solved for D at a gain of 1: ``f·B·r/(r − 1)``; infinite where nothing shrinks. [bytes of output/s]

    >>> serial_decompress(1.5, 1.0, 1e9)
    3000000000.0
    """
    return share * storage * ratio / (ratio - 1) if ratio > 1 else inf
