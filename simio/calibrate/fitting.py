"""``simio calibrate --runs``: a handful of factors on a device file's numbers, fitted to measured runs.

Maximum a posteriori. The prior of each factor's logarithm is the file's own bounds, a split normal around 0; errors of
log time are robust (Cauchy), so that odd runs do not carry the fit away: on a phone they are all slow, when the system
is busy or memory short. The scale starts from the noise floor and becomes what the better half of the runs scatters;
what the fit leaves unexplained of all of them is told apart. Reference for the loss and its
Gauss-Newton Hessian: Triggs et al., Bundle adjustment, 1999 (as scipy.optimize.least_squares).

Runs of one session share what no input tells (the build of the engine, other apps), so each session has an error of its
own, as large as repeats differ: ten runs of one afternoon are not ten afternoons. It belongs to the noise (a random
effect: Laird and Ware, Biometrics 1982): no prediction has it, and the residual counts it.

Which parameters are fitted follows from the runs' inputs: those to which predictions respond. The others keep their
values. Cross-validation repeats all of it, the choice of parameters included, without the runs left out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import exp, sqrt
from statistics import median
from typing import Any

import numpy as np

from simio import catalog
from simio.calibrate.fit_lattice import STEP, Array, Lattice
from simio.calibrate.fit_parameters import Z90, Parameter, one_scaled, present, quantities, scaled, spread
from simio.calibrate.fit_results import CrossValidation, Fit, Found, Held
from simio.calibrate.fit_runs import Answers, of_device
from simio.errors import MissingPackageError, UsageError
from simio.predict.interval import REPEAT
from simio.records.device import Device
from simio.records.measurement import Measurement
from simio.validate.compare import relation

Progress = Callable[[int, int], None]
NDArrayInt = np.ndarray[Any, np.dtype[np.int_]]

#: Standard deviation of log time where nothing repeats: eight pairs of runs on one phone differ by 8 % on average.
NOISE = 0.08
#: So many runs' worth of belief that the scatter is the noise floor.
NOISE_RUNS = 4
#: A parameter is fitted where doubling it changes a prediction by more than about 1.4 %: |d log time / d log rate|.
RESPONSE = 0.02
#: A parameter keeps its value where less of what is known of it comes from the runs.
LEAST_TOLD = 0.05
#: Runs that are asked which single numbers they respond to.
N_ASKED = 12
#: No factor beyond e to this.
FARTHEST = 3.0
#: Fewer runs fit nothing.
LEAST_RUNS = 3
#: A model's own baseline needs so many runs, otherwise all models share a line.
LEAST_FOR_LINE = 3

#: What a cross-validation may leave out: a run, a run with its repeats, a session (what stands in front of the last
#: ``/`` of a run's id), a model whatever its quantization.
GROUPS = ("run", "setting", "session", "model")


@dataclass(frozen=True, slots=True)
class _Solution:
    logs: Array  # of every parameter
    active: tuple[int, ...]
    covariance: Array  # of the active ones
    told: Array  # share of what is known of each active one that comes from the runs and not from the file
    residual: float


class Fitter:
    """Fits and cross-validations over one set of runs; predictions are remembered between them."""

    def __init__(
        self,
        runs: Sequence[Measurement],
        device: str | Device,
        model_of: Mapping[str, str] | None = None,
        progress: Progress | None = None,
    ) -> None:
        """Raises ``UsageError`` where too few runs can be predicted, and ``MissingPackageError`` without scipy."""
        _scipy()
        path = device if isinstance(device, str) else ""
        self.device = catalog.load(device) if isinstance(device, str) else device
        mine, others = of_device(runs, self.device, path)
        self._is_cited = any(relation(self.device, run) != "apart" for run in mine)
        self.answers = Answers(self.device, mine, model_of, progress)
        self.runs = tuple(self.answers.runs)
        self.skipped = (*others, *self.answers.skipped)
        if len(self.runs) < LEAST_RUNS:
            reasons = Counter(s.reason for s in self.skipped).most_common()
            said = "".join(f"\n  {n:4} {reason}" for reason, n in reasons)
            raise UsageError(
                f"{len(self.runs)} runs of {self.device.id} can be predicted{said}",
                f"a fit needs {LEAST_RUNS} at least",
            )
        self.parameters = present(self.device)
        self._spreads = [spread(self.device, p) for p in self.parameters]
        self._lattice = Lattice(self._exact_log_ms, len(self.parameters))
        self._measured = np.log([run.measured_ms for run in self.runs])
        self._all = np.arange(len(self.runs))

    def fit(self) -> Fit:
        """The factors that all runs together ask for."""
        solution = self._solve(self._all)
        response = self._response(np.zeros(len(self.parameters)), self._all)
        logs = {p.name: float(x) for p, x in zip(self.parameters, solution.logs, strict=True)}
        predicted = np.exp(self._exact_log_ms(solution.logs))
        before = np.exp(self._exact_log_ms(np.zeros(len(self.parameters))))
        return Fit(
            device=scaled(self.device, logs),
            parameters=tuple(self._found(i, solution, float(response[i])) for i in range(len(self.parameters))),
            residual=solution.residual,
            runs=self.runs,
            predicted_ms=tuple(predicted.tolist()),
            before_ms=tuple(before.tolist()),
            skipped=self.skipped,
        )

    def touched(self, found: Fit) -> dict[str, list[bool]]:
        """For every number of each fitted parameter, whether predictions of these runs respond to it alone.

        Asked of one run of each model and runtime.
        """
        kinds = {(q.model, q.runtime): i for i, q in enumerate(self.answers.questions)}
        asked = list(kinds.values())[:N_ASKED]
        key = self._plan_logs(np.array([found.logs.get(p.name, 0.0) for p in self.parameters]))
        here = {q: self.answers.log_ms(q, found.device, key) for q in asked}
        touched: dict[str, list[bool]] = {}
        for p in self.parameters:
            if p.name in found.logs:
                n = len(quantities(found.device, p))
                tried = [one_scaled(found.device, p, i, STEP) for i in range(n)]
                touched[p.name] = [
                    any(abs(self.answers.log_ms(q, device, key) - here[q]) >= RESPONSE * STEP for q in asked)
                    for device in tried
                ]
        return touched

    def ways(self) -> list[str]:
        """What can be left out here, each way that is not the same as the one before it; by run always."""
        found = ["run"]
        for by in GROUPS[1:]:
            n = len(self.groups(by))
            if 1 < n < len(self.groups(found[-1])) or (1 < n < len(self.runs) and by == "model"):
                found.append(by)
        return found

    def fit_and_validate(self, progress: Progress | None = None) -> tuple[Fit, list[CrossValidation]]:
        """The fit on all runs, and a cross-validation each way; ``progress`` counts fits."""
        ways = self.ways()
        total, done = 1 + sum(len(self.groups(by)) for by in ways), 1
        report = progress or (lambda _done, _total: None)
        report(0, total)
        found = self.fit()
        validations = []
        for by in ways:
            validations.append(self.cross_validate(by, _after(done, total, report)))
            done += len(self.groups(by))
        return found, validations

    @property
    def is_cited(self) -> bool:
        """Whether the device file already takes numbers from where a run comes from, or was fitted."""
        return self._is_cited

    def groups(self, by: str) -> dict[str, list[int]]:
        """Indices of the runs that are left out together."""
        if by not in GROUPS:
            raise UsageError(f"by '{by}'", f"leave out by one of {', '.join(GROUPS)}")
        named: dict[str, list[int]] = {}
        for i, run in enumerate(self.runs):
            names = {"run": run.run_id, "setting": run.repeat_of or run.run_id, "session": run.session or "(none)",
                     "model": run.model}  # fmt: skip
            named.setdefault(names[by], []).append(i)
        return named

    def cross_validate(self, by: str = "run", progress: Progress | None = None) -> CrossValidation:
        """Leave out each group, fit on the others, predict the group. Raises ``UsageError`` below two groups."""
        groups = self.groups(by)
        if len(groups) < 2:
            raise UsageError(f"all runs are of one {by}: nothing can be left out", "cross-validate by run")
        held: dict[int, Held] = {}
        for done, (name, left_out) in enumerate(groups.items(), start=1):
            others = np.setdiff1d(self._all, left_out)
            held |= dict(zip(left_out, self._hold(name, left_out, others), strict=True))
            if progress:
                progress(done, len(groups))
        return CrossValidation(by, len(groups), tuple(held[i] for i in self._all.tolist()), self.skipped)

    def _hold(self, name: str, left_out: list[int], others: NDArrayInt) -> list[Held]:
        solution = self._solve(others)
        _, slopes = self._lattice(solution.logs, solution.active)
        origin = np.zeros(len(self.parameters))
        everything = tuple(range(len(self.parameters)))
        before, prior_slopes = self._lattice(origin, everything)
        variance = np.diag([((down + up) / 2) ** 2 for down, up in self._spreads])
        lines = self._baseline(others)
        device = self._device(solution.logs)
        found = []
        for i in left_out:
            run = self.runs[i]
            value = self.answers.log_ms(run.question, device, self._plan_logs(solution.logs))
            sd = sqrt(float(slopes[i] @ solution.covariance @ slopes[i]) + solution.residual**2)
            sd_before = sqrt(float(prior_slopes[i] @ variance @ prior_slopes[i]) + REPEAT**2)
            start = float(before[i])
            found.append(
                Held(
                    run.run_id,
                    name,
                    run.measured_ms,
                    exp(value),
                    exp(value - Z90 * sd),
                    exp(value + Z90 * sd),
                    exp(start),
                    exp(start - Z90 * sd_before),
                    exp(start + Z90 * sd_before),
                    lines(i),
                )
            )
        return found

    def _baseline(self, rows: NDArrayInt) -> Callable[[int], float]:
        """``ms = C + bytes/bandwidth``, neither negative, by relative errors; a line a model where runs suffice."""
        from scipy.optimize import nnls

        n_bytes = np.array([self.answers.questions[run.question].n_bytes for run in self.runs]) / 1e9
        ms = np.exp(self._measured)
        models = np.array([run.model for run in self.runs])

        def line(chosen: NDArrayInt) -> Array:
            design = np.column_stack([np.ones(len(chosen)), n_bytes[chosen]]) / ms[chosen, None]
            solution: Array = nnls(design, np.ones(len(chosen)))[0]
            return solution

        def of(i: int) -> float:
            same = rows[models[rows] == models[i]]
            c, slope = line(same if len(same) >= LEAST_FOR_LINE else rows)
            return float(c + slope * n_bytes[i])

        return of

    def _device(self, logs: Array) -> Device:
        return scaled(self.device, {p.name: float(x) for p, x in zip(self.parameters, logs, strict=True)})

    def _plan_logs(self, logs: Array) -> list[float]:
        return [float(x) for p, x in zip(self.parameters, logs, strict=True) if p.moves_plan]

    def _exact_log_ms(self, logs: Array) -> Array:
        device, key = self._device(logs), self._plan_logs(logs)
        n = len(self.answers.questions)
        return self.answers.of_runs([self.answers.log_ms(q, device, key) for q in range(n)])

    def _response(self, logs: Array, rows: NDArrayInt) -> Array:
        """Per parameter the largest |d log time / d log factor| among ``rows``, near ``logs`` and at its bounds."""
        centre = np.round(logs / STEP) * STEP
        found = np.zeros(len(self.parameters))
        here, _ = self._lattice(centre, ())
        for i, (down, up) in enumerate(self._spreads):
            for by in (-STEP, STEP, -_on_lattice(Z90 * down), _on_lattice(Z90 * up)):
                moved = centre.copy()
                moved[i] += by
                there, _ = self._lattice(np.round(moved / STEP) * STEP, ())
                found[i] = max(found[i], float(np.abs((there - here)[rows] / by).max()))
        return found

    def _solve(self, rows: NDArrayInt) -> _Solution:
        """Fit ``rows``; what begins to matter at the optimum joins, and what they say nothing of stays as it was."""
        logs = np.zeros(len(self.parameters))
        active: set[int] = set()
        silent: set[int] = set()
        solution = self._solve_for(rows, ())
        for _ in range(2 * len(self.parameters)):
            joining = {i for i, r in enumerate(self._response(logs, rows)) if r >= RESPONSE} - active - silent
            if not joining and not (silent & active):
                break
            active = (active | joining) - silent
            solution = self._solve_for(rows, tuple(sorted(active)))
            logs = solution.logs
            silent |= {i for k, i in enumerate(solution.active) if solution.told[k] < LEAST_TOLD}
        return solution

    def _solve_for(self, rows: NDArrayInt, active: tuple[int, ...]) -> _Solution:
        noise = self._noise(rows)
        sigma, residual, logs = noise, noise, np.zeros(len(self.parameters))
        covariance = np.zeros((len(active), len(active)))
        for _ in range(8):
            logs, covariance, n_free, shared = self._least_squares(rows, active, logs, sigma, noise)
            value, _ = self._lattice(logs, active)
            errors = value[rows] - self._measured[rows]
            scatter = _scatter(errors, n_free)
            before, n = sigma, len(rows)
            sigma = sqrt((NOISE_RUNS * noise**2 + n * _half(errors + shared) ** 2) / (NOISE_RUNS + n))
            residual = sqrt((NOISE_RUNS * noise**2 + n * scatter**2) / (NOISE_RUNS + n))
            if abs(sigma / before - 1) < 0.02:
                break
        prior = np.array([self._width(i, logs[i]) ** 2 for i in active])
        return _Solution(logs, active, covariance, 1 - np.diag(covariance) / prior, residual)

    def _width(self, i: int, log_factor: float) -> float:
        down, up = self._spreads[i]
        return down if log_factor < 0 else up

    def _least_squares(
        self, rows: NDArrayInt, active: tuple[int, ...], start: Array, sigma: float, of_session: float
    ) -> tuple[Array, Array, float, Array]:
        """Logarithms of the factors, their covariance, how many parameters the runs decide, and what each run shares.

        ``of_session``: standard deviation of what a session has in common.
        """
        if not active:
            return start, np.zeros((0, 0)), 0.0, np.zeros(len(rows))
        chosen, n, k = list(active), len(rows), len(active)
        member = self._members(rows)
        common = np.full(member.shape[1], of_session)
        sides = np.array([self._spreads[i] for i in active])

        def full(x: Array) -> Array:
            logs = np.zeros(len(self.parameters))
            logs[chosen] = x[:k]
            return logs

        def width(x: Array) -> Array:
            return np.concatenate([np.where(x[:k] < 0, sides[:, 0], sides[:, 1]), common])

        def residuals(x: Array) -> Array:
            value, _ = self._lattice(full(x), active)
            return np.concatenate([(value[rows] + member @ x[k:] - self._measured[rows]) / sigma, x / width(x)])

        def slopes(x: Array) -> Array:
            _, slope = self._lattice(full(x), active)
            return np.vstack([np.hstack([slope[rows], member]) / sigma, np.diag(1 / width(x))])

        def robust(squares: Array) -> Array:
            """Cauchy for the runs, plain squares for the prior."""
            t = 1 + squares[:n]
            rho = np.array([squares, np.ones_like(squares), np.zeros_like(squares)])
            rho[:, :n] = np.log(t), 1 / t, -1 / t**2
            return rho

        found = _scipy()(
            residuals, np.append(start[chosen], 0 * common), jac=slopes, bounds=(-FARTHEST, FARTHEST), loss=robust,
            max_nfev=200, xtol=1e-6, ftol=1e-8,
        )  # fmt: skip
        everything: Array = np.linalg.inv(found.jac.T @ found.jac)
        covariance = everything[:k, :k]
        decided = float(np.trace((everything @ (found.jac[:n].T @ found.jac[:n]))[:k, :k]))
        return full(found.x), covariance, decided, member @ found.x[k:]

    def _noise(self, rows: NDArrayInt) -> float:
        """Standard deviation of log time between runs that repeat each other; ``NOISE`` where fewer than 4 repeat one.

        Each run against the median of its repeats: pairs would count a group of four six times.
        """
        repeats: dict[str, list[float]] = {}
        for i in rows.tolist():
            run = self.runs[i]
            repeats.setdefault(run.repeat_of or str(run.question), []).append(float(self._measured[i]))
        apart = [
            abs(one - median(group[:i] + group[i + 1 :])) * sqrt(1 - 1 / len(group))
            for group in repeats.values() if len(group) > 1
            for i, one in enumerate(group)
        ]  # fmt: skip
        n_repeats = sum(len(group) - 1 for group in repeats.values())
        return max(REPEAT, median(apart) / 0.6745) if n_repeats >= NOISE_RUNS else NOISE

    def _members(self, rows: NDArrayInt) -> Array:
        """1 where a run is of a session, shape (``rows``, sessions); no columns where all are of one or say none."""
        of_row = [self.runs[i].session for i in rows.tolist()]
        names = sorted({name for name in of_row if name})
        if len(set(of_row)) < 2:
            names = []
        return np.array([[float(name == other) for other in names] for name in of_row]).reshape(len(rows), len(names))

    def _found(self, i: int, solution: _Solution, response: float) -> Found:
        p: Parameter = self.parameters[i]
        down, up = self._spreads[i]
        prior = {"prior_low": exp(-Z90 * down), "prior_high": exp(Z90 * up)}
        if i not in solution.active:
            return Found(p.name, p.places, p.meaning, False, response, **prior)
        k = solution.active.index(i)
        x, variance = float(solution.logs[i]), float(solution.covariance[k, k])
        from_runs = max(0.0, 1 / variance - 1 / self._width(i, x) ** 2)
        low, high = (Z90 / sqrt(from_runs + 1 / side**2) for side in (down, up))
        return Found(p.name, p.places, p.meaning, True, response, exp(x), exp(x - low), exp(x + high), **prior)


def fit(runs: Sequence[Measurement], device: str | Device, model_of: Mapping[str, str] | None = None) -> Fit:
    """Fit ``device``, an id, a path or a record, to those of ``runs`` that are of it."""
    return Fitter(runs, device, model_of).fit()


def cross_validate(
    runs: Sequence[Measurement],
    device: str | Device,
    by: str = "run",
    model_of: Mapping[str, str] | None = None,
    progress: Progress | None = None,
) -> CrossValidation:
    """Every run predicted from a fit without its group; ``by`` is one of ``GROUPS``."""
    return Fitter(runs, device, model_of).cross_validate(by, progress)


def _after(before: int, total: int, report: Progress) -> Progress:
    return lambda done, _: report(before + done, total)


def _scipy() -> Any:
    try:
        from scipy.optimize import least_squares
    except ModuleNotFoundError as error:
        raise MissingPackageError("fitting a device file needs scipy", "pip install 'simio[fit]'") from error
    return least_squares


def _on_lattice(value: float) -> float:
    return max(1, round(value / STEP)) * STEP


def _half(errors: Array) -> float:
    """Standard deviation that the better half of ``errors`` suggests: what is odd does not widen it."""
    return float(np.median(np.abs(errors))) / 0.6745


def _scatter(errors: Array, n_free: float) -> float:
    """Standard deviation whose 80 % interval holds one more error with 80 %, for the parameters spent on them.

    Of ``n`` errors that is the ``⌈0.8·(n + 1)⌉``-th (split conformal: Lei et al., JASA 113, 2018): the plain quantile
    of few is too small for a run that was not among them.
    """
    n = len(errors)
    of_next = np.sort(np.abs(errors))[min(n, -(-4 * (n + 1) // 5)) - 1]
    return float(of_next) / Z90 * sqrt(n / max(1.0, n - n_free))
