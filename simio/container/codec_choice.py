"""Which codec stores which tensor: one for all, or a plan file.

``{"default": "zstd:1", "tensors": {"output.weight": "raw", "blk.*.ffn_*": "fields(zstd:1)"}}``. A tensor's own name
wins over patterns (``*``, ``?``, ``[…]``), the first pattern that fits over later ones; the default takes the rest, and
the bytes outside tensors. A plan of `simio study joint` (docs/joint.md) is one, too: of the file that has its layouts;
where it has tensors lie is kept in the container.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from simio.codecs import Codec, parse
from simio.container.residency import Residency, planned_residency
from simio.errors import SimioError, UnknownNameError, UsageError
from simio.profiling import profile_file
from simio.records.model import Model
from simio.records.tensor_plan import TensorPlan

DEFAULT = "zstd:1"
_EXAMPLE = 'write {"default": "zstd:1", "tensors": {"output.weight": "raw"}}'
_WILD = frozenset("*?[")


@dataclass(frozen=True, slots=True)
class CodecChoice:
    """``default``, and codecs by tensor name or pattern in the order given; tensors that a joint plan counts on."""

    default: Codec
    tensors: dict[str, Codec] = field(default_factory=dict)
    dtypes: dict[str, str] = field(default_factory=dict)
    n_weights: dict[str, int] = field(default_factory=dict)
    plan: tuple[TensorPlan, ...] = ()  # a joint plan: it says where tensors lie, too

    @classmethod
    def everywhere(cls, codec: str) -> CodecChoice:
        """One codec for all; raises as ``simio.codecs.parse``."""
        return cls(parse(codec))

    @classmethod
    def load(cls, path: Path) -> CodecChoice:
        """The plan in a JSON file.

        Raises ``UsageError`` for a file that is none, ``UnknownNameError`` for an unknown key or codec.
        """
        try:
            table = json.loads(path.read_bytes(), object_pairs_hook=_without_repeats)
        except OSError as error:
            raise UsageError(f"{path}: cannot be read: {error.strerror}", _EXAMPLE) from error
        except (UnicodeDecodeError, RecursionError) as error:
            raise UsageError(f"{path}: not a codec plan, not JSON", _EXAMPLE) from error
        except ValueError as error:
            raise UsageError(f"{path}: not a codec plan: {error}", _EXAMPLE) from error
        if not isinstance(table, dict):
            raise UsageError(f"{path}: not a codec plan: JSON, but no table", _EXAMPLE)
        if "tensor_plan" in table:
            return cls._of_joint_plan(path)
        for key in ("simio_profile", "rows"):
            if key in table:
                what = "a profile" if key == "simio_profile" else "a study"
                raise UsageError(f"{path}: {what}, no plan", f"{_EXAMPLE}, or plan with `simio study joint … -o FILE`")
        unknown = [key for key in table if key not in ("default", "tensors")]
        if unknown:
            raise UnknownNameError(f"key in {path}", unknown[0], ("default", "tensors"))
        tensors = table.get("tensors", {})
        if not isinstance(tensors, dict):
            raise UsageError(f"{path}: not a codec plan: 'tensors' is no table of names and codecs", _EXAMPLE)
        default = _codec(table.get("default", DEFAULT), f"{path}: default")
        return cls(default, {name: _codec(text, f"{path}: {name}") for name, text in tensors.items()})

    @classmethod
    def _of_joint_plan(cls, path: Path) -> CodecChoice:
        profile = profile_file.load(path)
        if not profile.plan:
            raise UsageError(f"{path}: a joint plan without tensors", f"{_EXAMPLE}, or plan again")
        dtypes = {tensor.name: tensor.dtype for tensor in profile.model.tensors}
        codecs = {one.tensor: _codec(one.codec, f"{path}: {one.tensor}") for one in profile.plan}
        n_weights = {tensor.name: tensor.n_weights for tensor in profile.model.tensors}
        return cls(parse("raw"), codecs, dtypes, n_weights, profile.plan)

    def residency_of(self, model: Model) -> Residency:
        """Where the joint plan, if it is one, has every tensor of ``model`` lie; errors as ``planned_residency``."""
        return planned_residency(model, self.plan) if self.plan else ()

    def check(self, model: Model) -> None:
        """Raises ``UsageError`` where ``model`` has other tensors than a joint plan, or one in another layout."""
        here = {tensor.name: tensor for tensor in model.tensors}
        missing = [name for name in self.dtypes if name not in here]
        if missing:
            raise UsageError(
                f"the joint plan is of another model: {model.name} has no {_first(missing)}",
                "plan for this model: simio study joint MODEL --study STUDY --device DEVICE --quality BUDGET -o FILE",
            )
        resized = [name for name, n in self.n_weights.items() if here[name].n_weights != n]
        if resized:
            n, here_n = self.n_weights[resized[0]], here[resized[0]].n_weights
            raise UsageError(
                f"the joint plan is of another model: {_first(resized)} has {n} weights there, "
                f"{here_n} in {model.name}",
                "make the plan for this very model, or pack without --plan",
            )
        others = [name for name, tensor in here.items() if self.dtypes.get(name, tensor.dtype) != tensor.dtype]
        if others:
            planned, found = self.dtypes[others[0]], here[others[0]].dtype
            raise UsageError(
                f"the joint plan stores {_first(others)} in another layout: {planned} instead of {found}",
                "pack does not quantize: quantize the model as the plan says, then pack that file",
            )

    def for_tensors(self, names: Iterable[str]) -> list[Codec]:
        """The codec of each tensor; raises ``UnknownNameError`` for a name or pattern that fits none."""
        names = list(names)
        unused = dict.fromkeys(self.tensors)
        chosen = []
        for name in names:
            fits = [p for p in self.tensors if p == name or (_WILD.intersection(p) and fnmatchcase(name, p))]
            for pattern in fits:
                unused.pop(pattern, None)
            key = name if name in self.tensors else next(iter(fits), None)
            chosen.append(self.default if key is None else self.tensors[key])
        for pattern in unused:
            raise UnknownNameError("tensor", pattern, names)
        return chosen


def _first(names: list[str]) -> str:
    return names[0] + (f" (and {len(names) - 1} more)" if len(names) > 1 else "")


def _codec(text: Any, where: str) -> Codec:
    if not isinstance(text, str):
        raise UsageError(f"{where}: {text!r} is no codec", _EXAMPLE)
    try:
        return parse(text)
    except SimioError as error:
        error.message = f"{where}: {error.message}"
        raise


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) < len(pairs):
        raise ValueError("a name is given twice")
    return table
