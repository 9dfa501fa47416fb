"""Layouts that cannot do without what their matrix multiplies."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Self

from simio.errors import UsageError
from simio.quant.contract import Activations, Quantizer


@dataclass(frozen=True, slots=True)
class Calibrated(Quantizer):
    """A layout that needs activations, and all rows: scales depend on them, or sums over runs would round otherwise."""

    activations: Activations | None = field(default=None, kw_only=True, compare=False, repr=False)

    @property
    def rows_apart(self) -> bool:
        """No."""
        return False

    @property
    def needs_activations(self) -> bool:
        """Yes."""
        return True

    def calibrated(self, activations: Activations) -> Self:
        """For a matrix with these inputs."""
        return replace(self, activations=activations)

    def inputs(self, n_in: int) -> Activations:
        """The inputs. Raises ``UsageError`` before :meth:`calibrated`, and where they are not ``n_in`` wide."""
        if self.activations is None:
            raise UsageError(
                f"{self.name} needs the inputs of a calibration text", "calibrate it, or use the inner layout"
            )
        if len(self.activations.peak) != n_in:
            raise UsageError(
                f"{self.name}: inputs of {len(self.activations.peak)} channels meet weights of {n_in}",
                "calibrate with the inputs of this matrix",
            )
        return self.activations
