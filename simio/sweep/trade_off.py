"""From the rows of a sweep to speed against RAM: the Pareto front, and as many of the others as a page can draw."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from simio.pareto import pareto_front
from simio.records.trade_off import Offer, TradeOff
from simio.sweep.axes import Axis
from simio.sweep.rows import column_name
from simio.sweep.study import Study
from simio.units import format_bytes

#: Scenarios drawn beside the front, by chance where there are more: a page of 1 MB.
MOST_DRAWN = 5000


def trade_off(study: Study, rows: Any) -> TradeOff:
    """``rows`` (a pyarrow table of ``study``) as a trade-off between ``peak_ram_bytes`` and ``tokens_per_s``."""
    ram, speed, first = (_numbers(rows, name) for name in ("peak_ram_bytes", "tokens_per_s", "ttft_s"))
    on_front = pareto_front(np.column_stack([ram, -speed]))
    front = np.flatnonzero(on_front)
    others = np.flatnonzero(~on_front & ~np.isnan(speed))
    if len(others) > MOST_DRAWN:
        others = np.sort(np.random.default_rng(study.seed).choice(others, MOST_DRAWN, replace=False))
    chosen = np.concatenate([front[np.argsort(ram[front])], others])
    names = [column_name(one) for one in study.axes]
    values = {name: rows[name].take(chosen).to_pylist() for name in names}
    shown = _coloured(study)
    colours = (
        [""] * len(chosen)
        if shown is None
        else ["–" if value is None else value for value in values[column_name(shown)]]
    )
    offers = tuple(
        Offer(
            float(ram[i]), float(speed[i]), float(first[i]),
            {name: as_text(name, values[name][k]) for name in names}, colours[k], bool(on_front[i]),
        )
        for k, i in enumerate(chosen.tolist())
    )  # fmt: skip
    fixed = {name: as_text(name, value) for name, value in study.base.items()}
    by = None if shown is None else column_name(shown)
    return TradeOff(fixed, by, len(speed), int(np.isnan(speed).sum()), offers)


def _numbers(rows: Any, name: str) -> NDArray[np.float64]:
    found: NDArray[np.float64] = rows[name].to_numpy().astype(float)
    return found


def _coloured(study: Study) -> Axis | None:
    """The first thing varied, but not RAM where there is another: RAM has an axis already."""
    return next((one for one in study.axes if one.name != "ram_bytes"), next(iter(study.axes), None))


def as_text(name: str, value: Any) -> str:
    """A value as a page shows it."""
    if value is None:
        return "–"
    if name.endswith(".factor"):
        return f"{value:.4g}×"
    if name.endswith("_bytes"):
        return format_bytes(value)
    return f"{value:.4g}" if isinstance(value, float) else str(value)
