"""What layouts cost a tiny random decoder, against direct computations."""

from __future__ import annotations

import math
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import decoders
import numpy as np
import pytest
from decoders import Shape

from simio.errors import MissingPackageError, UnknownNameError, UsageError
from simio.formats.opening import open_model
from simio.quality import activations, measure
from simio.quality.layouts import output_square, symbol_bits
from simio.quant import parse
from simio.quant.contract import Activations, FloatArray, Quantizer, Streams
from simio.records.model import Model
from simio.records.quality import Quality

CALIBRATION = np.random.default_rng(1).integers(0, decoders.VOCAB, (4, 24))
EVALUATION = np.random.default_rng(2).integers(0, decoders.VOCAB, (5, 24))


@pytest.fixture
def model(tmp_path: Path) -> Model:
    return written(tmp_path)


def written(folder: Path, shape: Shape = Shape()) -> Model:  # noqa: B008 (frozen)
    decoders.write_gguf(folder / "m.gguf", shape, decoders.random_arrays(shape))
    return open_model(folder / "m.gguf")


def measured(model: Model, *layouts: str | Quantizer, **more: object) -> Quality:
    return measure(model, layouts, calibration=CALIBRATION, evaluation=EVALUATION, **more)  # type: ignore[arg-type]


def test_full_precision_does_not_differ_from_itself(model: Model) -> None:
    found = measured(model, "f32")
    one = found.layouts[0]
    assert (one.kl, one.kl_p99, one.weight_error, one.output_error) == (0, 0, 0, 0)
    assert one.perplexity == found.perplexity
    assert one.bits_per_weight == 32
    assert found.n_tokens == 5 * 23
    assert found.n_calibration_tokens == 4 * 24


def test_perplexity_divergence_and_entropy_are_those_of_the_textbook(tmp_path: Path) -> None:
    """Both decoders by the textbook; the second with weights that the layout gave back."""
    arrays = decoders.random_arrays(Shape())
    decoders.write_gguf(tmp_path / "m.gguf", Shape(), arrays)
    found = measured(open_model(tmp_path / "m.gguf"), "int4:group32")
    layout = parse("int4:group32")
    changed = {
        name: layout.dequantize(layout.quantize(w), w.shape) if w.ndim == 2 and "embd" not in name else w
        for name, w in arrays.items()
    }
    kl, surprise, surprise_before, entropy = [], [], [], []
    for text in EVALUATION.tolist():
        for n in range(1, len(text)):
            p, q = (
                log_softmax(decoders.expected_logits(Shape(), w, text[:n], neighbours=True)) for w in (arrays, changed)
            )
            kl.append(np.sum(np.exp(p) * (p - q)))
            surprise.append(-q[text[n]])
            surprise_before.append(-p[text[n]])
            entropy.append(-np.sum(np.exp(p) * p))
    one = found.layouts[0]
    assert one.kl == pytest.approx(np.mean(kl), rel=1e-3)
    assert one.kl_p99 == pytest.approx(np.percentile(kl, 99), rel=1e-3)
    assert one.perplexity == pytest.approx(np.exp(np.mean(surprise)), rel=1e-4)
    assert found.perplexity == pytest.approx(np.exp(np.mean(surprise_before)), rel=1e-4)
    assert found.entropy == pytest.approx(np.mean(entropy), rel=1e-4)


def log_softmax(x: np.ndarray) -> np.ndarray:
    return x - x.max() - np.log(np.exp(x - x.max()).sum())


def test_fewer_bits_cost_more(model: Model) -> None:
    eight, four, two = measured(model, "int8:channel", "int4:group32", "int2:group32").layouts
    assert 0 < eight.kl < four.kl < two.kl
    assert eight.weight_error < four.weight_error < two.weight_error
    assert eight.output_error < four.output_error < two.output_error
    assert eight.kl_p99 > eight.kl
    assert four.bits_per_weight == 4.5
    assert four.entropy_bits < four.bits_per_weight


def test_bf16_hardly_changes_the_perplexity(model: Model) -> None:
    found = measure(model, ["bf16"], n_tokens=4096)  # of its own text, where small errors cancel
    assert found.layouts[0].perplexity == pytest.approx(found.perplexity, rel=1e-3)
    assert found.layouts[0].perplexity != found.perplexity


def test_layouts_together_are_as_each_alone(model: Model) -> None:
    together = measured(model, "int8:channel", "int4:group32")
    assert [measured(model, name).layouts[0] for name in ("int8:channel", "int4:group32")] == list(together.layouts)


