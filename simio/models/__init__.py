"""Presets: published architectures as models without a file, so that a question needs no download.

``preset("llama-3.2-3b:q4_k_m")`` computes every tensor of that file: names, shapes, types and bytes. A name is a
preset (``preset_names``), optionally ``:`` and a quantization (``quant_names``); spellings are forgiven
(``resolve_name``).
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import xxhash

from simio.errors import UnknownNameError
from simio.formats.names import classify
from simio.models.attention import Spec
from simio.models.facts import Facts, load
from simio.models.grouped import GROUPED_TYPES, grouped_bytes, grouped_types
from simio.models.kv import kv_layers
from simio.models.metadata import gguf_bytes, safetensors_bytes
from simio.models.names import find, preset_names, preset_path, quant_names, split_name
from simio.models.shapes import tensor_specs
from simio.models.type_mix import mix_types
from simio.records.model import Architecture, Model, Tensor
from simio.records.weight_types import weight_type

__all__ = ["facts", "preset", "preset_names", "quant_names", "resolve_name"]


def preset(name: str) -> Model:
    """The model called ``name``, such as ``llama-3.2-3b:q4_k_m``; without a quantization the preset's default one.

    The default is ``q4_k_m``, as Ollama and most downloads have it, and ``mxfp4`` for models published in it.
    Raises ``UnknownNameError`` with the close matches.
    """
    preset_id, quant = resolve_name(name)
    known = load(preset_path(preset_id))
    return build(known, quant or known.default_quant)


def resolve_name(text: str) -> tuple[str, str | None]:
    """The preset and the quantization that ``text`` means, ``None`` where it names no quantization.

    >>> resolve_name("qwen3:30b-a3b"), resolve_name("Llama 3.2 3B:Q4_K_M")
    (('qwen3-30b-a3b', None), ('llama-3.2-3b', 'q4_k_m'))

    Raises ``UnknownNameError`` for a preset or a quantization simio does not know.
    """
    name, quant, suspect = split_name(text)
    preset_id = find(name)
    if preset_id is None:
        raise UnknownNameError("model", name, preset_names())
    if suspect:
        raise UnknownNameError("quantization", suspect, quant_names())
    return preset_id, quant


def facts(preset_id: str) -> Facts:
    """The facts of the preset with that exact id."""
    if preset_id not in preset_names():
        raise UnknownNameError("model", preset_id, preset_names())
    return load(preset_path(preset_id))


def build(known: Facts, quant: str) -> Model:
    """The model of ``known`` quantized as ``quant``, a name of ``quant_names()``."""
    specs = tensor_specs(known)
    types = grouped_types(specs, quant) if quant in GROUPED_TYPES else mix_types(specs, known, quant)
    tensors = tuple(_tensor(spec, dtype) for spec, dtype in zip(specs, types, strict=True))
    sizes = [tensor.n_bytes for tensor in tensors]
    if quant in GROUPED_TYPES:
        n_bytes = safetensors_bytes(sizes)
    else:
        n_bytes = gguf_bytes(specs, sizes, known.tokenizer, known.vocab_size)
    return Model(
        name=f"{known.id}:{quant}",
        source="preset",
        format="preset",
        digest=_digest(specs, types),
        n_bytes=n_bytes,
        architecture=architecture(known),
        tensors=tensors,
        notes=_notes(known, quant),
    )


def architecture(known: Facts) -> Architecture:
    """What time and memory depend on, from the facts of a preset."""
    return Architecture(
        family=known.family,
        n_layers=known.n_layers,
        d_model=known.d_model,
        n_heads=known.n_heads,
        n_kv_heads=known.n_kv_heads,
        head_dim=known.head_dim,
        d_ff=known.d_ff or (known.experts.d_ff if known.experts else 0),
        vocab_size=known.vocab_size,
        n_experts=known.experts.count if known.experts else 0,
        n_experts_used=known.experts.used if known.experts else 0,
        context_length=known.context_length,
        tied_embeddings=known.tied_embeddings,
        kv_layers=kv_layers(known),
    )


def _tensor(spec: Spec, dtype: str) -> Tensor:
    name, shape = spec
    says = classify(name)
    n_weights = prod(shape)
    stacked = shape[0] if "_exps." in name and len(shape) > 1 else 1
    n_bytes = _n_bytes(shape, n_weights, dtype)
    return Tensor(name, shape, dtype, says.role, says.layer, says.expert, stacked, n_weights, n_bytes)


def _n_bytes(shape: tuple[int, ...], n_weights: int, dtype: str) -> int:
    if dtype in GROUPED_TYPES.values() or dtype == "VQ3":
        return grouped_bytes(shape, dtype)
    packing = weight_type(dtype)
    return n_weights // packing.block_weights * packing.block_bytes


def _digest(specs: Sequence[Spec], types: Sequence[str]) -> str:
    """xxh3-128 of the tensor list."""
    lines = (f"{name} {shape} {dtype}\n" for (name, shape), dtype in zip(specs, types, strict=True))
    return xxhash.xxh3_128_hexdigest("".join(lines).encode())


def _notes(known: Facts, quant: str) -> tuple[str, ...]:
    notes = []
    if known.confidence == "reconstructed":
        notes.append(f"{known.id} is reconstructed: {known.note}")
    elif known.note:
        notes.append(known.note)
    if quant == "mxfp4" and known.experts is None:
        notes.append("mxfp4 applies to experts only; this model has none, so its matrices are q8_0")
    return tuple(notes)
