"""What-if at scale: axes over scenarios and device numbers, evaluated in frames that share a plan, kept as Parquet.

The room can be called as its verb: ``simio.sweep(device="pixel8", model="llama-3.2-3b:q4_k_m", vary={…})``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from simio.callable_room import make_callable
from simio.errors import MissingPackageError, UsageError
from simio.records.scenario import Scenario

if TYPE_CHECKING:
    import pandas


def sweep(
    scenario: Scenario | None = None,
    /,
    *,
    vary: Mapping[str, str | Sequence[Any]],
    set: Mapping[str, Any] | None = None,  # as the option of the command is called
    samples: int | None = None,
    subset: int | None = None,
    seed: int = 0,
    engine: str = "recurrence",
    check: int = 8,
    output: str | PathLike[str] | None = None,
    jobs: int | None = None,
    scheduler: str | None = None,
    progress: Callable[[int, int], None] | None = None,
    **fields: Any,
) -> pandas.DataFrame:
    """Evaluate every combination of what ``vary`` names, or ``samples`` of them; the rows of ``simio sweep``.

    ``vary``: name → list of values, or text as ``--vary`` takes it (``"1GB:4GB:0.25GB"``, ``"0.5x:2x"``); ``set``
    likewise one value for all, ``fields`` the same by the names of ``Scenario``, on top of ``scenario``. One row for
    each scenario, in order; docs/sweep.md says what the columns are. With ``output`` (a directory, or a ``.parquet``
    file) rows are kept there and a sweep that was interrupted goes on; without it nothing is written. The others are
    the options of the command; ``progress(done, total)`` is called as scenarios come back.

    Raises ``SimioError`` for what cannot be swept, ``MissingPackageError`` without pandas and pyarrow.
    """
    try:
        import pandas  # noqa: F401 - before the work, not after it
    except ModuleNotFoundError as error:
        raise MissingPackageError(
            "rows come as a DataFrame, which needs pandas", "pip install 'simio[report]'"
        ) from error
    from simio.sweep import rows
    from simio.sweep.run import sweep as run
    from simio.sweep.study import study_of

    rows.pyarrow()
    settings = {"seed": seed, "engine": engine, "check": check, "samples": samples, "subset": subset}
    table = {"scenario": _fields_set(scenario) | dict(set or {}) | fields, "vary": dict(vary)}
    study = study_of(table | {k: v for k, v in settings.items() if v is not None}, "simio.sweep")
    if output is not None:
        run(study, Path(output), jobs=jobs, scheduler=scheduler, progress=progress)
        return rows.stored(study, Path(output)).to_pandas()
    blocks: list[Any] = []
    run(study, jobs=jobs, scheduler=scheduler, progress=progress, keep=blocks.append)
    return rows.joined(study, blocks).to_pandas()


def _fields_set(scenario: Scenario | None) -> dict[str, Any]:
    """Those that are not as they would be if nobody said."""
    if scenario is None:
        return {}
    if not isinstance(scenario, Scenario):
        raise UsageError(f"{scenario!r} is not a Scenario", 'name fields: device="pixel8", model="…"')
    default = Scenario(device="", model="").to_json()
    return {name: value for name, value in scenario.to_json().items() if value != default.get(name)}


make_callable(__name__, sweep)

__all__ = ["sweep"]