def test_the_output_error_is_that_of_the_outputs() -> None:
    rng = np.random.default_rng(0)
    x, w = rng.standard_normal((200, 48)).astype(np.float32), rng.standard_normal((32, 48)).astype(np.float32)
    direct = np.square(x.astype(np.float64) @ w.T.astype(np.float64)).sum() / len(x)
    assert output_square(w, x.T @ x / np.float32(len(x))) == pytest.approx(direct, rel=1e-5)


def test_errors_of_every_matrix_are_direct_ones(tmp_path: Path) -> None:
    arrays = decoders.random_arrays(Shape())
    decoders.write_gguf(tmp_path / "m.gguf", Shape(), arrays)
    model, layout = open_model(tmp_path / "m.gguf"), parse("int4:group32")
    inputs = dict(activations(model, CALIBRATION))
    tensors = measured(model, "int4:group32").layouts[0].tensors
    assert [t.tensor for t in tensors] == list(inputs)
    for tensor in tensors:
        w = arrays[tensor.tensor]
        streams = layout.quantize(w)
        off = w - layout.dequantize(streams, w.shape)
        gram = inputs[tensor.tensor].gram
        assert tensor.weight_error == pytest.approx(np.square(off).sum() / np.square(w).sum(), rel=1e-4)
        ratio = np.trace(off @ gram @ off.T) / np.trace(w @ gram @ w.T)
        assert tensor.output_error == pytest.approx(ratio, rel=1e-4)
        bits = symbol_bits(layout.symbols(streams, w.shape)) / w.size
        assert tensor.entropy_bits == pytest.approx(bits)
        assert (tensor.n_weights, tensor.reason) == (w.size, "")


def test_symbol_bits_add_up_over_streams() -> None:
    symbols = {"codes": np.array([0, 1, 2, 3], np.uint8), "scales": np.array([7, 7, 9, 9], np.uint16)}
    assert symbol_bits(symbols) == pytest.approx(4 * 2 + 4 * 1)


def test_rows_that_do_not_divide_stay_and_say_why(tmp_path: Path) -> None:
    model = written(tmp_path, Shape(d_ff=80))
    one = measured(model, "int4:group64").layouts[0]
    kept = [t for t in one.tensors if t.reason]
    assert {t.tensor for t in kept} == {f"blk.{n}.ffn_down.weight" for n in range(2)}
    assert all("multiple of 64" in t.reason for t in kept)
    assert one.n_kept == 2 * 64 * 80
    assert one.n_weights == sum(t.n_weights for t in one.tensors) - one.n_kept
    assert one.bits_per_weight == 4.25


def test_rows_are_filled_up_where_that_is_asked_for(tmp_path: Path) -> None:
    """An INT4 row of 80 in groups of 64 is stored as 128: 4 bits a code and two FP16 scales a row."""
    one = measured(written(tmp_path, Shape(d_ff=80)), "int4:group64", pad_rows=True).layouts[0]
    filled = [t for t in one.tensors if t.padded_to]
    assert {t.tensor for t in filled} == {f"blk.{n}.ffn_down.weight" for n in range(2)}
    assert {(t.padded_to, t.bits_per_weight) for t in filled} == {(128, (128 * 4 + 2 * 16) / 80)}
    assert one.n_kept == 0
    rest = [t for t in one.tensors if not t.padded_to]
    for t in filled:  # zeros change no scale, so the error is of the size of the others'
        assert 0.3 < t.weight_error / np.mean([r.weight_error for r in rest]) < 3
        assert 0.3 < (t.output_error or 0) / t.weight_error < 3


def test_filled_rows_are_calibrated_with_as_many_inputs(tmp_path: Path) -> None:
    log: list[Activations] = []

    class Wide(Picky):
        def quantize(self, w: FloatArray) -> Streams:
            if w.shape[1] % 128:
                raise UsageError(f"rows of {w.shape[1]}")
            return super().quantize(w)

        def calibrated(self, activations: Activations) -> Picky:
            self.log.append(activations)
            return Wide(self.log, activations)

    one = measured(written(tmp_path, Shape(d_ff=80)), Wide(log), pad_rows=True).layouts[0]
    assert one.kl == 0
    assert {t.padded_to for t in one.tensors} == {128}
    assert len(log[-1].peak) == 128
    assert not log[-1].gram[64:].any()


