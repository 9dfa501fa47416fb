"""The index at the end of a container: the chunk table, then facts as JSON. Read without touching the payload."""

from __future__ import annotations

import json
from dataclasses import dataclass, fields, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simio.container.chunk_table import ENTRY_BYTES, table
from simio.container.header import ALIGNMENT, HEADER_BYTES, Header, aligned, damaged
from simio.container.layout import Piece, gaps
from simio.container.residency import Residency, check_residency
from simio.errors import SimioError
from simio.profiling.model_columns import model_from_json, model_to_json
from simio.records.model import Model

_PIECE_FIELDS = tuple(f.name for f in fields(Piece))


@dataclass(frozen=True, slots=True)
class Index:
    """What a container holds.

    ``files`` are (name, bytes): those of ``model.files`` first, then companions. ``codecs`` are (name, dtype) by codec
    number: the codec is ``parse(name).for_layout(dtype)``; number 0 is raw. ``table`` has one item a chunk
    (``chunk_table.COLUMNS``).
    """

    writer: str  # "simio 0.1.0"
    chunk_bytes: int
    model: Model
    files: tuple[tuple[str, int], ...]
    codecs: tuple[tuple[str, str], ...]
    libraries: dict[str, str]  # codec name → what compressed
    pieces: tuple[Piece, ...]
    table: NDArray[Any]
    residency: Residency = ()  # where a plan has every tensor of the model lie; empty: no plan

    def facts(self) -> bytes:
        """Everything but the chunk table, as JSON."""
        return json.dumps(
            {
                "writer": self.writer,
                "chunk_bytes": self.chunk_bytes,
                "files": {"name": [name for name, _ in self.files], "n_bytes": [size for _, size in self.files]},
                "codecs": self.codecs,
                "libraries": self.libraries,
                "pieces": {name: [getattr(piece, name) for piece in self.pieces] for name in _PIECE_FIELDS},
                "model": model_to_json(self.model),
                **({"residency": self.residency} if self.residency else {}),
            },
            separators=(",", ":"),
            allow_nan=False,
        ).encode()

    def to_bytes(self) -> tuple[bytes, int]:
        """The index as stored, padded to the alignment, and the bytes of its JSON."""
        facts = self.facts()
        used = self.table.tobytes() + facts
        return used.ljust(aligned(len(used)), b"\0"), len(facts)


def read_index(data: bytes, header: Header, path: Path) -> Index:
    """The index in ``data``; raises ``ContainerError`` unless all its parts fit each other."""
    chunks = table(data, header.n_chunks)
    facts = data[header.n_chunks * ENTRY_BYTES :][: header.facts_bytes]
    try:
        index = _from_json(json.loads(facts), chunks)
        _check_chunks(index, header.index_offset)
        _check_pieces(index)
        check_residency(index.model, index.residency)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, RecursionError, SimioError) as error:
        raise damaged(path, f"its index contradicts itself ({error!r})") from error
    return index


def _from_json(facts: dict[str, Any], chunks: NDArray[Any]) -> Index:
    columns, files = facts["pieces"], facts["files"]
    return Index(
        writer=facts["writer"],
        chunk_bytes=facts["chunk_bytes"],
        model=model_from_json(facts["model"]),
        files=tuple(zip(files["name"], files["n_bytes"], strict=True)),
        codecs=tuple((name, dtype) for name, dtype in facts["codecs"]),
        libraries=facts["libraries"],
        pieces=tuple(Piece(*row) for row in zip(*(columns[name] for name in _PIECE_FIELDS), strict=True)),
        table=chunks,
        residency=tuple(facts.get("residency", ())),
    )


def _check_chunks(index: Index, payload_end: int) -> None:
    """Chunks fill the payload one after the other; raw ones are as long as their weights, others shorter."""
    chunks = index.table
    ends = chunks["offset"] + (chunks["stored_bytes"].astype(np.uint64) + ALIGNMENT - 1) // ALIGNMENT * ALIGNMENT
    bounds = np.concatenate([[HEADER_BYTES], ends]).astype(np.uint64)
    if not np.array_equal(bounds[:-1], chunks["offset"]) or int(bounds[-1]) != payload_end:
        raise ValueError("chunks do not fill the payload")
    is_raw = chunks["codec"] == 0
    fits = np.where(is_raw, chunks["stored_bytes"] == chunks["raw_bytes"], chunks["stored_bytes"] < chunks["raw_bytes"])
    if (
        not (fits & (chunks["stored_bytes"] > 0) & (chunks["codec"] < len(index.codecs))).all()
        or chunks["reserved"].any()
    ):
        raise ValueError("a chunk has impossible lengths or an unknown codec")


def _check_pieces(index: Index) -> None:
    """Pieces cover every file exactly, have the bytes of their chunks, and lie inside their streams."""
    raw_ends = np.concatenate([[0], np.cumsum(index.table["raw_bytes"], dtype=np.uint64)])
    firsts = [*(piece.first_chunk for piece in index.pieces), len(index.table)]
    if firsts[0] != 0 or any(a >= b for a, b in pairwise(firsts)):
        raise ValueError("pieces are not in the order of their chunks")
    spans: list[list[tuple[int, int]]] = [[] for _ in index.files]
    for piece, behind in zip(index.pieces, firsts[1:], strict=True):
        if piece.n_bytes != int(raw_ends[behind]) - int(raw_ends[piece.first_chunk]) or piece.file < 0:
            raise ValueError(f"piece {piece} does not have the bytes of its chunks")
        spans[piece.file].append((piece.offset, piece.offset + piece.n_bytes))
        _check_stream(piece, index.model)
    if any(list(gaps(used, n_bytes)) for used, (_, n_bytes) in zip(spans, index.files, strict=True)):
        raise ValueError("pieces leave bytes out")
    names = [name for name, _ in index.files]
    if len(set(names)) < len(names) or not all(_is_plain(name) for name in names):
        raise ValueError("a file name is no plain name, or twice there")
    if names[: len(index.model.files)] != list(index.model.files):
        raise ValueError("the weights files are not those of the model")


def _check_stream(piece: Piece, model: Model) -> None:
    if piece.tensor is None or piece.stream is None:
        return
    stream = model.tensors[piece.tensor].streams[piece.stream]
    inside = stream.offset <= piece.offset and piece.offset + piece.n_bytes <= stream.offset + stream.n_bytes
    if piece.file != stream.file_index or not inside or min(piece.tensor, piece.stream) < 0:
        raise ValueError(f"piece {piece} is not in its stream")


def _is_plain(name: str) -> bool:
    """Whether ``name`` stays in the directory it is written to."""
    return name not in ("", ".", "..") and not set(name) & {"/", "\\", "\0"}


def without_folders(model: Model) -> Model:
    """``model`` with the bare names of its files: a container says nothing about the machine it was packed on."""
    return replace(model, files=tuple(Path(file).name for file in model.files))
