"""Hold every byte of a container against its checksums."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from simio.container.reading import Container
from simio.errors import ContainerError, UsageError
from simio.profiling.host import n_usable_cpus
from simio.profiling.memory import keep_freed_memory
from simio.profiling.workers import for_each


@dataclass(frozen=True, slots=True)
class Damage:
    """A chunk that does not give back what was packed. ``what`` says which and how."""

    chunk: int
    offset: int  # in the container [bytes]
    what: str


def find_damage(
    container: Container, *, n_workers: int | None = None, progress: Callable[[int, int], None] | None = None
) -> tuple[Damage, ...]:
    """Every damaged chunk, in order. Header and index were verified when the container was opened.

    ``progress(done, total)`` counts bytes of the payload.
    """
    if n_workers is not None and n_workers < 1:
        raise UsageError(f"cannot verify with {n_workers} workers", "leave it out to use every core")
    found: list[Damage] = []
    total_bytes = sum(container.stored_span(number)[1] for number in range(container.n_chunks))

    def check(number: int) -> int:
        offset, n_bytes = container.stored_span(number)
        try:
            container.read_chunk(number)
        except ContainerError as error:
            found.append(Damage(number, offset, error.message))
        return n_bytes

    keep_freed_memory()
    tick = None if progress is None else lambda done: progress(done, total_bytes)
    for_each(range(container.n_chunks), check, n_workers or n_usable_cpus(), tick)
    return tuple(sorted(found, key=lambda damage: damage.chunk))
