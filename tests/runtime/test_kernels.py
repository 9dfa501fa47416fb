"""Kernels against the ``gguf`` package and float64 products."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import gguf
import numpy as np
import pytest
from gguf import quants

from simio.errors import UsageError
from simio.quant import parse
from simio.runtime import kernels
from simio.runtime.dequantizing import known_dtypes
from simio.runtime.matrices import Matrix

OURS = [t for t in known_dtypes() if t in gguf.GGMLQuantizationType.__members__ and t not in ("I8", "F64")]
#: The gguf package only dequantizes these.
QUANTIZED_BY_US = {"Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "IQ4_NL", "IQ4_XS"}


def stored(dtype: str, n_rows: int, n_cols: int, seed: int = 0) -> np.ndarray:
    """Rows of weights as ``dtype``: quantized where something can, otherwise random codes under sane scales."""
    w = (np.random.default_rng(seed).standard_normal((n_rows, n_cols)) * 0.1).astype(np.float32)
    if dtype in QUANTIZED_BY_US:
        return parse(dtype.lower()).quantize(w)["data"].reshape(n_rows, -1)
    try:
        return np.ascontiguousarray(quants.quantize(w, gguf.GGMLQuantizationType[dtype])).view(np.uint8)
    except NotImplementedError:
        n_bytes = kernels.row_bytes(dtype, n_cols)
        return np.random.default_rng(seed).integers(0, 60, (n_rows, n_bytes), dtype=np.uint8)


@pytest.mark.parametrize("dtype", OURS)
def test_every_type_dequantizes_as_the_gguf_package_says(dtype: str) -> None:
    data = stored(dtype, 5, 512)
    expected = quants.dequantize(data, gguf.GGMLQuantizationType[dtype])
    np.testing.assert_allclose(kernels.dequantize(dtype, data, 5, 512), expected, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("dtype", OURS)
@pytest.mark.parametrize("n_tokens", [1, 3])
def test_products_are_those_of_the_dequantized_weights(dtype: str, n_tokens: int) -> None:
    data = stored(dtype, 7, 1024)
    x = np.random.default_rng(1).standard_normal((n_tokens, 1024)).astype(np.float32)
    weights = quants.dequantize(data, gguf.GGMLQuantizationType[dtype]).astype(np.float64)
    whole = np.full((n_tokens, 9), np.nan, np.float32)
    kernels.matmul(dtype, data.tobytes(), 7, 1024, x, whole[:, 1:8])
    expected = x.astype(np.float64) @ weights.T
    np.testing.assert_allclose(whole[:, 1:8], expected, atol=1e-5 * np.abs(expected).max())
    assert np.isnan(whole[:, [0, 8]]).all(), "only the given columns are written"


def test_half_floats_are_widened_exactly_subnormals_included() -> None:
    every = np.arange(1 << 16, dtype=np.uint16).view(np.float16)
    finite = every[np.isfinite(every)]
    widened = kernels.dequantize("F16", finite.tobytes(), 1, finite.size)[0]
    np.testing.assert_array_equal(widened, finite.astype(np.float32))


@pytest.mark.parametrize("n_scales", [1, 6, 6 * 4])
@pytest.mark.parametrize("n_tokens", [1, 2])
def test_int8_codes_take_a_scale_per_tensor_per_row_or_per_group(n_scales: int, n_tokens: int) -> None:
    rng = np.random.default_rng(2)
    codes = rng.integers(-127, 128, (6, 64), dtype=np.int8)
    scales = rng.uniform(0.01, 0.1, n_scales).astype(np.float32)
    groups = codes.reshape(6, 4, 16) * (scales.reshape(6, -1, 1) if n_scales > 1 else scales).astype(np.float64)
    weights = groups.reshape(6, 64)
    x = rng.standard_normal((n_tokens, 64)).astype(np.float32)
    out = np.empty((n_tokens, 6), np.float32)
    kernels.matmul("I8", codes, 6, 64, x, out, scales)
    np.testing.assert_allclose(out, x @ weights.T, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(kernels.dequantize("I8", codes, 6, 64, scales), weights, rtol=1e-6)


def test_fp8_codes_are_looked_up() -> None:
    w = np.random.default_rng(3).standard_normal((4, 32)).astype(np.float32)
    layout = parse("f8_e4m3")
    streams = layout.quantize(w)
    got = kernels.dequantize("F8_E4M3", streams["codes"], 4, 32, streams["scales"])
    np.testing.assert_allclose(got, layout.dequantize(streams, (4, 32)), rtol=1e-6)


@pytest.mark.parametrize("dtype", ["Q8_0", "Q4_K", "F16", "I8"])
def test_results_do_not_depend_on_the_threads_that_compute_them(dtype: str) -> None:
    data = np.random.default_rng(4).integers(0, 50, (64, kernels.row_bytes(dtype, 512)), dtype=np.uint8)
    x = np.random.default_rng(5).standard_normal(512).astype(np.float32)

    def product(_: int) -> bytes:
        out = np.empty(64, np.float32)
        kernels.matvec(dtype, data, 64, 512, x, out)
        return out.tobytes()

    with kernels.one_blas_thread(), ThreadPoolExecutor(4) as pool:
        assert len(set(pool.map(product, range(64)))) == 1


def test_an_unknown_type_is_named_with_those_that_work() -> None:
    with pytest.raises(UsageError, match="GPTQ4") as error:
        kernels.matvec("GPTQ4", bytes(133), 1, 256, np.zeros(256, np.float32), np.zeros(1, np.float32))
    assert "Q4_K" in error.value.hint


def test_data_of_another_length_is_refused() -> None:
    with pytest.raises(UsageError, match="2 rows of 32 Q8_0"):
        kernels.matvec("Q8_0", bytes(67), 2, 32, np.zeros(32, np.float32), np.zeros(2, np.float32))
    with pytest.raises(UsageError, match="no whole Q8_0 blocks"):
        kernels.row_bytes("Q8_0", 33)


def test_a_block_of_rows_holds_about_512_kib_and_at_least_one_row() -> None:
    assert kernels.rows_per_block(4352) == 120
    assert kernels.rows_per_block(1 << 20) == 1


@pytest.mark.parametrize("n_rows", [1, 119, 120, 121, 1000, 32_000])
def test_a_matrix_is_cut_into_about_equal_blocks_that_are_all_of_it(n_rows: int) -> None:
    spans = Matrix("w", "Q8_0", n_rows, 4096, 1, None, None).row_spans()
    assert [first for first, _ in spans] == [sum(n for _, n in spans[:i]) for i in range(len(spans))]
    assert sum(n for _, n in spans) == n_rows
    assert max(n for _, n in spans) <= 120
    assert max(n for _, n in spans) - min(n for _, n in spans) <= len(spans)
