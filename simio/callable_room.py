"""A room that can be called as its verb: ``simio.predict(…)`` is the package ``simio.predict`` once it was imported."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any


def make_callable(room: str, verb: Callable[..., Any]) -> None:
    """Let the imported package ``room`` be called like ``verb``, which has its name."""

    class Room(ModuleType):
        def __call__(self, *args: Any, **kwargs: Any) -> Any:
            return verb(*args, **kwargs)

    sys.modules[room].__class__ = Room
