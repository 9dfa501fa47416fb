"""simio: predict LLM token latency on devices whose RAM is smaller than the weights.

The verbs of the command line as functions: ``simio.predict``, ``simio.optimize``, ``simio.compare``,
``simio.sensitivity``, ``simio.break_even``, ``simio.sweep``; docs/python.md shows them.
Nothing is imported before it is used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from simio.optimize import optimize
    from simio.predict import predict
    from simio.records.scenario import Scenario
    from simio.sweep import sweep
    from simio.whatif.break_even import break_even
    from simio.whatif.comparison import compare
    from simio.whatif.sensitivity import sensitivity

__version__ = "0.1.0"
__all__ = ["Scenario", "__version__", "break_even", "compare", "optimize", "predict", "sensitivity", "sweep"]

_HOME = {
    "predict": "simio.predict",
    "optimize": "simio.optimize",
    "compare": "simio.whatif.comparison",
    "sensitivity": "simio.whatif.sensitivity",
    "break_even": "simio.whatif.break_even",
    "sweep": "simio.sweep",
    "Scenario": "simio.records.scenario",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'simio' has no attribute '{name}'")
    from importlib import import_module

    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
