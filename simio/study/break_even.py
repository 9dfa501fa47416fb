"""When does lossless compression pay? One formula, on the rates that predictions use.

S raw bytes come from storage at B bytes/s; compressed they are S/r bytes, and the share f of S (the chunks that shrank)
is decompressed at D bytes of output/s, all workers together. A token that waits for storage alone takes

    raw                S/B
    pipelined          max(S/(r·B), f·S/D)   →  gain = min(r, D/(f·B)), above 1 iff r > 1 and D > f·B     (E1)
    one after another  S/(r·B) + f·S/D       →  gain = 1/(1/r + f·B/D)                                    (E2)

A pipeline is as fast as its slower stage. For f = 1: decoded on spare cores, compression pays iff D > B and by at most
min(r, D/B); decoded in series, iff D > B·r/(r − 1). ZipServ (arXiv 2603.17435) and ZipMoE (arXiv 2601.21198) measure
both regimes. Computing and the memory bus are left out: ``simio predict --codec`` has them.

B is the device's read curve at the request size and queue depth of a streamed plan (R2 of ``simio.service_times``);
D the anchor of its file for the codec × the mean speed of the workers' cores (D2) × their number × how much faster than
the reference these weights decompress, measured here.
"""

from __future__ import annotations

from simio.analytic.break_even import pipelined_gain, serial_gain
from simio.predict.suggest import LEAST_GAIN
from simio.records.compressibility import BreakEven, Decompression, Sizes
from simio.records.device import Device
from simio.service_times import default_workers, parallel_efficiency, read_bandwidth, worker_rate
from simio.units import MIB

#: Requests of ``simio run`` and of streamed plans.
READ_BYTES = 4 * MIB

PAYS, BELOW_NOISE, DO_NOT_BOTHER = "pays", "below noise", "do not bother"
NOT_KNOWN, NOT_MEASURED = "not known", "not measured"


def verdict(gain: float) -> str:
    """``pays 1.42×``; ``below noise`` for a gain below that of any phone measurement; ``do not bother`` for none.

    >>> verdict(1.42), verdict(1.01), verdict(0.9)
    ('pays 1.42×', 'below noise', 'do not bother')
    """
    if gain >= LEAST_GAIN:
        return f"{PAYS} {gain:.2f}×"
    return BELOW_NOISE if gain > 1 else DO_NOT_BOTHER


def break_even(device: Device, sizes: Sizes, decompression: Decompression | None) -> BreakEven:
    """What storing ``sizes`` compressed is worth on ``device``, with its default threads and workers.

    A gain of 1 where nothing shrank, where its rate was not measured, and where the device file has none of the codec.
    """
    storage = read_bandwidth(device.storage, READ_BYTES, device.storage.best_queue_depth, sequential=True)
    if decompression is None and sizes.compressed_bytes:
        return BreakEven(device.id, storage, None, sizes.ratio, 1.0, 1.0, NOT_MEASURED)
    if decompression is None or not sizes.compressed_bytes:
        return BreakEven(device.id, storage, None, sizes.ratio, 1.0, 1.0, DO_NOT_BOTHER)
    if decompression.anchor not in device.cpu.decompress:
        return BreakEven(device.id, storage, None, sizes.ratio, 1.0, 1.0, NOT_KNOWN)
    decompress = decompress_rate(device, decompression)
    known = (sizes.ratio, sizes.compressed_share, decompress, storage)
    gain = pipelined_gain(*known)
    return BreakEven(device.id, storage, decompress, sizes.ratio, gain, serial_gain(*known), verdict(gain))


def decompress_rate(device: Device, decompression: Decompression) -> float:
    """D: all default workers of ``device`` together. [bytes of output/s]"""
    cpu = device.cpu
    n_workers = default_workers(cpu, cpu.default_threads)
    one = worker_rate(device, decompression.anchor, cpu.default_threads, n_workers)
    company = float(parallel_efficiency(cpu, cpu.default_threads + n_workers))
    return n_workers * one * company * decompression.relative_rate
