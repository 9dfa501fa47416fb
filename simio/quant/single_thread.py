"""Small matrix products on one thread: more would wait for each other longer than they compute."""

from __future__ import annotations

from contextlib import AbstractContextManager
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from threadpoolctl import ThreadpoolController


def single_threaded() -> AbstractContextManager[Any]:
    """Within it numpy's BLAS uses the calling thread only."""
    limit: AbstractContextManager[Any] = _controller().limit(limits=1, user_api="blas")
    return limit


@cache
def _controller() -> ThreadpoolController:
    from threadpoolctl import ThreadpoolController  # looks through all loaded libraries

    return ThreadpoolController()
