"""What a study says of one layout: a row for every codec, from what was found of every matrix."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from simio.codecs.base import Codec
from simio.quant.contract import Quantizer
from simio.records.compressibility import (
    CompressibilityRow,
    Decompression,
    KeptTensor,
    Sizes,
    StreamSize,
    TensorCompressibility,
)
from simio.records.device import Device
from simio.records.quality import LayoutQuality
from simio.study.break_even import break_even
from simio.study.quantizing import Surveyed
from simio.study.tally import Outcome


@dataclass(frozen=True, slots=True)
class Layout:
    """What was found about one layout: ``outcomes`` by place among the matrices ``found``."""

    quantizer: Quantizer
    found: Sequence[Surveyed]
    outcomes: Mapping[int, Outcome | str]
    kept: Sequence[KeptTensor]
    quality: LayoutQuality | None

    def row(self, codec: Codec, decompression: Decompression | None, devices: Sequence[Device]) -> CompressibilityRow:
        """The row of this layout under ``codec``."""
        tensors = tuple(self._tensors(codec))
        whole = self.quality if self.quality and not self.quality.n_kept else None  # of a part it would be too good
        return CompressibilityRow(
            quant=self.quantizer.name,
            codec=codec.name,
            tensors=tensors,
            kept=self.all_kept(),
            decompression=decompression,
            break_even=tuple(break_even(device, Sizes.of(tensors), decompression) for device in devices),
            kl=whole.kl if whole else None,
            perplexity=whole.perplexity if whole else None,
        )

    def all_kept(self) -> tuple[KeptTensor, ...]:
        """What is no matrix, and the matrices that the layout refuses."""
        refused = [kept_tensor(self.found[i], why) for i, why in sorted(self.outcomes.items()) if isinstance(why, str)]
        return (*self.kept, *refused)

    def _tensors(self, codec: Codec) -> Iterator[TensorCompressibility]:
        errors = {t.tensor: t for t in self.quality.tensors} if self.quality else {}
        for place, surveyed in enumerate(self.found):
            outcome, tensor = self.outcomes[place], surveyed.matrix.tensor
            if isinstance(outcome, str):
                continue
            facts, error = outcome.facts[codec.name], errors.get(tensor.name)
            yield TensorCompressibility(
                tensor=tensor.name,
                role=tensor.role,
                layer=tensor.layer,
                n_weights=surveyed.matrix.n_weights,
                streams=tuple(StreamSize(key, n, facts[key].stored) for key, n in outcome.raw.items()),
                entropy_bits=outcome.entropy_bits,
                bound_bytes=sum(f.bound for f in facts.values()),
                compressed_bytes=sum(f.compressed for f in facts.values()),
                weight_error=outcome.weight_error,
                output_error=error.output_error if error else None,
            )


def kept_tensor(surveyed: Surveyed, reason: str) -> KeptTensor:
    """A matrix that is left as it is, and why."""
    tensor = surveyed.matrix.tensor
    return KeptTensor(tensor.name, tensor.role, tensor.n_weights, reason)
