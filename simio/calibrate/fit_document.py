"""A fit becomes a device file: the numbers it moved, ``source = "fitted"``, and what they were fitted on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from math import exp, log, sqrt
from pathlib import Path

from simio.calibrate.base_device import Draft
from simio.calibrate.document import check_id, write
from simio.calibrate.fit_parameters import PARAMETERS, Z90, entries, quantities
from simio.calibrate.fit_results import CrossValidation, Fit, Found
from simio.calibrate.quantities import Entry, entry
from simio.records.device import Device, Quantity

#: Runs named one by one in the note; of more, their sessions with counts.
MOST_NAMED = 60


def write_fit(
    fit: Fit,
    touched: Mapping[str, Sequence[bool]],
    validation: CrossValidation | None,
    base: str,
    files: Sequence[Path],
    output: Path,
) -> Device:
    """Write ``output``: the device ``base`` with the numbers of ``fit``. Raises as ``document.write`` does.

    A number that the runs respond to gets the fit's bounds. One that only moved with the others keeps its own, as
    shares of the value, where they are wider.
    """
    stem = check_id(output)
    draft = Draft(base, stem)
    source = draft.add_source("fitted", "fitted", _url(fit, base, files), _note(fit, validation, draft.device.id))
    for found in fit.parameters:
        if found.is_fitted:
            parameter = next(p for p in PARAMETERS if p.name == found.name)
            pairs = zip(
                entries(draft.table, parameter), quantities(draft.device, parameter), touched[found.name], strict=True
            )
            for written, quantity, is_touched in pairs:
                note = str(written.get("note", ""))
                written.clear()
                written.update(_moved(quantity, found, is_touched, source, note))
    n = len(fit.runs)
    doubt = exp(Z90 / sqrt(2 * n))
    note = "standard deviation of log time that no fitted number explains"
    residual = entry(fit.residual, fit.residual / doubt, fit.residual * doubt, "1", source, note)
    draft.table["fit"] = {"residual": residual}
    return write(draft.table, output)


def _moved(quantity: Quantity, found: Found, is_touched: bool, source: str, note: str) -> Entry:
    value = quantity.value * found.factor
    down, up = log(found.factor / found.low), log(found.high / found.factor)
    if not is_touched:
        down = max(down, log(quantity.value / quantity.low)) if quantity.low > 0 else float("inf")
        up = max(up, log(quantity.high / quantity.value))
    return entry(value, value * exp(-down), value * exp(up), quantity.unit, source, note)


def _url(fit: Fit, base: str, files: Sequence[Path]) -> str:
    """Where the runs are published, if all are at one place; else the command."""
    places = {run.source for run in fit.runs}
    if len(places) == 1 and (place := places.pop()).startswith(("https://", "http://", "traces/")):
        return place
    return " ".join([f"simio calibrate --device {base}", *(f"--runs {path}" for path in files)])


def _note(fit: Fit, validation: CrossValidation | None, base: str) -> str:
    moved = ", ".join(f"{p.name} × {p.factor:.3g}" for p in fit.parameters if p.is_fitted)
    text = f"{base} with {moved or 'nothing moved'}, fitted on {len(fit.runs)} runs: {_named(fit)}"
    if validation is not None:
        error = validation.fitted
        text += (
            f"; error of ms per token, each run left out in turn: median {error.median:.1%}, 90th percentile "
            f"{error.p90:.1%}"
        )
    return text


def _named(fit: Fit) -> str:
    sessions = Counter(run.session for run in fit.runs)
    if len(fit.runs) <= MOST_NAMED or set(sessions) == {""}:
        return ", ".join(run.run_id for run in fit.runs)
    return ", ".join(f"{name or 'no session'} ({n})" for name, n in sorted(sessions.items()))
