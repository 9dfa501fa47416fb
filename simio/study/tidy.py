"""The study as a tidy table, one row a tensor × layout × codec, in a Parquet file. Needs the extra ``report``."""

from __future__ import annotations

from io import BytesIO
from typing import TYPE_CHECKING

from simio.errors import MissingPackageError
from simio.records.compressibility import Compressibility

if TYPE_CHECKING:
    import pandas as pd

_HINT = "pip install 'simio[report]'"


def tidy(found: Compressibility) -> pd.DataFrame:
    """Columns: model, digest, quant, codec, what ``tensors`` have but streams, the row's rates, kl and perplexity.

    Raises ``MissingPackageError`` where pandas is not installed.
    """
    try:
        import pandas as pd
    except ModuleNotFoundError as error:
        raise MissingPackageError("a table needs pandas, which is not installed", _HINT) from error
    rows = [
        {
            "model": found.model,
            "digest": found.digest,
            "quant": row.quant,
            "codec": row.codec,
            **{key: value for key, value in tensor.to_json().items() if key != "streams"},
            "decompress_bytes_per_s": row.decompression and row.decompression.rate.median_bytes_per_s,
            "relative_rate": row.decompression and row.decompression.relative_rate,
            "kl": row.kl,
            "perplexity": row.perplexity,
        }
        for row in found.rows
        for tensor in row.tensors
    ]
    frame = pd.DataFrame(rows)
    floats = (
        "weight_error",
        "output_error",
        "decompress_bytes_per_s",
        "relative_rate",
        "kl",
        "perplexity",
        "bound_ratio",
    )
    return frame.astype({"layer": "Int32", **dict.fromkeys(floats, "float64")}) if rows else frame


def parquet(found: Compressibility) -> bytes:
    """The table as the bytes of a Parquet file (zstd). Raises ``MissingPackageError`` without pandas or pyarrow."""
    frame = tidy(found)
    buffer = BytesIO()
    try:
        frame.to_parquet(buffer, engine="pyarrow", compression="zstd", index=False)
    except ImportError as error:
        raise MissingPackageError("a Parquet file needs pyarrow, which is not installed", _HINT) from error
    return buffer.getvalue()
