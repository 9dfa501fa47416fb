"""An index of runs of BigMoeOnEdge (llama.cpp with expert streaming): one row a run, its tokens in a file beside it.

Inputs: ``device, model, file_gb, engine, top_k, cache_mib, cache_auto, io_lanes, threads, overlap, prefetch, spec_gate,
drop_cold, dense_weights, n_tokens, n_prompt, cpu_temp_start_c, mem_available_start_mib``, optionally ``cache_policy``,
and of the file in ``file`` its ``# key=value`` configuration. The rest is measured. Without that file the row alone
counts.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from simio.importers import bigmoe_token_file, table
from simio.importers.bigmoe_settings import INDEX, RUNTIMES, settings
from simio.importers.bigmoe_token_file import TokenFile, hit_percent
from simio.importers.table import Row, UniqueIds
from simio.records.measurement import Measurement
from simio.units import MIB

COLUMNS = ("run_id", "device", "model", "engine", "top_k", "cache_mib", "io_lanes", "threads", "ms_mean")
KINDS = {"mmap": "mmap", "stream": "expert_stream"}
#: Measured column → counter and its factor to SI.
_COUNTERS = {
    "ms_steady_mean": ("steady_token_s", 1e-3), "ms_steady_median": ("steady_median_token_s", 1e-3),
    "ms_steady_p95": ("p95_token_s", 1e-3), "io_ms_mean": ("read_s", 1e-3), "compute_ms_mean": ("compute_s", 1e-3),
    "stall_ms_mean": ("stall_s", 1e-3), "majflt_per_token": ("major_faults_per_token", 1.0),
    "cache_budget_mib": ("cache_budget_bytes", MIB), "token_demand_mib": ("token_demand_bytes", MIB),
    "cpu_temp_max_c": ("max_temperature_c", 1.0), "mem_available_floor_mib": ("least_available_bytes", MIB),
}  # fmt: skip
#: What differs between runs of equal settings; they still repeat each other.
_CONDITIONS = ("available_bytes", "entry_temperature_c")


class BigmoeRuns:
    """The importer."""

    @staticmethod
    def sniff(path: Path) -> bool:
        """Whether the header has the columns that only this format has."""
        return {"run_id", "engine", "cache_mib", "io_lanes", "ms_mean"} <= set(table.header(path))

    @staticmethod
    def read(path: Path) -> list[Measurement]:
        """Every row; raises ``MeasurementFileError`` naming row and column, of the index or of a file it names."""
        ids = UniqueIds()
        return [_measurement(row, ids.check(row, "run_id")) for row in table.rows(path, COLUMNS)]


def _measurement(row: Row, run_id: str) -> Measurement:
    device, model, engine = row.required("device"), row.required("model"), row.required("engine")
    if engine not in RUNTIMES:
        raise row.error("engine", f"'{engine}' is none of {', '.join(RUNTIMES)}")
    tokens = _tokens(row)
    known = _known(row, engine, tokens)
    read_mib, mean_ms = row.number("mib_per_token"), row.positive("ms_mean")
    return Measurement(
        run_id=run_id,
        device=device,
        model=model,
        known=known,
        token_s=tokens.token_s if tokens else (),
        mean_token_s=None if mean_ms is None else mean_ms / 1e3,
        prefill_tokens_per_s=row.positive("prefill_tps"),
        load_s=row.number("load_s"),
        # the engine counts its own reads, not page faults: 0 of a mapped run is no measurement
        bytes_per_token=None if read_mib is None or engine == "mmap" else read_mib * MIB,
        counters=_counters(row),
        per_token=_per_token(tokens, engine) if tokens else {},
        repeat_of=_repeat_of(row, known),
        source=row.text("source") or bigmoe_token_file.PROJECT,
        note=row.text("note"),
        kind=KINDS[engine],
    )


def _tokens(row: Row) -> TokenFile | None:
    """The file of tokens, where the row names one and it lies here."""
    name = row.text("file")
    path = row.path.parent / name
    if not name or "\0" in name or not path.is_file():
        return None
    return bigmoe_token_file.read(path)


def _known(row: Row, engine: str, tokens: TokenFile | None) -> dict[str, Any]:
    row.positive("file_gb")  # an input; the preset's own bytes stand for it
    row.flag("cache_auto")  # an input; cache_mib holds the budget that was chosen
    headers = tokens.headers if tokens else {}
    known = settings(row, INDEX, RUNTIMES[engine], headers.get("cache_policy", ""))
    if tokens and (context := tokens.header_row().count("n_ctx")) is not None:
        known["context_tokens"] = context
    return known


def _counters(row: Row) -> dict[str, float]:
    found = {
        name: factor * value
        for column, (name, factor) in _COUNTERS.items()
        if (value := row.number(column, least=-273.15 if column.endswith("_c") else 0.0)) is not None
    }
    percent = hit_percent(row, "hit_pct_final")
    return found if percent is None else found | {"hit_ratio": percent / 100}


def _per_token(tokens: TokenFile, engine: str) -> dict[str, tuple[float, ...]]:
    found = {"read_bytes": () if engine == "mmap" else tokens.read_bytes, "hit_ratio": tokens.hit_ratios}
    return {name: values for name, values in found.items() if values}


def _repeat_of(row: Row, known: dict[str, Any]) -> str:
    inputs = [row.text("device"), row.text("model"), row.text("file_gb")]
    return "|".join([*inputs, *(f"{k}={v}" for k, v in sorted(known.items()) if k not in _CONDITIONS)])
