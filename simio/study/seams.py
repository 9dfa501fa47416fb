"""What a study takes from elsewhere: what matrices multiply, and what layouts cost in quality. Neither is needed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from simio.quant.contract import Activations, Quantizer


class Calibration(Protocol):
    """Activations by tensor, for the layouts that need them."""

    @property
    def digest(self) -> str:
        """Identifies the text they come from."""

    def activations(self, tensor: str) -> Activations | None:
        """What the matrix ``tensor`` multiplies; None where it is not known."""


class TensorQuality(Protocol):
    """One matrix under a layout: ``weight_error`` is ``‖W − Wq‖² / ‖W‖²``, ``output_error`` the same of ``XWᵀ``."""

    @property
    def tensor(self) -> str:
        """Its name."""

    @property
    def weight_error(self) -> float:
        """Relative square error of the weights."""

    @property
    def output_error(self) -> float | None:
        """Relative square error of the output; None for a table whose rows are looked up."""


class LayoutQuality(Protocol):
    """A decoder under a layout against its full-precision self; ``kl`` in nats per token."""

    @property
    def kl(self) -> float:
        """Mean KL(full ‖ quantized) of the next token's distribution."""

    @property
    def perplexity(self) -> float:
        """Over the evaluation tokens."""

    @property
    def tensors(self) -> Sequence[TensorQuality]:
        """Every matrix."""


#: The quality of each of these layouts, by ``Quantizer.name``; a layout that was not measured is left out.
QualityOf = Callable[[Sequence[Quantizer]], Mapping[str, LayoutQuality]]
