"""The size of a GGUF file beside its tensors: header, tensor table, vocabulary.

The vocabulary dominates: GGUF stores every token as a string with its length, score or type, and every merge of a
byte-pair tokenizer as a string (``docs/gguf.md`` of ggml).
"""

from __future__ import annotations

from collections.abc import Sequence

from simio.models.attention import Spec

#: Bytes of metadata per vocabulary entry, from published files: Llama-2-7B Q4_0 (32,000 tokens, scores, no merges),
#: Qwen2.5-1.5B Q4_K_M (151,936 tokens, one merge each), Llama-3.1-8B Q4_K_M (128,256 tokens, 2.2 merges each).
BYTES_PER_TOKEN = {"spm": 23, "bpe": 39, "bpe-many-merges": 61}

#: An entry of the tensor table: name with its length, dimensions, type and offset.
_TENSOR_ENTRY_BYTES = 8 + 4 + 4 + 8
#: Keys and a chat template.
_KEYS_BYTES = 8192
_ALIGNMENT = 32
#: A safetensors header has no vocabulary: one JSON entry a tensor.
_JSON_ENTRY_BYTES = 110


def gguf_bytes(specs: Sequence[Spec], sizes: Sequence[int], tokenizer: str, vocab_size: int) -> int:
    """Size of the file: every tensor padded to 32 bytes, plus the estimated metadata. [bytes]"""
    table = sum(len(name) + _TENSOR_ENTRY_BYTES + 8 * len(shape) for name, shape in specs)
    header = _pad(_KEYS_BYTES + table + BYTES_PER_TOKEN[tokenizer] * vocab_size)
    return header + sum(_pad(size) for size in sizes)


def safetensors_bytes(sizes: Sequence[int]) -> int:
    """Size of the weights file: the tensors and their JSON header. [bytes]"""
    return _JSON_ENTRY_BYTES * len(sizes) + sum(sizes)


def _pad(n_bytes: int) -> int:
    return -(-n_bytes // _ALIGNMENT) * _ALIGNMENT
