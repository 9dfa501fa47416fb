"""What ``simio calibrate --runs`` prints: the factors, the errors of runs left out, and what no fit explains."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from simio.calibrate.fit_results import CrossValidation, Figures, Fit

_LEFT_OUT = {
    "run": "each run left out",
    "setting": "each run left out with its repeats",
    "session": "each session left out",
    "model": "each model left out",
}


def describe(fit: Fit, validations: Sequence[CrossValidation], is_cited: bool) -> str:
    """The whole answer."""
    lines = [f"{len(fit.runs)} runs of {fit.device.name}, {len(fit.skipped)} left out", "", *_factors(fit), ""]
    lines.append(f"  {'error of ms per token':38} {'median':>8} {'90th pc':>8} {'worst':>8} {'covered':>8}")
    for one in validations:
        lines.append(f"{_LEFT_OUT[one.by]} ({one.n_groups})")
        lines += [_line("fit on the others", one.fitted), _line("the file before", one.before)]
        lines.append(_line("C + bytes/bandwidth, per model", one.baseline))
    lines += ["", f"unexplained: {fit.residual:.1%} of a run's time (one standard deviation)"]
    if is_cited:
        lines.append("the file before takes numbers from where these runs come from: its errors are not held out")
    if fit.skipped:
        reasons = Counter(one.reason.split(": ")[0] for one in fit.skipped)
        lines += ["", "left out:", *(f"  {count:4}  {reason}" for reason, count in reasons.most_common())]
    return "\n".join(lines)


def _factors(fit: Fit) -> list[str]:
    lines = [f"  {'factor':18} {'value':>7}  {'80 % interval':17} {'file allowed':17}"]
    for p in fit.parameters:
        if p.is_fitted:
            lines.append(
                f"  {p.name:18} {p.factor:7.3f}  {p.low:7.3f} – {p.high:<7.3f} {p.prior_low:7.2f}"
                f" – {p.prior_high:<7.2f} {p.meaning}"
            )
    still = [p.name for p in fit.parameters if not p.is_fitted]
    return [*lines, f"  kept, since these runs say next to nothing of them: {', '.join(still)}"] if still else lines


def _line(what: str, f: Figures) -> str:
    covered = "–" if f.coverage is None else f"{f.coverage:.0%}"
    return f"  {what:38} {f.median:8.1%} {f.p90:8.1%} {f.worst:8.1%} {covered:>8}"
