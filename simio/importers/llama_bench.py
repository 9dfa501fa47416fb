"""llama-bench's own output: ``-o json`` (one array) or ``-o jsonl`` (one object a line), as llama.cpp writes it.

A test of generation (``n_gen`` without ``n_prompt``) is a decode measurement: ``avg_ns / n_gen`` a token. A test of
prompt processing gives prefill only. Fields: tools/llama-bench/llama-bench.cpp of llama.cpp.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from simio.errors import MeasurementFileError
from simio.records.measurement import Measurement

#: Bytes per value of the KV cache types llama-bench offers.
_KV_BYTES = {
    "f32": 4.0, "f16": 2.0, "bf16": 2.0, "q8_0": 34 / 32, "q5_1": 24 / 32, "q5_0": 22 / 32, "q4_1": 20 / 32,
    "q4_0": 18 / 32, "iq4_nl": 18 / 32,
}  # fmt: skip
_ON_CPU = {"CPU", "BLAS", "RPC", "Accelerate", ""}


@dataclass(frozen=True, slots=True)
class Entry:
    """One test of one file, and where it stands."""

    path: Path
    number: int
    fields: dict[str, Any]

    def number_of(self, key: str, least: float = 0.0) -> float:
        """A finite number of at least ``least``; raises ``MeasurementFileError``."""
        value = self.fields.get(key)
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            self._fail(key, "is missing" if value is None else f"{value!r} is not a number")
        if not math.isfinite(value) or value < least:
            self._fail(key, f"{value} is not a finite number of at least {least:g}")
        return value

    def count_of(self, key: str, default: int | None = None, least: int = 0) -> int:
        """A whole number of at least ``least``; ``default`` where older versions lack the key."""
        if default is not None and key not in self.fields:
            return default
        value = self.number_of(key, least)
        if value != int(value):
            self._fail(key, f"{value} is not a whole number")
        return int(value)

    def text_of(self, key: str) -> str:
        """Text, empty where it is missing."""
        value = self.fields.get(key, "")
        return value if isinstance(value, str) else self._fail(key, f"{value!r} is not text")

    def _fail(self, key: str, what: str) -> NoReturn:
        raise MeasurementFileError(
            f"{self.path}: row {self.number}, column {key}: {what}", "run llama-bench with -o json again"
        )


class LlamaBench:
    """The importer."""

    @staticmethod
    def sniff(path: Path) -> bool:
        """Whether the file starts as JSON with llama-bench's keys."""
        if not path.is_file():
            return False
        with path.open("rb") as file:
            start = file.read(65536).lstrip()
        return start[:1] in (b"[", b"{") and (b'"build_commit"' in start or b'"n_gen"' in start)

    @staticmethod
    def read(path: Path) -> list[Measurement]:
        """Every test; raises ``MeasurementFileError`` with the line of broken JSON, or entry and key."""
        return [_measurement(entry) for entry in entries(path)]


def entries(path: Path) -> list[Entry]:
    """Every test of the file as llama-bench wrote it; raises ``MeasurementFileError`` at broken JSON."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise MeasurementFileError(f"{path}: byte {error.start} is not UTF-8", "save the file as UTF-8") from None
    if text.lstrip().startswith("["):
        found = list(enumerate(_parse(path, text, 1), start=1))
    else:
        found = [(n, _parse(path, line, n)) for n, line in enumerate(text.splitlines(), start=1) if line.strip()]
    for number, fields in found:
        if not isinstance(fields, dict):
            raise MeasurementFileError(f"{path}: row {number} is no object", "expected llama-bench -o json or jsonl")
    return [Entry(path, number, fields) for number, fields in found]


def _parse(path: Path, text: str, line: int) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise MeasurementFileError(
            f"{path}: row {line + error.lineno - 1}, column {error.colno}: not JSON: {error.msg}",
            "was the benchmark interrupted? run llama-bench with -o json again",
        ) from None


def _measurement(entry: Entry) -> Measurement:
    n_prompt, n_gen = entry.count_of("n_prompt"), entry.count_of("n_gen")
    seconds = entry.number_of("avg_ns", 1) / 1e9
    decodes = n_gen > 0 and n_prompt == 0
    known = _known(entry, n_gen)
    model = entry.text_of("model_filename") or entry.text_of("model_type")
    device = entry.text_of("cpu_info").strip()
    inputs = (device, model, entry.text_of("type_k"), n_prompt, n_gen, sorted(known.items()))
    return Measurement(
        run_id=f"{entry.path.stem}#{entry.number}",
        device=device,
        model=model,
        known=known,
        mean_token_s=seconds / n_gen if decodes else None,
        prefill_tokens_per_s=n_prompt / seconds if n_prompt and not n_gen else None,
        counters={"stddev_token_s": entry.number_of("stddev_ns") / 1e9 / n_gen} if decodes else {},
        repeat_of=repr(inputs),
        unsupported=_unsupported(entry, n_prompt, n_gen),
        source=f"llama-bench {entry.text_of('build_commit')} {entry.text_of('test_time')}".strip(),
        kind="llama_bench",
    )


def _known(entry: Entry, n_gen: int) -> dict[str, Any]:
    """Scenario fields. Without mmap everything is loaded; with it, it depends on RAM (runtime auto)."""
    known: dict[str, Any] = {
        "n_threads": entry.count_of("n_threads", least=1),
        "prompt_tokens": max(1, entry.count_of("n_depth", 0)),
        "batch_tokens": max(1, entry.count_of("n_ubatch", 512)),
    }
    if n_gen:
        known["n_tokens"] = max(2, n_gen)
    if entry.fields.get("use_mmap") is False:
        known["runtime"] = "resident"
    values = [_KV_BYTES[t] for key in ("type_k", "type_v") if (t := entry.text_of(key)) in _KV_BYTES]
    if values:
        known["kv_bytes_per_value"] = sum(values) / len(values)
    return known


def _unsupported(entry: Entry, n_prompt: int, n_gen: int) -> str:
    others = [b for b in entry.text_of("backends").replace(" ", "").split(",") if b not in _ON_CPU]
    if others and entry.fields.get("n_gpu_layers") != 0:
        return f"ran on {', '.join(others)}; simio models CPUs"
    if n_prompt and n_gen:
        return "prompt and generation were timed together (-pg)"
    for key in ("type_k", "type_v"):
        if (kind := entry.text_of(key)) and kind not in _KV_BYTES:
            return f"KV cache type {kind} is not known"
    return ""
