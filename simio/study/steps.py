"""Which matrices a token reads and multiplies together: what the planner's slabs will be, before layouts are chosen."""

from __future__ import annotations

from dataclasses import dataclass

from simio.formats.execution_order import execution_order
from simio.plan.layout import SLAB_BYTES
from simio.study.choices import ChoiceTable, TensorChoice


@dataclass(frozen=True, slots=True)
class Group:
    """The matrices of one step, in the order of use; ``layer`` None: behind all layers."""

    layer: int | None
    choices: tuple[TensorChoice, ...]


def by_layer(table: ChoiceTable) -> list[Group]:
    """One step a layer; matrices in no layer (the head) are the last."""
    by_name = {choice.tensor.name: choice for choice in table.choices}
    tensors = (table.model.tensors[i] for i in execution_order(table.model))
    layers: dict[int | None, list[TensorChoice]] = {}
    for tensor in tensors:
        if tensor.name in by_name:
            layers.setdefault(tensor.layer, []).append(by_name[tensor.name])
    rest = layers.pop(None, [])
    groups = [Group(layer, tuple(layers[layer])) for layer in sorted(layers, key=lambda n: n or 0)]
    return [*groups, Group(None, tuple(rest))] if rest else groups


def by_slab(table: ChoiceTable) -> list[Group]:
    """Layers cut as the planner would cut tensors of their options' mean size: each goes where its middle lies.

    A tensor of several slabs stays whole: its parts are alike, so that (J1) is the same for one step as for many.
    """
    found: list[Group] = []
    for group in by_layer(table):
        slabs: dict[int, list[TensorChoice]] = {}
        begin = 0.0
        for choice in group.choices:
            size = mean_bytes(choice)
            slabs.setdefault(int((begin + size / 2) // SLAB_BYTES), []).append(choice)
            begin += size
        found += [Group(group.layer, tuple(slab)) for slab in slabs.values()]
    return found


def mean_bytes(choice: TensorChoice) -> float:
    """Raw bytes of a tensor, the mean of its options."""
    options = choice.options or (choice.kept,)
    return sum(option.raw_bytes for option in options) / len(options)
