"""The best way to run a model on a device: codec, quantizer and place of every tensor, cache, prefetch, threads.

What is linear is solved (``placing.py``), what is not is searched (``grid.py``, ``refining.py``); docs/optimize.md. The
room can be called as its verb: ``simio.optimize(device="pixel8", model="llama-2-7b:int8")``.
"""

from __future__ import annotations

from simio.callable_room import make_callable
from simio.optimize.optimizing import optimize
from simio.records.optimum import Goal, Optimum

make_callable(__name__, optimize)

__all__ = ["Goal", "Optimum", "optimize"]
