"""What can be chosen for each tensor of a model as it is quantized: the codecs, by their profiles."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from simio.optimize.trying import Trials
from simio.predict.resolve import relative_rate
from simio.records.codec_profile import CodecProfile, TensorCompression
from simio.records.model import Tensor
from simio.records.scenario import Scenario
from simio.study.choices import ChoiceTable, Option, TensorChoice, as_stored, multiplied

#: Quality is not at stake where weights stay as they are.
MEASURE = "weight_error"


def table_of_codecs(base: Scenario, codecs: Sequence[str], trials: Trials) -> ChoiceTable:
    """Every tensor as it is stored, raw or under one of ``codecs``."""
    profiles = [trials.profile(replace(base, codec=codec))[0] for codec in codecs if codec != "raw"]
    model = trials.profile(replace(base, codec="raw"))[0].model
    sizes = [({t.tensor: t for t in profile.tensors}, profile) for profile in profiles]
    choices = tuple(
        TensorChoice(
            tensor,
            as_stored(tensor),
            tuple(_option(tensor, profile, of[tensor.name]) for of, profile in sizes if tensor.name in of),
        )
        for tensor in multiplied(model)
    )
    return ChoiceTable(model, choices, MEASURE)


def _option(tensor: Tensor, profile: CodecProfile, sizes: TensorCompression) -> Option:
    raw, stored = sizes.raw_bytes, sizes.stored_bytes
    shrank = sum(r for r, s in zip(raw, stored, strict=True) if s < r)
    return Option(
        quant=tensor.dtype.lower(),
        codec=profile.codec,
        dtype=tensor.dtype,
        raw_bytes=sum(raw),
        stored_bytes=sum(stored),
        compressed_share=shrank / max(1, sum(raw)),
        relative_rate=relative_rate(profile),
        cost=0.0,
    )
