"""Measure simio on this machine: a grid of real ``simio run``s, every one predicted before any of them is started."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

from simio.container.codec_choice import CodecChoice
from simio.container.packing import pack
from simio.container.profile import profile_of_container
from simio.container.reading import Container
from simio.errors import UnknownNameError
from simio.predict import predict
from simio.records.measurement import Measurement
from simio.records.prediction import Prediction
from simio.records.scenario import Scenario
from simio.runtime.settings import complete_on_host
from simio.runtime.supervising import run_apart
from simio.units import MB
from simio.validate.compare import scenario_of
from simio.validate.grid_models import MODELS

#: Called with (runs done, in all).
Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Grid:
    """The settings whose product is run. ``ram_shares`` are of a model's weights, ``limits`` bytes/s (None: free)."""

    codecs: tuple[str, ...]
    ram_shares: tuple[float, ...]
    prefetch_depths: tuple[int, ...]
    limits: tuple[float | None, ...]
    n_tokens: int
    repeat_every: int  # so many of the runs are done a second time, for the noise floor


GRIDS = {
    "standard": Grid(("raw", "lz4:1", "zstd:1"), (0.4, 0.7, 1.4), (0, 1), (200.0 * MB, 400.0 * MB, None), 8, 8),
    "quick": Grid(("raw", "zstd:1"), (0.4, 1.4), (1,), (400.0 * MB, None), 6, 4),
}

#: The first tokens of every run; which they are does not matter.
PROMPT = (1, 2, 3, 4)


@dataclass(frozen=True, slots=True)
class Case:
    """One run to make, and what simio said beforehand."""

    scenario: Scenario  # complete
    prediction: Prediction
    kind: str


def grid_named(name: str) -> Grid:
    """The grid of that name; raises ``UnknownNameError``."""
    if name not in GRIDS:
        raise UnknownNameError("grid", name, GRIDS)
    return GRIDS[name]


def containers(grid: Grid, folder: Path, progress: Progress | None = None) -> list[Path]:
    """The models of the grid, generated and packed with each codec below ``folder``; those that are there are kept."""
    folder = folder.absolute()  # a run's model is known by its whole path
    folder.mkdir(parents=True, exist_ok=True)
    found = []
    for done, (name, codec) in enumerate(product(MODELS, grid.codecs), start=1):
        path = folder / f"{name}-{codec.replace(':', '-')}.simio"
        if not path.exists():
            source = MODELS[name](folder)
            pack(source, path, CodecChoice.everywhere(codec))
        found.append(path)
        if progress is not None:
            progress(done, len(MODELS) * len(grid.codecs))
    return found


def cases(grid: Grid, paths: Sequence[Path], device: str, progress: Progress | None = None) -> list[Case]:
    """Every run of the grid in a shuffled order, predicted for ``device``; some twice."""
    asked = list(_scenarios(grid, paths, device))
    random.Random(0).shuffle(asked)
    found = []
    for done, scenario in enumerate(asked, start=1):
        limit = scenario.read_limit_bytes_per_s
        kind = "free disk" if limit is None else f"paced at {limit / MB:g} MB/s"
        found.append(Case(scenario, predict(scenario, suggestions=False), kind))
        if progress is not None:
            progress(done, len(asked))
    return found + found[:: grid.repeat_every]


def _scenarios(grid: Grid, paths: Sequence[Path], device: str) -> Iterator[Scenario]:
    for path in paths:
        profile = profile_of_container(path)
        with Container.open(path) as container:
            weights = sum(t.n_bytes for t in container.model.tensors)
        for share, depth, limit in product(grid.ram_shares, grid.prefetch_depths, grid.limits):
            asked = Scenario(
                device, str(path), ram_bytes=round(share * weights), prompt_tokens=len(PROMPT), n_tokens=grid.n_tokens,
                prefetch_depth=depth, read_limit_bytes_per_s=limit, n_threads=1, n_workers=1,
            )  # fmt: skip
            yield complete_on_host(asked, profile)


def measure(planned: Sequence[Case], progress: Progress | None = None) -> Iterator[Measurement]:
    """Make the runs, one after the other, each in a process of its own."""
    for done, case in enumerate(planned, start=1):
        report = run_apart(case.scenario, PROMPT)
        inputs = sorted((k, v) for k, v in report.measurement.known.items())
        yield replace(
            report.measurement,
            run_id=f"{_name(case.scenario)}, run {done}",
            kind=case.kind,
            repeat_of=repr((case.scenario.model, inputs)),
        )
        if progress is not None:
            progress(done, len(planned))


def _name(scenario: Scenario) -> str:
    return f"{Path(scenario.model).stem}, {(scenario.ram_bytes or 0) / MB:.0f} MB, prefetch {scenario.prefetch_depth}"


def answers(planned: Sequence[Case]) -> dict[Scenario, Prediction]:
    """The predictions by the question that a measured run asks again."""
    return {
        scenario_of(_known(case.scenario), case.scenario.device, case.scenario.model): case.prediction
        for case in planned
    }


def _known(scenario: Scenario) -> dict[str, object]:
    return {name: value for name, value in scenario.to_json().items() if name not in ("device", "model")}
