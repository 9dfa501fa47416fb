"""Give back the files a container was packed from, byte for byte."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from simio.container.draft import Draft, writing
from simio.container.reading import Container
from simio.errors import UsageError, WriteError
from simio.profiling.host import n_usable_cpus
from simio.profiling.memory import keep_freed_memory
from simio.profiling.workers import for_each
from simio.units import format_bytes

_HINT = "free some space or choose another directory with -o"


def unpack(
    container: Container,
    directory: Path,
    *,
    n_workers: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[Path, ...]:
    """Write the original files into ``directory``, verified chunk by chunk; on any error none of them is left there.

    Raises ``UsageError`` when one of them is already there, ``ContainerError`` on damage, ``WriteError`` when the
    disk or the directory refuses.
    """
    if n_workers is not None and n_workers < 1:
        raise UsageError(f"cannot unpack with {n_workers} workers", "leave it out to use every core")
    targets = tuple(directory / name for name, _ in container.index.files)
    if directory.exists() and not directory.is_dir():
        raise UsageError(f"{directory} is a file", "name a directory with -o")
    for target in targets:
        if target.exists():
            raise UsageError(f"{target} is already there", "choose another directory with -o, or move it away")
    is_new = not directory.exists()
    with writing(directory, _HINT):
        directory.mkdir(parents=True, exist_ok=True)
    try:
        _check_space(container, directory)
        _write_all(container, targets, n_workers or n_usable_cpus(), progress)
    except BaseException:
        if is_new and not any(directory.iterdir()):
            directory.rmdir()
        raise
    return targets


def _check_space(container: Container, directory: Path) -> None:
    needed, free = sum(n_bytes for _, n_bytes in container.index.files), shutil.disk_usage(directory).free
    if free < needed:
        raise WriteError(
            f"cannot unpack to {directory}: {format_bytes(needed)} needed, {format_bytes(free)} free", _HINT
        )


def _write_all(
    container: Container, targets: tuple[Path, ...], n_workers: int, progress: Callable[[int, int], None] | None
) -> None:
    total_bytes = sum(n_bytes for _, n_bytes in container.index.files)
    with ExitStack() as stack:
        drafts = [stack.enter_context(Draft(target, _HINT)) for target in targets]

        def write(number: int) -> int:
            piece, start = container.place(number)
            raw = container.read_chunk(number)
            drafts[piece.file].write(raw, start)
            return len(raw)

        try:
            for draft, (_, n_bytes) in zip(drafts, container.index.files, strict=True):
                draft.resize(0)
                draft.resize(n_bytes)
            keep_freed_memory()
            tick = None if progress is None else lambda done: progress(done, total_bytes)
            for_each(range(container.n_chunks), write, n_workers, tick)
            for draft in drafts:
                draft.finish()
        except BaseException:
            for draft in drafts:
                draft.discard()
                draft.path.unlink(missing_ok=True)
            raise
