"""What a weight layout costs in quality: per tensor, and of the whole decoder against its full-precision self."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class TensorQuality:
    """One matrix under one layout.

    ``weight_error`` is ``‖W − Wq‖² / ‖W‖²``; ``output_error`` is ``‖X(W − Wq)ᵀ‖² / ‖XWᵀ‖²`` over the calibration tokens
    ``X``, nothing for a table whose rows are looked up. ``bits_per_weight`` are stored, ``entropy_bits`` those of an
    order-0 entropy coder over the symbols of all streams. A matrix that stayed as it was says why in ``reason``; its
    numbers are 0. ``padded_to``: zeros filled its rows up to this many weights, which the bits count, too.
    """

    tensor: str
    role: str  # one of simio.records.model.ROLES
    layer: int | None
    n_weights: int
    bits_per_weight: float = 0.0
    entropy_bits: float = 0.0
    weight_error: float = 0.0
    output_error: float | None = None
    padded_to: int = 0  # 0: the rows are as they were
    reason: str = ""


@dataclass(frozen=True, slots=True)
class LayoutQuality:
    """A decoder under one layout, over the evaluation tokens.

    ``kl`` is the mean and ``kl_p99`` the 99th percentile of the divergence ``KL(full ‖ quantized)`` of the next token's
    distribution [nats per token]. Bits and errors are means over the weights that were quantized (``n_weights``);
    ``n_kept`` more are in matrices that stayed as they were (``TensorQuality.reason``).
    """

    quantizer: str
    n_weights: int
    n_kept: int
    bits_per_weight: float
    entropy_bits: float
    weight_error: float
    output_error: float
    kl: float
    kl_p99: float
    perplexity: float
    tensors: tuple[TensorQuality, ...]


@dataclass(frozen=True, slots=True)
class Quality:
    """Layouts of one decoder, measured together.

    ``perplexity`` and ``entropy`` [nats per token] are those of full precision over the ``n_tokens`` tokens predicted.
    """

    model: str
    digest: str
    parts: tuple[str, ...]  # what was quantized: "layers", "head", "embedding"
    n_calibration_tokens: int
    n_tokens: int
    perplexity: float
    entropy: float
    layouts: tuple[LayoutQuality, ...]
