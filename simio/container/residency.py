"""Where a plan has each tensor lie while tokens are generated: checked against the model, kept in the index."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from simio.errors import UsageError
from simio.plan.layout import multiplied_names
from simio.records.model import Model
from simio.records.tensor_plan import RESIDENCIES, TensorPlan

if TYPE_CHECKING:
    from simio.container.reading import Container

#: One of ``RESIDENCIES`` for every tensor of the model, in its order; None for what no token multiplies: the tables of
#: which rows are looked up, and what is idle. Empty: there is no plan.
Residency = tuple[str | None, ...]

_OTHER_MODEL = "make the plan for this very model, or pack without --plan"


def planned_residency(model: Model, plan: Sequence[TensorPlan]) -> Residency:
    """Where ``plan`` has the tensors of ``model`` lie.

    Raises ``UsageError`` for a plan of another model, one that leaves out what tokens multiply or holds what they do
    not, and for a model with routed experts.
    """
    places = {one.tensor: one.residency for one in plan}
    unknown = sorted(places.keys() - {tensor.name for tensor in model.tensors})
    if unknown:
        raise UsageError(f"the joint plan is of another model: {model.name} has no tensor {unknown[0]}", _OTHER_MODEL)
    if any(tensor.role == "expert" for tensor in model.tensors):
        raise UsageError(f"{model.name} has routed experts", "joint plans are for dense models")
    multiplied = multiplied_names(model)
    missing = [t.name for t in model.tensors if t.name in multiplied and t.name not in places]
    if missing:
        what = f"{missing[0]}" + (f" and {len(missing) - 1} more tensors" if missing[1:] else "")
        raise UsageError(f"the joint plan does not say where {what} of {model.name} should lie", _OTHER_MODEL)
    for name, place in places.items():
        if name not in multiplied and place != "flash":
            raise UsageError(
                f"the joint plan holds {name} in RAM, but no token multiplies it: of a table single rows are read",
                "leave it out of the plan, or place it on flash",
            )
    return tuple(places[t.name] if t.name in multiplied else None for t in model.tensors)


def check_residency(model: Model, residency: Residency) -> None:
    """Raises ``ValueError`` unless ``residency`` is empty or places exactly what tokens of ``model`` multiply."""
    if not residency:
        return
    multiplied = multiplied_names(model)
    for tensor, place in zip(model.tensors, residency, strict=True):
        if place not in (RESIDENCIES if tensor.name in multiplied else (None,)):
            raise ValueError(f"{tensor.name} cannot lie in {place!r}")
        if tensor.role == "expert":
            raise ValueError(f"{tensor.name} is placed, but belongs to an expert")


def tensor_plan(container: Container) -> tuple[TensorPlan, ...]:
    """The plan a container was packed with, as far as it is followed: stored types, codecs and places."""
    rows = zip(container.model.tensors, container.index.residency, strict=False)
    return tuple(
        TensorPlan(tensor.name, tensor.dtype.lower(), _codec(container, tensor.name), place)
        for tensor, place in rows
        if place is not None
    )


def _codec(container: Container, tensor: str) -> str:
    """The codec of the chunks of ``tensor``; raw where none became smaller."""
    numbers = [number for piece in container.pieces_of(tensor) for number in container.chunks_of(piece)]
    return container.index.codecs[max(container.index.table["codec"][numbers].tolist(), default=0)][0]


def described(n_tensors: Mapping[str, int]) -> str:
    """Tensors by residency in words; empty where there is no plan.

    >>> described({"flash": 20, "ram": 1})
    'tensors: 1 in RAM, 20 read at every use'
    """
    counts = [f"{n_tensors[place]} {words}" for place, words in _WORDS.items() if n_tensors.get(place)]
    return f"tensors: {', '.join(counts)}" if counts else ""


_WORDS = {"ram": "in RAM", "ram-compressed": "in RAM compressed", "flash": "read at every use"}


@dataclass(frozen=True, slots=True)
class Placed:
    """The tensors that a plan has lie in one place. ``n_bytes`` as they are multiplied, ``stored_bytes`` as packed."""

    name: str
    n_tensors: int
    n_weights: int
    n_bytes: int
    stored_bytes: int

    def to_json(self) -> dict[str, Any]:
        """The row as plain JSON types."""
        return {name: getattr(self, name) for name in self.__slots__}


def by_residency(container: Container) -> tuple[Placed, ...]:
    """What lies where, by a container's plan; nothing where it has none."""
    return tuple(row for place in RESIDENCIES if (row := _placed(container, place)).n_tensors)


def _placed(container: Container, place: str) -> Placed:
    rows = zip(container.model.tensors, container.index.residency, strict=False)
    own = [tensor for tensor, where in rows if where == place]
    chunks = [n for t in own for piece in container.pieces_of(t.name) for n in container.chunks_of(piece)]
    stored_bytes = int(container.index.table["stored_bytes"][chunks].sum())
    return Placed(place, len(own), sum(t.n_weights for t in own), sum(t.n_bytes for t in own), stored_bytes)
