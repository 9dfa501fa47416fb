"""What ``simio study compressibility`` wrote, JSON or Parquet, as records: one a tensor, quantizer and codec."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from simio.errors import MissingPackageError, UsageError

_HINT = "make it with: simio study compressibility MODEL --json > study.json"


@dataclass(frozen=True, slots=True)
class Record:
    """One tensor under one quantizer and codec.

    ``raw_bytes`` of all its streams become ``stored_bytes``; ``compressed_share`` of them lies in chunks that shrank.
    ``relative_rate`` is their decompression rate ÷ that of the codec on the reference buffer, same machine. Errors are
    ``‖W − Wq‖² / ‖W‖²`` and ``‖X(W − Wq)ᵀ‖² / ‖XWᵀ‖²``, ``kl`` what this tensor adds [nats/token]; None: not measured.
    """

    tensor: str
    role: str
    quant: str
    codec: str
    n_weights: int
    raw_bytes: int
    stored_bytes: int
    compressed_share: float = 1.0
    relative_rate: float = 1.0
    weight_error: float | None = None
    output_error: float | None = None
    kl: float | None = None


@dataclass(frozen=True, slots=True)
class StudyFile:
    """The ``records`` of a study of ``model``, whose content is ``digest``; both None where the file does not say."""

    records: tuple[Record, ...]
    model: str | None = None
    digest: str | None = None


def read_study(path: Path) -> StudyFile:
    """The JSON (``rows`` with ``tensors``) or Parquet (a row per tensor) of the compressibility study.

    Raises ``UsageError`` for a file that is none, ``MissingPackageError`` for Parquet without pandas or pyarrow.
    """
    try:
        document = _of_parquet(path) if path.suffix == ".parquet" else json.loads(path.read_bytes())
        return StudyFile(tuple(records_of(document)), document.get("model"), document.get("digest"))
    except ImportError as error:
        raise MissingPackageError(
            f"{path}: Parquet needs pandas and pyarrow", "pip install 'simio[report]', or give the study's JSON"
        ) from error
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror or error}", _HINT) from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UsageError(f"{path}: not a compressibility study ({_what(error)})", _HINT) from error


def _what(error: Exception) -> str:
    if isinstance(error, json.JSONDecodeError):
        return str(error)[:80]
    return f"no {error.args[0]}" if isinstance(error, KeyError) else "its rows are not those of a study"


def _of_parquet(path: Path) -> dict[str, Any]:
    """The document whose tidy table ``path`` holds: what a row says of its layout and codec is the same in all."""
    import pandas  # type: ignore[import-untyped,unused-ignore]

    tensors: list[dict[str, Any]] = pandas.read_parquet(path).to_dict("records")
    rows: dict[tuple[str, str], dict[str, Any]] = {}
    for tensor in tensors:
        of_row = {key: tensor.get(key) for key in ("quant", "codec", "relative_rate", "kl")}
        row = rows.setdefault((tensor["quant"], tensor["codec"]), of_row | {"tensors": []})
        row["tensors"].append({key: value for key, value in tensor.items() if key != "kl"})
    first = tensors[0] if tensors else {}
    return {"model": first.get("model"), "digest": first.get("digest"), "rows": list(rows.values())}


def records_of(document: dict[str, Any]) -> list[Record]:
    """The records of a study's JSON document.

    The KL divergence is measured of a layout as a whole. It is shared out over the layout's tensors in proportion to
    weights × output error (weight error where no tensor's output was measured), so that a layout used everywhere costs
    what was measured: to second order the divergence is a sum of squared perturbations (HAWQ-V2, arXiv 1911.03852).
    A tensor without output error beside others with one was not quantized in that run, a tied table say: it has none.
    """
    found: list[Record] = []
    kls = ((row["quant"], _number(row.get("kl"))) for row in document["rows"])
    kl_of = {quant: kl for quant, kl in kls if kl is not None}  # no codec changes it
    for row in document["rows"]:
        own = [_record(row, tensor) for tensor in row["tensors"]]
        kl = kl_of.get(row["quant"])
        found += own if kl is None else _shared_out(kl, own)
    return found


def _shared_out(kl: float, records: Iterable[Record]) -> list[Record]:
    records = list(records)
    by_output = any(r.output_error is not None for r in records)
    errors = [(r.output_error if by_output else r.weight_error) for r in records]
    total = sum((e or 0.0) * r.n_weights for e, r in zip(errors, records, strict=True))
    return [
        r if r.kl is not None or error is None else replace(r, kl=kl * error * r.n_weights / total if total else 0.0)
        for r, error in zip(records, errors, strict=True)
    ]


def _record(row: dict[str, Any], tensor: dict[str, Any]) -> Record:
    rate = _number(row.get("relative_rate"))
    return Record(
        tensor=str(tensor["tensor"]),
        role=str(tensor["role"]),
        quant=str(row["quant"]),
        codec=str(row["codec"]),
        n_weights=int(tensor["n_weights"]),
        raw_bytes=int(tensor["raw_bytes"]),
        stored_bytes=int(tensor["stored_bytes"]),
        compressed_share=float(tensor.get("compressed_share", 1.0)),
        relative_rate=1.0 if rate is None else rate,
        weight_error=_number(tensor.get("weight_error", tensor.get("weight_mse"))),  # its name in older files
        output_error=_number(tensor.get("output_error")),
        kl=_number(tensor.get("kl")),
    )


def _number(value: Any) -> float | None:
    """Absent numbers are None in JSON and NaN in Parquet."""
    return None if value is None or math.isnan(value) else float(value)
