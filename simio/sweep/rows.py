"""The rows of a study as a table: one for each scenario, the same columns in memory and on disk."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from simio import __version__
from simio.errors import MissingPackageError
from simio.sim import engine
from simio.sweep.axes import Axis
from simio.sweep.block import Block
from simio.sweep.outcome import COLUMNS
from simio.sweep.study import Study


def pyarrow() -> Any:
    """The package, with its Parquet module. Raises ``MissingPackageError``."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ModuleNotFoundError as error:
        raise MissingPackageError("results are kept as Parquet, which needs pyarrow", "pip install pyarrow") from error
    return pyarrow


def schema_of(study: Study) -> Any:
    """Columns and types of the rows of ``study``."""
    pa = pyarrow()
    kinds = {int: pa.int64(), float: pa.float64(), bool: pa.bool_(), str: pa.string()}
    fields = [pa.field("digest", pa.uint64())]
    fields += [pa.field(name, kinds[kind]) for name, kind in column_kinds(study).items()]
    fields += [pa.field("chosen_runtime", pa.string())]
    fields += [pa.field(name, pa.float64()) for name in COLUMNS]
    fields += [pa.field("reason", pa.string())]
    return pa.schema(fields + [pa.field(name, pa.string()) for name in _versions(study)])


def table_of(study: Study, block: Block) -> Any:
    """The rows of ``block``; what is not known is null."""
    pa, n, schema = pyarrow(), len(block.numbers), schema_of(study)
    columns: dict[str, Any] = {"digest": block.digests}
    columns |= {name: [value] * n for name, value in study.base.items()}
    columns |= {column_name(one): block.values[one.name] for one in study.axes}
    columns["chosen_runtime"] = block.outcome.runtime
    for i, name in enumerate(COLUMNS):
        numbers = block.outcome.numbers[:, i]
        columns[name] = pa.array(numbers, mask=np.isnan(numbers))
    columns["reason"] = block.outcome.reason
    columns |= {name: [version] * n for name, version in _versions(study).items()}
    return pa.table([pa.array(columns[f.name], f.type) for f in schema], schema=schema)


def joined(study: Study, blocks: Sequence[Block]) -> Any:
    """The rows of all ``blocks``."""
    tables = [table_of(study, block) for block in blocks]
    return pyarrow().concat_tables(tables) if tables else schema_of(study).empty_table()


def stored(study: Study, output: Path) -> Any:
    """The rows of ``study`` in a directory of parts or a file, in the order of its scenarios; others are left out."""
    parquet = pyarrow().parquet
    parts = sorted(output.glob("part-*.parquet")) if output.is_dir() else [output]
    table = pyarrow().concat_tables([parquet.read_table(part) for part in parts])
    digests = table["digest"].to_numpy()
    order = np.argsort(digests, kind="stable")
    return table.take(order[np.searchsorted(digests[order], study.digests(np.arange(study.n)))])


def _versions(study: Study) -> dict[str, str]:
    return {
        "engine": study.engine,
        "simio_version": __version__,
        "numpy_version": np.__version__,
        "simpy_version": engine.VERSION,
    }


def column_kinds(study: Study) -> dict[str, type]:
    """The columns that say what a scenario is: every field set or varied, every device number varied."""
    found: dict[str, type] = {}
    for name, value in study.base.items():
        found[name] = type(value)
    for one in study.axes:
        if one.is_range:
            found[column_name(one)] = int if one.is_whole else float
        else:
            kinds = {type(v) for v in one.values if v is not None}
            found[column_name(one)] = float if kinds == {int, float} else kinds.pop()
    return dict(sorted(found.items()))


def column_name(one: Axis) -> str:
    """The column of an axis: factors say so."""
    return f"{one.name}.factor" if one.is_factor else one.name
