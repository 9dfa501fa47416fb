"""The nearest flags of llama.cpp for a configuration: its programs map or load weights, they do not stream them.

Names as in llama.cpp's tools/cli/README.md (``llama-cli --help``) and tools/quantize/README.md.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator

from simio.records.model import Model
from simio.records.optimum import Configuration

#: Bytes per KV value → type of the KV cache.
_KV_TYPES = {4.0: "f32", 2.0: "f16", 1.0625: "q8_0", 0.5625: "q4_0"}


def runtime_flags(found: Configuration, model: Model) -> tuple[str, ...]:
    """Command lines and what they cannot say, a line each."""
    return tuple(_lines(found, model))


def _lines(found: Configuration, model: Model) -> Iterator[str]:
    s = found.scenario
    words = ["llama-cli", "--no-mmap" if found.runtime == "resident" else "--mmap"]
    words += ["--threads", str(s.n_threads)] if s.n_threads else []
    words += ["--ctx-size", str(s.context_tokens or s.prompt_tokens + s.n_tokens), "--ubatch-size", str(s.batch_tokens)]
    kind = _KV_TYPES.get(s.kv_bytes_per_value)
    words += ["--cache-type-k", kind, "--cache-type-v", kind] if kind else []
    if s.top_k:
        words += ["--override-kv", f"{model.architecture.family}.expert_used_count=int:{s.top_k}"]
    yield shlex.join(words)
    quantized = list(_quantized(found, model))
    if quantized:
        yield shlex.join(["llama-quantize", *(w for pair in quantized for w in ("--tensor-type", pair))])
    if found.runtime == "stream":
        yield "llama.cpp has no explicit reads, pins or codecs: --mmap leaves all of them to the page cache"


def _quantized(found: Configuration, model: Model) -> Iterator[str]:
    """``tensor=type`` where a plan changes a tensor's type to one that llama.cpp has."""
    stored = {tensor.name: tensor.dtype.lower() for tensor in model.tensors}
    for one in found.plan.plan if found.plan else ():
        if one.quant != stored.get(one.tensor) and one.quant in _GGML_TYPES:
            yield f"{one.tensor.removesuffix('.weight')}={one.quant}"


_GGML_TYPES = (
    "f32",
    "f16",
    "bf16",
    "q8_0",
    "q6_k",
    "q5_k",
    "q5_0",
    "q5_1",
    "q4_k",
    "q4_0",
    "q4_1",
    "q3_k",
    "q2_k",
    "iq4_nl",
    "iq4_xs",
    "tq1_0",
    "tq2_0",
    "mxfp4",
)
