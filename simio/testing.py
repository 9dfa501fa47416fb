"""Contract suites for plug-ins: what simio's own tests call, shipped so that other packages can call them too.

A suite raises ``AssertionError`` with the broken rule and the input that broke it.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import is_dataclass

import numpy as np
from numpy.typing import NDArray

from simio.codecs import parse
from simio.codecs.base import Codec
from simio.codecs.chunk import compress_chunk, decompress_chunk
from simio.errors import ModelFileError, UsageError
from simio.quant import parse as parse_quantizer
from simio.quant.contract import Activations, Quantizer, TensorSummary
from simio.records.weight_types import WEIGHT_TYPES

_SIZES = (0, 1, 2, 3, 17, 255, 4096, 65537, 200_001)


def check_codec(codec: Codec) -> None:
    """Hold ``codec`` against every rule of ``simio.codecs.base``, in every weight layout simio knows."""
    _check_configuration(codec)
    layouts = {repr(codec): codec} | {repr(c): c for c in map(codec.for_layout, sorted(WEIGHT_TYPES))}
    for one in layouts.values():
        for label, raw in _inputs():
            _check_round_trip(one, label, raw)
        _check_damage(one)
        _check_threads(one)


def _check_configuration(codec: Codec) -> None:
    _require(is_dataclass(codec), f"{codec!r} is not a dataclass")
    _require(type(codec).__dataclass_params__.frozen, f"{codec!r} is not frozen")  # type: ignore[attr-defined]
    _require(parse(codec.name) == codec, f"parse({codec.name!r}) gives another codec")
    _require(bool(codec.library_version), f"{codec.name} names no library")
    hash(codec)


def _inputs() -> Iterator[tuple[str, bytes]]:
    """Inputs of every awkward size: noise, one value, and a skewed distribution as weights have."""
    rng = np.random.default_rng(0)
    for n_bytes in _SIZES:
        yield f"{n_bytes} random bytes", rng.bytes(n_bytes)
        yield f"{n_bytes} equal bytes", b"\x7f" * n_bytes
    floats = (rng.standard_normal(20_000) * 0.02).astype(np.float32)
    floats[:6] = [np.nan, -np.nan, np.inf, -np.inf, -0.0, 1e-42]
    yield "float32 weights", floats.tobytes()
    yield "float16 weights", floats.astype(np.float16).tobytes()
    yield "bfloat16 weights", (floats.view(np.uint32) >> 16).astype(np.uint16).tobytes()
    yield "all 16-bit patterns", np.arange(65536, dtype="<u2").tobytes()


def _check_round_trip(codec: Codec, label: str, raw: bytes) -> None:
    where = f"{codec!r} on {label}"
    stored = codec.compress(raw)
    _require(codec.decompress(stored, len(raw)) == raw, f"{where}: decompress does not give the input back")
    _require(codec.compress(raw) == stored, f"{where}: compressing twice gives different bytes")
    for kind in (bytearray, memoryview):
        _require(codec.compress(kind(raw)) == stored, f"{where}: {kind.__name__} input gives different bytes")
        _require(codec.decompress(kind(stored), len(raw)) == raw, f"{where}: {kind.__name__} does not decompress")
    _require(sum(map(len, codec.streams(raw))) == len(raw), f"{where}: streams lose or add bytes")
    chunk = compress_chunk(codec, raw)
    _require(len(chunk) <= len(raw), f"{where}: a stored chunk is longer than the raw one")
    _require(decompress_chunk(codec, chunk, len(raw)) == raw, f"{where}: the chunk does not come back")


def _check_damage(codec: Codec) -> None:
    raw = bytes(range(64)) * 1024
    stored = codec.compress(raw)
    for label, damaged in (("truncated", stored[: len(stored) // 2]), ("empty", b"")):
        try:
            codec.decompress(damaged, len(raw))
        except ModelFileError:
            continue
        raise AssertionError(f"{codec!r}: {label} input raises no ModelFileError")


def _check_threads(codec: Codec) -> None:
    rng = np.random.default_rng(1)
    inputs = [(rng.standard_normal(10_000 + i) * 0.02).astype(np.float32).tobytes() for i in range(16)]
    expected = [codec.compress(raw) for raw in inputs]
    with ThreadPoolExecutor(4) as pool:
        stored = list(pool.map(codec.compress, inputs * 4))
        raws = list(pool.map(codec.decompress, stored, map(len, inputs * 4)))
    _require(stored == expected * 4, f"{codec!r}: several threads compress to different bytes")
    _require(raws == inputs * 4, f"{codec!r}: several threads decompress to different bytes")


def check_quantizer(quantizer: Quantizer, n_in: int = 512) -> None:
    """Hold ``quantizer`` against every rule of ``simio.quant.contract``, on rows of ``n_in`` weights."""
    name = quantizer.name
    _require(is_dataclass(quantizer), f"{name} is not a dataclass")
    _require(type(quantizer).__dataclass_params__.frozen, f"{name} is not frozen")  # type: ignore[attr-defined]
    _require(parse_quantizer(name) == quantizer, f"parse({name!r}) gives another quantizer")
    rng = np.random.default_rng(0)
    if quantizer.needs_activations:
        _require(_refuses(quantizer, _weights(rng, 8, n_in)), f"{name} works without the activations it needs")
        quantizer = quantizer.calibrated(random_activations(n_in))
    for n_out in (1, 3, 64):
        w = _weights(rng, n_out, n_in)
        _check_sizes(quantizer, w)
        _check_through_bytes(quantizer, w)
        if quantizer.rows_apart:
            _check_rows_apart(quantizer, w)
    zeros = np.zeros((4, n_in), np.float32)
    back = quantizer.dequantize(quantizer.quantize(zeros), zeros.shape)
    _require(bool((np.abs(back) <= 1e-12).all()), f"{name}: zeros do not come back as zeros")
    bad = _weights(rng, 4, n_in)
    for label, w in (("a vector", bad[0]), ("no rows", bad[:0]), ("NaN", bad * np.float32("nan"))):
        _require(_refuses(quantizer, w), f"{name}: {label} is not refused with a UsageError")


def random_activations(n_in: int, seed: int = 0) -> Activations:
    """Activations of 256 tokens with a few large channels, as decoders have them."""
    rng = np.random.default_rng(seed)
    x = (rng.standard_normal((256, n_in)) * np.exp(rng.standard_normal(n_in))).astype(np.float32)
    magnitude = np.abs(x)
    return Activations(len(x), magnitude.max(axis=0), magnitude.mean(axis=0), x.T @ x / np.float32(len(x)))


def _weights(rng: np.random.Generator, n_out: int, n_in: int) -> NDArray[np.float32]:
    """Heavy-tailed rows of different size, one of them zeros: what real matrices look like."""
    spread = np.exp(0.5 * rng.standard_normal((n_out, 1)))
    w = (0.02 * spread * rng.standard_t(4, (n_out, n_in))).astype(np.float32)
    w[n_out // 2 : n_out // 2 + (n_out > 2)] = 0
    return w


def _check_sizes(quantizer: Quantizer, w: NDArray[np.float32]) -> None:
    where = f"{quantizer.name} on {w.shape}"
    streams = quantizer.quantize(w)
    for key, stream in streams.items():
        _require(stream.ndim == 1 and bool(stream.flags.c_contiguous), f"{where}: stream {key} is not flat")
    stored = 8 * sum(stream.nbytes for stream in streams.values()) / w.size
    _require(
        abs(stored - quantizer.bits_per_weight(w.shape)) * w.size < 0.5,
        f"{where}: {stored} bits a weight are stored, bits_per_weight says {quantizer.bits_per_weight(w.shape)}",
    )
    symbols = quantizer.symbols(streams, w.shape)
    kinds = {key: stream.dtype.kind for key, stream in symbols.items()}
    _require(set(kinds.values()) <= {"u"}, f"{where}: symbols are not unsigned integers but {kinds}")
    back = quantizer.dequantize(streams, w.shape)
    _require(back.shape == w.shape and back.dtype == np.float32, f"{where}: gives {back.dtype} {back.shape}")
    _require(bool(np.isfinite(back).all()), f"{where}: dequantized weights are not finite")


def _check_through_bytes(quantizer: Quantizer, w: NDArray[np.float32]) -> None:
    where = f"{quantizer.name} on {w.shape}"
    streams = quantizer.quantize(w)
    again = quantizer.quantize(w.copy())
    _require(list(streams) == list(again), f"{where}: equal weights give other streams")
    for key, stream in streams.items():
        _require(stream.tobytes() == again[key].tobytes(), f"{where}: equal weights give another stream {key}")
    copied = {key: np.frombuffer(stream.tobytes(), stream.dtype) for key, stream in streams.items()}
    same = np.array_equal(quantizer.dequantize(streams, w.shape), quantizer.dequantize(copied, w.shape))
    _require(same, f"{where}: the streams stand for something else after a way through bytes")
    for key, symbols in quantizer.symbols(streams, w.shape).items():
        same = np.array_equal(symbols, quantizer.symbols(copied, w.shape)[key])
        _require(same, f"{where}: symbols of {key} differ after a way through bytes")


def _check_rows_apart(quantizer: Quantizer, w: NDArray[np.float32]) -> None:
    """Rows in runs give the dequantized weights of the whole."""
    one = quantizer.for_tensor(TensorSummary.of(w))
    whole = quantizer.dequantize(quantizer.quantize(w), w.shape)
    cut = max(1, len(w) // 3)
    runs = [part for part in (w[:cut], w[cut:]) if len(part)]
    parts = np.concatenate([one.dequantize(one.quantize(part), part.shape) for part in runs])
    _require(np.array_equal(whole, parts), f"{quantizer.name} on {w.shape}: rows in runs give other weights")


def _refuses(quantizer: Quantizer, w: NDArray[np.float32]) -> bool:
    try:
        quantizer.quantize(w)
    except UsageError:
        return True
    return False


def _require(holds: bool, message: str) -> None:
    if not holds:
        raise AssertionError(message)
