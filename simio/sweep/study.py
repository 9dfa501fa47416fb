"""A study: a base scenario, what varies, and how: every combination, or a Latin hypercube sample.

Scenarios are numbered, and any stretch of numbers can be made anywhere: that is what workers are sent. Fields that
shape a plan vary slowest, so that neighbours share a frame.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import xxhash
from numpy.typing import NDArray

from simio import __version__, catalog, codecs
from simio.errors import UsageError
from simio.predict.resolve import load_model
from simio.records.scenario import Scenario
from simio.sweep import device_numbers
from simio.sweep.axes import Axis, axis, field_named
from simio.sweep.frames import LIGHT, Frame

Column = NDArray[Any]

ENGINES = ("recurrence", "sim")
#: More than this is a mistake.
MOST = 10**9


@dataclass(frozen=True, slots=True)
class Study:
    """``samples``: size of a Latin hypercube, None for the grid; ``subset``: that many of the scenarios, at random.

    ``n_checked`` scenarios are played by SimPy, too. Raises ``UsageError`` for what cannot be swept.
    """

    base: Mapping[str, Any]
    axes: tuple[Axis, ...]
    samples: int | None = None
    subset: int | None = None
    seed: int = 0
    engine: str = "recurrence"
    n_checked: int = 8

    def __post_init__(self) -> None:
        if self.engine not in ENGINES:
            raise UsageError(f"engine '{self.engine}'", f"use {' or '.join(ENGINES)}")
        seen = [a.name for a in self.axes]
        for name in seen:
            if seen.count(name) > 1:
                raise UsageError(f"{name} is varied twice", "put its values into one list")
        for one in self.axes:
            if one.is_range and self.samples is None:
                raise UsageError(f"{one.name} is a range without a step", "give low:high:step, or --samples N")
        for name in ("samples", "subset"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UsageError(f"--{name} is {value}", "give at least 1")
        if self.n_all > MOST:
            raise UsageError(f"these are {self.n_all:.3g} scenarios", f"vary less; at most {MOST:.0e}")
        order = sorted(self.axes, key=_is_light)
        object.__setattr__(self, "axes", tuple(order))

    @property
    def n_all(self) -> int:
        """Scenarios of the whole study."""
        return self.samples or prod(len(a.values) for a in self.axes)

    @property
    def n(self) -> int:
        """Scenarios to evaluate."""
        return self.n_all if self.subset is None else min(self.subset, self.n_all)

    def validate(self) -> None:
        """Try each value by itself in the base scenario. Raises ``SimioError`` for those that mean or name nothing."""
        for name, load_ in (("model", load_model), ("codec", codecs.parse)):
            for value in next((a.values for a in self.axes if a.name == name), (self.base.get(name),)):
                if value is not None:
                    load_(value)
        first = {a.name: _whole(a, a.values[0] if a.values else a.low) for a in self.axes if not a.of_device}
        devices = [catalog.load(name) for name in self.device_names()]
        for one in self.axes:
            for value in one.values or (one.low, one.high):
                if not one.of_device:
                    _scenario({**self.base, **first, one.name: _whole(one, value)})
                elif one.path in device_numbers.FACTORS:
                    for device in devices:
                        device_numbers.factor_of(device, one.change(value))
                else:
                    for device in devices:
                        device_numbers.changed(device, one.change(value))

    def device_names(self) -> list[str]:
        """The devices that are swept."""
        varied = next((a.values for a in self.axes if a.name == "device"), ())
        return list(varied or (self.base.get("device"),))

    def values(self, numbers: Column) -> dict[str, Column]:
        """The values of every axis for scenarios ``numbers``."""
        rows = numbers if self.subset is None else _subset(self.n_all, self.n, self.seed)[numbers]
        if self.samples is not None:
            codes = _latin_hypercube(self.axes, self.samples, self.seed)
            return {a.name: _picked(a, codes[i][rows]) for i, a in enumerate(self.axes)}
        found = {}
        stride = self.n_all
        for one in self.axes:
            stride //= len(one.values)
            found[one.name] = _picked(one, rows // stride % len(one.values))
        return found

    def frames(self, numbers: Column) -> Iterator[tuple[Column, Frame]]:
        """Scenarios ``numbers`` in frames, each with the rows of ``numbers`` it is."""
        values = self.values(numbers)
        heavy = [a for a in self.axes if not _is_light(a)]
        groups = [np.arange(len(numbers))]
        if heavy:
            codes = np.column_stack([_coded(values[a.name]) for a in heavy])
            _, inverse = np.unique(codes, axis=0, return_inverse=True)
            order = np.argsort(inverse, kind="stable")
            groups = np.split(order, np.flatnonzero(np.diff(inverse[order])) + 1)
        for rows in groups:
            fixed, quantities = dict(self.base), []
            for one in heavy:
                value = values[one.name][rows[0]]
                value = value.item() if isinstance(value, np.generic) else value
                if one.of_device:
                    quantities.append(one.change(value))
                else:
                    fixed[one.name] = value
            light = [a for a in self.axes if _is_light(a)]
            varied = {a.name: values[a.name][rows] for a in light if not a.of_device}
            factors = {}
            for one in light:
                if one.of_device:
                    device = catalog.load(fixed["device"])
                    unit = 1.0 if one.is_factor else device_numbers.factor_of(device, one.change(1.0))
                    factors[device_numbers.FACTORS[one.path]] = values[one.name][rows] * unit
            yield rows, Frame(len(rows), fixed, tuple(quantities), varied, factors)

    def digests(self, numbers: Column) -> NDArray[np.uint64]:
        """What identifies each scenario, whichever study it is part of: all that its result depends on, hashed."""
        values = self.values(numbers)
        constant = {"engine": self.engine, "simio": __version__, **self.base}
        names = sorted({*constant, *values})
        factors = {a.name for a in self.axes if a.is_factor}
        columns, words = [], []
        for name in names:
            if name in values:
                column = values[name].tolist()
                columns.append([_content(v) for v in column] if name in _CONTENT else column)
                words.append(f"{name}{'*' if name in factors else ''}={{!r}}")
            else:
                value = _content(constant[name]) if name in _CONTENT else constant[name]
                words.append(f"{name}={value!r}".replace("{", "{{").replace("}", "}}"))
        text = "|".join(words)
        rows = zip(*columns, strict=True) if columns else [()] * len(numbers)
        hashed = (xxhash.xxh3_64_intdigest(text.format(*row).encode()) for row in rows)
        return np.fromiter(hashed, np.uint64, len(numbers))


#: Fields that name a file or a catalogue entry: what it holds counts, not only its name.
_CONTENT = ("device", "model", "routing")


@lru_cache(maxsize=256)
def _content(name: str) -> str:
    path = Path(name)
    if path.is_file():
        stat = path.stat()
        return f"{path.absolute()}@{stat.st_size}.{stat.st_mtime_ns}"
    return name


def _is_light(one: Axis) -> bool:
    """Whether scenarios that differ in this only can share a frame."""
    if one.of_device:
        return one.path in device_numbers.FACTORS
    return one.name in LIGHT and None not in one.values


def _whole(one: Axis, value: Any) -> Any:
    return round(value) if one.is_whole and value is not None else value


def _scenario(table: Mapping[str, Any]) -> Scenario:
    return Scenario.from_json({k: v for k, v in table.items() if v is not None}, "study")


def _picked(one: Axis, codes: Column) -> Column:
    """Values by their number; of a range, the values themselves."""
    if one.is_range:
        return codes
    kinds = {type(v) for v in one.values}
    kind = int if kinds == {int} else float if kinds <= {int, float} else object
    table = np.empty(len(one.values), kind)
    table[:] = one.values
    return table[codes]


def _coded(column: Column) -> Column:
    return column if column.dtype != object else np.unique(column.astype(str), return_inverse=True)[1]


@lru_cache(maxsize=2)
def _latin_hypercube(axes: tuple[Axis, ...], n: int, seed: int) -> tuple[Column, ...]:
    """One stratum of n for each sample and axis (McKay, Beckman, Conover, Technometrics 21, 1979).

    For axes with points their numbers, for ranges values; ordered so that frames stay together.
    """
    rng = np.random.default_rng(seed)
    found = []
    for one in axes:
        unit = (rng.permutation(n) + rng.random(n)) / n
        if one.is_range:
            value = one.low + unit * (one.high - one.low)
            found.append(np.round(value).astype(np.int64) if one.is_whole else value)
        else:
            found.append(np.minimum((unit * len(one.values)).astype(np.int64), len(one.values) - 1))
    heavy = [column for one, column in zip(axes, found, strict=True) if not _is_light(one)]
    if not heavy:
        return tuple(found)
    order = np.lexsort(heavy[::-1])
    return tuple(column[order] for column in found)


@lru_cache(maxsize=2)
def _subset(n_all: int, n: int, seed: int) -> Column:
    chosen = np.random.default_rng(seed).choice(n_all, n, replace=False) if n < n_all else np.arange(n)
    chosen.sort()
    return chosen


def study_of(table: Mapping[str, Any], where: str) -> Study:
    """A study from the tables of a file: ``[scenario]`` fields, ``[vary]`` axes, settings. Raises ``UsageError``."""
    settings = {k: v for k, v in table.items() if k not in ("scenario", "vary")}
    unknown = sorted(set(settings) - {"samples", "subset", "seed", "engine", "check"})
    if unknown:
        raise UsageError(f"{where}: unknown key {unknown[0]}", "keys are scenario, vary, samples, subset, seed, engine")
    base: dict[str, Any] = {}
    for name, value in dict(table.get("scenario", {})).items():
        if name.startswith("device."):
            raise UsageError(f"{where}: {name} in [scenario]", "give it in [vary], with one value")
        one = axis(name, [value], None)
        base[one.name] = one.values[0]
    vary: dict[str, Any] = dict(_flattened(table.get("vary", {})))
    varied = [field_named(name) for name in vary]
    for need in ("device", "model"):
        if need not in base and need not in varied:
            raise UsageError(f"{where}: no {need}", f"for example --{need} {_EXAMPLES[need]}")
    first = axis("device", vary["device"], None).values[0] if "device" in varied else base["device"]
    device = catalog.load(str(first))
    axes = tuple(axis(name, values, device) for name, values in vary.items())
    whole = {k: settings.get(k) for k in ("samples", "subset")}
    base = {k: v for k, v in base.items() if k not in varied}
    study = Study(base, axes, **whole, seed=settings.get("seed", 0), engine=settings.get("engine", "recurrence"),
                  n_checked=settings.get("check", 8))  # fmt: skip
    study.validate()
    return study


_EXAMPLES = {"device": "pixel8", "model": "llama-3.2-3b:q4_k_m"}


def _flattened(table: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """``device.cpu.gemv = …`` in TOML is a table of tables."""
    for name, value in table.items():
        if isinstance(value, Mapping):
            yield from _flattened(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def load(path: Path) -> dict[str, Any]:
    """The tables of a study file. Raises ``UsageError``."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UsageError(f"{path}: no such study file", "or name what to vary with --vary") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} is not a study: {error}", "see docs/sweep.md") from None