@pytest.mark.parametrize(
    ("is_tied", "parts", "quantized"),
    [
        (False, ("layers", "head"), {"output.weight"}),
        (True, ("layers", "head"), set()),
        (False, ("layers",), set()),
        (False, ("layers", "embedding"), {"token_embd.weight"}),
        (True, ("layers", "embedding"), {"token_embd.weight"}),
    ],
)
def test_parts_are_what_is_quantized(
    is_tied: bool, parts: tuple[str, ...], quantized: set[str], tmp_path: Path
) -> None:
    found = measured(written(tmp_path, Shape(is_tied=is_tied)), "int8:channel", parts=parts)
    outer = {t.tensor: t for t in found.layouts[0].tensors if t.layer is None}
    assert set(outer) == quantized
    assert found.parts == parts
    assert len(found.layouts[0].tensors) == 14 + len(quantized)
    if "token_embd.weight" in outer:
        assert outer["token_embd.weight"].output_error is None


def test_only_the_head_changes_only_the_head(model: Model) -> None:
    head, both = (measured(model, "int4:group32", parts=parts).layouts[0] for parts in (("head",), ("layers", "head")))
    assert [t.tensor for t in head.tensors] == ["output.weight"]
    assert 0 < head.kl < both.kl


@dataclass(frozen=True)
class Picky(Quantizer):
    """float32, once it has seen activations; writes down which."""

    log: list[Activations]
    seen: Activations | None = None

    @property
    def name(self) -> str:
        return "picky"

    @property
    def needs_activations(self) -> bool:
        return True

    def calibrated(self, activations: Activations) -> Picky:
        self.log.append(activations)
        return Picky(self.log, activations)

    def quantize(self, w: FloatArray) -> Streams:
        assert self.seen is not None
        assert self.seen.gram.shape == (w.shape[1], w.shape[1])
        return {"data": w.reshape(-1)}

    def dequantize(self, streams: Streams, shape: tuple[int, int]) -> FloatArray:
        return streams["data"].reshape(shape)

    def bits_per_weight(self, shape: tuple[int, int]) -> float:
        return 32.0


def test_layouts_are_calibrated_on_the_full_precision_model(model: Model) -> None:
    log: list[Activations] = []
    one = measured(model, Picky(log), parts=("layers", "head", "embedding")).layouts[0]
    assert one.kl == 0
    assert [t.tensor for t in one.tensors if t.reason] == ["token_embd.weight"]
    for got, (_, expected) in zip(log, activations(model, CALIBRATION), strict=True):
        np.testing.assert_array_equal(got.gram, expected.gram)


def test_progress_is_told(model: Model) -> None:
    told: list[tuple[int, int]] = []
    measured(model, "f32", on_layer=lambda *done: told.append(done))
    assert told == [(1, 2), (2, 2)]


def test_without_texts_the_model_writes_them(model: Model) -> None:
    found = [measure(model, ["int8:channel"], n_tokens=256, seed=seed) for seed in (0, 0, 1)]
    assert found[0] == found[1] != found[2]
    assert found[0].n_calibration_tokens == 256
    assert found[0].n_tokens == 256 - 2  # two texts of 128, the context
    assert math.isfinite(found[0].layouts[0].kl)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"quantizers": []}, "nothing to measure"),
        ({"parts": ()}, "nothing to measure"),
        ({"parts": ("norms",)}, "nothing to measure"),
        ({"evaluation": np.array([[1, 2, decoders.VOCAB]])}, "vocabulary of 96"),
        ({"evaluation": np.array([[1, -1, 2]])}, "vocabulary of 96"),
        ({"evaluation": np.array([[1]])}, "at least 2 tokens"),
        ({"evaluation": np.array([1, 2, 3])}, "at least 2 tokens"),
        ({"evaluation": np.array([[1.0, 2.0]])}, "float64"),
        ({"calibration": np.ones((2, 129), np.int64)}, "holds 128 tokens"),
    ],
)
def test_bad_questions_are_refused(change: dict[str, object], says: str, model: Model) -> None:
    asked = {"quantizers": ["f32"], "calibration": CALIBRATION, "evaluation": EVALUATION} | change
    with pytest.raises(UsageError, match=says):
        measure(model, **asked)  # type: ignore[arg-type]


def test_an_unknown_layout_is_named(model: Model) -> None:
    with pytest.raises(UnknownNameError, match="int9"):
        measured(model, "int9:tensor")


def test_torch_is_imported_only_to_compute() -> None:
    code = "import sys, simio.quality; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_without_torch_the_extra_is_named(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(MissingPackageError, match="torch") as refused:
        measured(model, "f32")
    assert "simio[torch]" in refused.value.hint
