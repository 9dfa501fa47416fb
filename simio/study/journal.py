"""What studies have found out already, by content: a tensor's bytes, a layout's, and a codec with its library.

One file, a JSON object a line (``simio.profiling.journal.Lines``). A layout is known by its name and by what it makes
of a fixed small matrix, so that results of another version of it are not taken for its own.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import xxhash

from simio import paths
from simio.codecs.base import Codec
from simio.errors import SimioError, WriteError
from simio.profiling.journal import Lines
from simio.quant.contract import Quantizer, TensorSummary
from simio.records.codec_profile import Rate
from simio.records.compressibility import Decompression
from simio.study.tally import Facts, Outcome

#: Part of every key: raised when what a line means changes.
FORMAT = 2


class StudyJournal:
    """Summaries, outcomes and rates by key. ``add_…`` may be called from any thread; ``flush`` from one.

    ``on_failure`` is told once why the file cannot be read or written (a full disk), and the study goes on with what it
    has in memory; without it that is an error.
    """

    def __init__(self, path: Path, on_failure: Callable[[WriteError], None] | None = None) -> None:
        self._lines: Lines | None = Lines(path)
        self._on_failure = on_failure
        self._known: dict[str, dict[str, Any]] = {}
        try:
            self._read(self._lines)
        except WriteError as error:
            self._give_up(error)

    def _read(self, lines: Lines) -> None:
        for line in lines.read():
            found = json.loads(line)
            known = self._known.setdefault(found.pop("key"), {})
            found["facts"] = {**known.get("facts", {}), **found.get("facts", {})}
            known |= found

    @classmethod
    def default(cls, on_failure: Callable[[WriteError], None] | None = None) -> StudyJournal:
        """In the user's cache."""
        return cls(paths.cache_dir() / "study" / "compressibility.txt", on_failure)

    def __enter__(self) -> StudyJournal:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.flush()
        if self._lines is not None:
            self._lines.close()

    def flush(self) -> None:
        """Write what was added; raises ``WriteError`` unless somebody is told instead."""
        try:
            if self._lines is not None:
                self._lines.flush()
        except WriteError as error:
            self._give_up(error)

    def _give_up(self, error: WriteError) -> None:
        if self._on_failure is None:
            raise error
        self._on_failure(error)
        lines, self._lines = self._lines, None
        if lines is not None:
            lines.close()  # nothing is pending: a failed flush drops its lines

    def find_summary(self, key: str) -> TensorSummary | None:
        """The summary of a tensor."""
        known = self._known.get(key)
        return None if known is None else TensorSummary(*known["summary"])

    def add_summary(self, key: str, summary: TensorSummary) -> None:
        """Remember the summary of a tensor."""
        s = summary
        self._add(key, {"summary": [s.n_weights, s.low, s.high, s.mean_magnitude, s.mean_square]})

    def find_outcome(self, key: str, codecs: list[Codec]) -> tuple[Outcome | str | None, list[Codec]]:
        """What is known of a tensor under a layout, or why the layout refuses it, and which of ``codecs`` are not."""
        known = self._known.get(key)
        if known is None:
            return None, codecs
        if "refused" in known:
            return known["refused"], []
        by_codec = [(codec, known["facts"].get(codec_id(codec))) for codec in codecs]
        facts = {
            codec.name: {stream: Facts(*numbers) for stream, numbers in found.items()}
            for codec, found in by_codec
            if found is not None
        }
        return Outcome(known["raw"], facts, known["entropy"], known["error"]), [
            c for c, found in by_codec if found is None
        ]

    def add_outcome(self, key: str, outcome: Outcome, codecs: list[Codec]) -> None:
        """Remember a tensor under a layout and ``codecs``."""
        facts = {
            codec_id(codec): {s: [f.stored, f.compressed, f.bound] for s, f in outcome.facts[codec.name].items()}
            for codec in codecs
        }
        self._add(
            key, {"raw": outcome.raw, "entropy": outcome.entropy_bits, "error": outcome.weight_error, "facts": facts}
        )

    def add_refusal(self, key: str, why: str) -> None:
        """Remember that a layout does not take a tensor."""
        self._add(key, {"refused": why})

    def find_rate(self, key: str) -> tuple[bool, Decompression | None]:
        """Whether a rate was measured, and what it is: nothing where no chunk shrank."""
        known = self._known.get(key)
        if known is None or known["rate"] is None:
            return known is not None, None
        return True, Decompression(Rate(*known["rate"]), known["anchor"], known["relative"])

    def add_rate(self, key: str, found: Decompression | None) -> None:
        """Remember a measured rate."""
        if found is None:
            self._add(key, {"rate": None})
            return
        r = found.rate
        numbers = [r.median_bytes_per_s, r.low_bytes_per_s, r.high_bytes_per_s, r.n]
        self._add(key, {"rate": numbers, "anchor": found.anchor, "relative": found.relative_rate})

    def _add(self, key: str, found: dict[str, Any]) -> None:
        known = self._known.setdefault(key, {})
        lines = self._lines  # another thread may give up meanwhile
        if lines is not None:
            lines.add(json.dumps({"key": key, **found}, separators=(",", ":")))
        self._known[key] = {**known, **found, "facts": {**known.get("facts", {}), **found.get("facts", {})}}


def key_of(*parts: object) -> str:
    """The key of what depends on ``parts``."""
    return str(xxhash.xxh3_128_hexdigest(repr((FORMAT, *parts)).encode()))


def codec_id(codec: Codec) -> str:
    """A codec with its library."""
    return f"{codec.name} {codec.library_version}"


def fingerprint(quantizer: Quantizer) -> str:
    """The layout's name and what it makes of a fixed matrix; the name alone where it refuses that matrix."""
    rng = np.random.default_rng(0)
    w = (rng.standard_t(4, (16, 2048)) * 0.02).astype(np.float32)
    state = xxhash.xxh3_128(quantizer.name.encode())
    try:
        for key, stream in quantizer.quantize(w).items():
            state.update(key.encode() + stream.tobytes())
    except SimioError:
        pass
    return str(state.hexdigest())
