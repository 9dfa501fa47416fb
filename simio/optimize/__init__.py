"""The best way to run a model on a device: codec, quantizer and place of every tensor, cache, prefetch, threads.

What is linear is solved (``placing.py``), what is not is searched (``grid.py``, ``refining.py``); docs/optimize.md. The
room can be called as its verb: ``simio.optimize(device="pixel8", model="llama-2-7b:int8")``.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

from simio.optimize.optimizing import optimize
from simio.records.optimum import Goal, Optimum


class _Verb(ModuleType):
    """A room that can be called: ``simio.optimize(…)`` is this module once anything in it has been imported."""

    def __call__(self, *args: Any, **kwargs: Any) -> Optimum:
        return optimize(*args, **kwargs)


sys.modules[__name__].__class__ = _Verb

__all__ = ["Goal", "Optimum", "optimize"]
