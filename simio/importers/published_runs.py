"""A table of published runs: one row a run, inputs and measurements side by side.

Inputs: ``id, kind, device, soc, ram_gb, storage, model, quant, file_gb, engine, threads, backend, context,
ram_budget_gb``, where there is one also ``storage_read_MBps``. Measured: ``prefill_tps, decode_tps, ms_per_token,
load_s``. ``note`` is free text of both; only the settings in it are read (``published_settings``).
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from simio.importers import table
from simio.importers.published_settings import Unsupported, settings
from simio.importers.table import Row, UniqueIds
from simio.records.measurement import Measurement

KINDS = ("in_ram", "flash_bound", "load_time")
COLUMNS = (
    "id", "kind", "device", "model", "quant", "engine", "threads", "backend", "context", "ram_budget_gb",
    "decode_tps", "ms_per_token",
)  # fmt: skip
_INPUTS = (
    "kind", "device", "soc", "ram_gb", "storage", "model", "quant", "file_gb", "engine", "threads", "backend",
    "context", "ram_budget_gb",
)  # fmt: skip


_PHONE_ENGINES = ("ExecuTorch", "LiteRT", "MNN")
_THROUGHOUT = {"int4": "int4_all", "4bit": "int4_all", "int8": "int8_all", "8bit": "int8_all", "q8": "int8_all"}


class PublishedRuns:
    """The importer."""

    @staticmethod
    def sniff(path: Path) -> bool:
        """Whether the header has the columns that only this format has."""
        return {"id", "kind", "engine", "backend", "decode_tps"} <= set(table.header(path))

    @staticmethod
    def read(path: Path) -> list[Measurement]:
        """Every row; raises ``MeasurementFileError`` naming row and column."""
        ids = UniqueIds()
        return [_measurement(row, ids.check(row, "id")) for row in table.rows(path, COLUMNS)]


def _measurement(row: Row, run_id: str) -> Measurement:
    kind = row.required("kind")
    if kind not in KINDS:
        raise row.error("kind", f"'{kind}' is none of {', '.join(KINDS)}")
    known: dict[str, Any] = {}
    model, unsupported = row.required("model"), ""
    try:
        known = settings(row)
        model = f"{model}:{quant(row.text('quant'), row.text('engine'))}"
    except Unsupported as reason:
        unsupported = str(reason)
    ms, rate = row.positive("ms_per_token"), row.positive("decode_tps")
    return Measurement(
        run_id=run_id,
        device=row.required("device"),
        model=model,
        known=known,
        mean_token_s=ms / 1e3 if ms else 1 / rate if rate else None,
        prefill_tokens_per_s=row.positive("prefill_tps"),
        load_s=row.number("load_s"),
        repeat_of="|".join([*(row.text(c) for c in _INPUTS), *(f"{k}={v}" for k, v in sorted(known.items()))]),
        unsupported=unsupported,
        source=row.text("source_url"),
        note=row.text("note"),
        kind=kind,
    )


def quant(text: str, engine: str) -> str:
    """The quantization a table means; raises ``Unsupported`` where simio has no such weight layout.

    ``W2 (Q2_K in llama.cpp)`` is w2, ``W4 / Q4_0`` is Q4_0, any grouped ``4-bit`` layout int4. llama.cpp's ``INT4`` is
    Q4_0 and LiteRT's ``q8`` int8 throughout, because that is what those engines store.
    """
    if not text:
        raise Unsupported("the quantization is not stated")
    if text.startswith("3-bit residual VQ experts"):
        return "vq3"
    if re.search(r"gs ?64", text) or (re.match(r"4[- ]?bit", text) and engine.lower().startswith("mlx")):
        return "int4_g64"
    if re.search(r"\bVQ|\dbpw|compute|tiered|default of", text):
        raise Unsupported(f"quantization '{text}' is not a weight layout simio knows")
    if text == "INT4" and "llama.cpp" in engine:
        return "q4_0"
    return _for_phones(text) if engine.startswith(_PHONE_ENGINES) else _plain(text)


def _for_phones(text: str) -> str:
    """Engines for phones quantize embeddings and head as the rest; Meta's own Llama 3.2 keeps 8 bits for them."""
    if re.search(r"SpinQuant|QAT\+LoRA", text):
        return "int4_head8"
    plain = _plain(text).replace("-", "")
    return _THROUGHOUT.get(plain, plain)


def _plain(text: str) -> str:
    if "4-bit" in text or "litertlm int4" in text:
        return "int4"
    return re.sub(r"\(.*?\)", "", text).split("/")[-1].strip().lower()
