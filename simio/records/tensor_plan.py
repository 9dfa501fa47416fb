"""What was chosen for one tensor: its layout, its codec and where it lies while tokens are generated."""

from __future__ import annotations

from dataclasses import dataclass

#: In RAM as it is multiplied; in RAM compressed, decompressed at every use; read from flash at every use.
RESIDENCIES = ("ram", "ram-compressed", "flash")


@dataclass(frozen=True, slots=True)
class TensorPlan:
    """``quant`` as :func:`simio.quant.parse` reads it (or the stored type, in lower case), ``codec`` as
    :func:`simio.codecs.parse` does, ``residency`` one of ``RESIDENCIES``."""

    tensor: str
    quant: str
    codec: str
    residency: str

    def __post_init__(self) -> None:
        """Raises ``ValueError`` for a residency that there is not."""
        if self.residency not in RESIDENCIES:
            raise ValueError(f"{self.tensor}: residency {self.residency!r} is none of {', '.join(RESIDENCIES)}")
