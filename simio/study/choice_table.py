"""The choices of a model, from a compressibility study: which records are a tensor's own, and what the study lacks.

A study gives each tensor of a preset, which has shapes only, the means of its role: so real weights of a small model
stand for those of a large one. A model file wants the study of its own weights.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from simio.errors import UsageError
from simio.records.model import Model, Tensor
from simio.study.choices import ChoiceTable, TensorChoice, as_stored, multiplied, option_of
from simio.study.role_means import by_role_of, scaled
from simio.study.study_file import Record, StudyFile

#: What a quality budget can be counted in; see ``simio.study.choices.costed``.
MEASURES = ("weight_error", "output_error", "kl")


def table(model: Model, study: StudyFile, measure: str) -> ChoiceTable:
    """The choices of ``model``, of what was measured in ``measure``; notes say what was not.

    Raises ``UsageError`` where nothing was, where nothing fits the model, or where it is another model's study.
    """
    if measure not in MEASURES:
        raise UsageError(f"'{measure}' is no measure of quality", f"use one of {', '.join(MEASURES)}")
    if any(t.role == "expert" for t in model.tensors):
        raise UsageError(f"{model.name} has routed experts", "joint plans are for dense models")
    tensors = multiplied(model)
    if not tensors:
        raise UsageError(f"{model.name} has no matrices", "give a decoder")
    origin = _origin(model, study)
    measured = [r for r in study.records if getattr(r, measure) is not None]
    if not measured:
        raise _not_measured(study.records, measure)
    known = {(r.tensor, r.n_weights) for r in study.records}
    is_own = any((t.name, t.n_weights) in known for t in tensors)
    every = _known(tensors, study.records, is_own)
    choices = [_measured(choice, measure, sum(t.n_weights for t in tensors)) for choice in every]
    if not any(choice.options for choice in choices):
        raise UsageError(f"the study has no tensor of {model.name}, nor of its roles", "give the study of this model")
    borrowed = 0 if is_own else sum(1 for _, records in every if records)
    notes = (f"{borrowed} of {len(choices)} tensors take the means of their role in the study",) if borrowed else ()
    made = ChoiceTable(model, tuple(choices), measure)
    chosen = list(dict.fromkeys(quant for quant, _ in made.labels))
    missing = [*_missing(every, measure), *_not_everywhere(every, chosen)]
    return replace(made, notes=(*origin, *notes, *missing))


def _origin(model: Model, study: StudyFile) -> list[str]:
    """A note where ``study`` is not known to be of ``model``'s weights; raises ``UsageError`` where it cannot be."""
    if study.digest == model.digest:
        return []
    of = f"of {study.model}" if study.model else "of another model"
    here = {(t.name, t.n_weights) for t in model.tensors}
    strange = next((r for r in study.records if (r.tensor, r.n_weights) not in here), None)
    if model.source == "preset":
        return []
    if strange is not None:
        raise UsageError(
            f"the study is {of}, not of {model.name}, which has no {strange.tensor} of {strange.n_weights} weights",
            "study this model: simio study compressibility MODEL --json > study.json; "
            "or name a preset (name:quant), whose tensors take the means of their roles",
        )
    if study.digest is None:
        return []
    return [f"the study is {of} with other weights: names and sizes of the tensors are the same, contents are not"]


def _not_measured(records: Iterable[Record], measure: str) -> UsageError:
    other = next((m for m in MEASURES if any(getattr(r, m) is not None for r in records)), None)
    run = "study the model again with --quality; layouts that leave matrices as they are have no kl"
    return UsageError(f"the study has no {measure}", f"use --measure {other}, or {run}" if other else run)


#: A tensor with what the study says of it, a record for each quantizer and codec.
_Known = tuple[Tensor, list[Record]]


def _known(tensors: list[Tensor], records: Iterable[Record], is_own: bool) -> list[_Known]:
    """The records of each of ``tensors``: its own, or the means of its role."""
    labels = list(dict.fromkeys((r.quant, r.codec) for r in records))
    if is_own:
        by_name = {(r.tensor, r.n_weights, r.quant, r.codec): r for r in records}
        found = ((t, [by_name.get((t.name, t.n_weights, *label)) for label in labels]) for t in tensors)
    else:
        by_role = dict(by_role_of(records))
        found = ((t, [scaled(by_role.get((t.role, *label)), t) for label in labels]) for t in tensors)
    return [(tensor, [r for r in own if r is not None]) for tensor, own in found]


def _measured(known: _Known, measure: str, n_weights: int) -> TensorChoice:
    """The options whose quality was measured."""
    tensor, records = known
    options = tuple(option_of(r, tensor, measure, n_weights) for r in records if getattr(r, measure) is not None)
    return TensorChoice(tensor, as_stored(tensor), options)


def _missing(every: list[_Known], measure: str) -> list[str]:
    """Notes on quantizers, and on tensors, that the study has without ``measure``."""
    lacks: dict[str, list[str]] = {}
    has: set[str] = set()
    for tensor, records in every:
        has |= {r.quant for r in records if getattr(r, measure) is not None}
        for quant in {r.quant: None for r in records if getattr(r, measure) is None}:
            lacks.setdefault(quant, []).append(tensor.name)
    without = [quant for quant in lacks if quant not in has]
    notes = [f"{', '.join(without)}: no {measure} in the study, so not chosen"] if without else []
    by_tensors: dict[tuple[str, ...], list[str]] = {}
    for quant, names in lacks.items():
        if quant in has:
            by_tensors.setdefault(tuple(names), []).append(quant)
    return notes + [
        f"{_some(names)}: no {measure} in the study under {', '.join(quants)}, so as stored beside them"
        for names, quants in by_tensors.items()
    ]


def _not_everywhere(every: list[_Known], chosen: list[str]) -> list[str]:
    """A note on those of ``chosen`` that do not take all the tensors (rows that are no whole groups, say)."""
    by_count: dict[int, list[str]] = {}
    for quant in chosen:
        n = sum(any(r.quant == quant for r in records) for _, records in every)
        by_count.setdefault(n, []).append(quant)
    return [
        f"{', '.join(quants)}: {n} of {len(every)} tensors in the study; the others stay as stored beside them"
        for n, quants in by_count.items()
        if n < len(every)
    ]


def _some(names: tuple[str, ...]) -> str:
    return names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} more"
