"""The tensors of a decoder as float32, read when they are asked for: a layer at a time, by what they are used for."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import numpy.typing as npt

from simio.errors import ModelFileError, UsageError
from simio.formats.execution_order import use_of
from simio.quality.blueprint import Blueprint
from simio.quant.contract import FloatArray
from simio.records.model import Model, Tensor
from simio.runtime.in_ram import StreamReader, dequantized_rows, read_scales, read_small
from simio.runtime.matrices import matrix_of

#: The matrices of a layer, in the order of their use, and which input each multiplies.
INPUT_OF = {
    "attn_q": "attn_normed", "attn_k": "attn_normed", "attn_v": "attn_normed", "attn_qkv": "attn_normed",
    "attn_output": "attn_mixed", "ffn_gate": "ffn_normed", "ffn_up": "ffn_normed", "ffn_down": "ffn_hidden",
    "output": "final_normed",
}  # fmt: skip
#: What there is outside of the layers.
OUTER = ("token_embd", "position_embd", "output_norm", "output")
#: Uses that make up a decoder, beside the matrices above.
_NORMS = ("attn_norm", "attn_q_norm", "attn_k_norm", "attn_sub_norm", "ffn_norm", "ffn_sub_norm", "output_norm")
_KNOWN = {"rope_freqs", *OUTER, *INPUT_OF, *_NORMS}


class DecoderWeights:
    """The weights of ``model`` by use (``attn_q``, ``attn_q.bias``); matrices come as ``(n_out, n_in)``.

    Raises ``UsageError`` for a tensor that has no place in a decoder of the ``blueprint``.
    """

    def __init__(self, model: Model, blueprint: Blueprint, reader: StreamReader) -> None:
        self._name = model.name
        self._blueprint = blueprint
        self._reader = reader
        self._layers: dict[int | None, dict[str, Tensor]] = defaultdict(dict)
        for tensor in model.tensors:
            use = use_of(tensor)
            if tensor.role != "other" and use.partition(".bias")[0] not in _KNOWN:
                raise UsageError(
                    f"{model.name}: '{tensor.name}' has no place in a decoder that can be computed",
                    "measure another model of a family such as Llama, Qwen or GPT-2",
                )
            self._layers[tensor.layer][use] = tensor

    @property
    def is_tied(self) -> bool:
        """Whether the token table is the head, too."""
        return "output" not in self._layers[None]

    def tensor(self, use: str, layer: int | None) -> Tensor:
        """The tensor with this use; raises ``ModelFileError`` where there is none."""
        found = self._layers[layer].get(use)
        if found is None:
            where = "" if layer is None else f" of layer {layer}"
            raise ModelFileError(f"{self._name}: has no {use}{where}", "is the file complete?")
        return found

    def layer(self, number: int) -> dict[str, FloatArray]:
        """All of a layer."""
        held = self._layers.get(number)
        if not held:
            raise ModelFileError(f"{self._name}: has no layer {number}", "is the file complete?")
        return {use: self._read(tensor) for use, tensor in held.items() if tensor.role != "other"}

    def multiplied(self, layer: int | None) -> dict[str, str]:
        """The matrices of ``layer`` that multiply something: use and name, in the order of use; of None the head."""
        held = self._layers[layer]
        found = {use: held[use].name for use in INPUT_OF if use in held}
        if layer is None and not found:
            return {"output": self.tensor("token_embd", None).name}
        return found

    def outer(self, *uses: str) -> dict[str, FloatArray]:
        """Of ``uses`` (their biases included) what there is outside of the layers; of ``OUTER``, unless named."""
        held, uses = self._layers[None], uses or OUTER
        wanted = [name for use in uses for name in (use, f"{use}.bias") if name in held]
        return {name: self._read(held[name]) for name in wanted}

    def table_rows(self, ids: npt.NDArray[np.int64]) -> FloatArray:
        """Rows ``ids`` of the token table, each read by itself."""
        matrix = matrix_of(self.tensor("token_embd", None))
        codes, size = matrix.codes, matrix.row_bytes
        if codes is None:
            raise ModelFileError(f"'{matrix.name}' has no bytes: a preset cannot be run", "give a model file")
        rows = b"".join(self._reader.read(codes, int(row) * size, size) for row in ids)
        return dequantized_rows(matrix, rows, ids, read_scales(matrix, self._reader))

    def _read(self, tensor: Tensor) -> FloatArray:
        values = read_small(tensor, self._reader)
        is_turned = self._blueprint.is_transposed and len(tensor.shape) == 2 and tensor.role in ("attention", "mlp")
        return np.ascontiguousarray(values.T if is_turned else values)
