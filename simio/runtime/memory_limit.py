"""Hold this process to a RAM budget with a memory cgroup, v1 or v2, where it may make one."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from simio.units import MIB

_ROOT = Path("/sys/fs/cgroup")
_NAME = "simio-run-"
#: What the interpreter itself needs beside weights, staging, KV cache and buffers: thread stacks, Python objects, the
#: allocator's slack. Streaming 0.7 GB models in 100 to 400 MB peaked at most 25 MB above the budget; twice that.
PROCESS_BYTES = 48 * MIB


@dataclass(frozen=True, slots=True)
class Limit:
    """How the budget is held. ``folder`` is the cgroup; None where none could be made and memory is only counted."""

    folder: Path | None
    note: str

    @property
    def is_enforced(self) -> bool:
        """Whether the kernel kills a process that takes more."""
        return self.folder is not None

    def peak_bytes(self) -> int | None:
        """Most memory the group has held; None where that is not known."""
        for name in ("memory.max_usage_in_bytes", "memory.peak"):
            if self.folder is not None and (self.folder / name).is_file():
                return int((self.folder / name).read_text())
        return None


@contextmanager
def limited(ram_bytes: int) -> Iterator[Limit]:
    """Run the body with at most ``ram_bytes`` (and ``PROCESS_BYTES``) of new memory; pages taken earlier stay free.

    Without the right to make a cgroup the body runs all the same, and the note says so.
    """
    home = _make(ram_bytes + PROCESS_BYTES)
    if isinstance(home, str):
        yield Limit(None, f"memory is accounted, not enforced: {home}")
        return
    group, before = home
    try:
        yield Limit(group, f"enforced by the memory cgroup {group.name}")
    finally:
        with suppress(OSError):
            (before / "cgroup.procs").write_text(str(os.getpid()))
        with suppress(OSError):
            group.rmdir()


def remove_group(pid: int) -> None:
    """Remove what a process left behind that could not do so itself."""
    for parent in (_ROOT / "memory", _ROOT):
        with suppress(OSError):
            _group(parent, pid).rmdir()


def _group(parent: Path, pid: int) -> Path:
    return parent / f"{_NAME}{pid}"


def _make(n_bytes: int) -> tuple[Path, Path] | str:
    """The new group with this process in it, and the group it came from; or why there is none."""
    v1 = _ROOT / "memory"
    parent = v1 if v1.is_dir() else _ROOT
    if not parent.is_dir():
        return "this system has no cgroups"
    group = _group(parent, os.getpid())
    limit = "memory.limit_in_bytes" if parent == v1 else "memory.max"
    before = _group_of_process(parent)
    _remove_abandoned(parent)
    try:
        group.mkdir(exist_ok=True)
        (group / limit).write_text(str(n_bytes))
        _refuse_swap(group, n_bytes)
        (group / "cgroup.procs").write_text(str(os.getpid()))
    except OSError as error:
        with suppress(OSError):
            group.rmdir()
        return f"no memory cgroup can be made ({error.strerror})"
    return group, before


def _refuse_swap(group: Path, n_bytes: int) -> None:
    """What does not fit is not to be swapped out; kernels without swap accounting have neither file."""
    for name, value in (("memory.memsw.limit_in_bytes", n_bytes), ("memory.swap.max", 0)):
        with suppress(OSError):
            (group / name).write_text(str(value))


def _remove_abandoned(parent: Path) -> None:
    """Groups whose processes and their parents were both killed."""
    for group in parent.glob(f"{_NAME}*"):
        if not Path("/proc", group.name.removeprefix(_NAME)).exists():
            with suppress(OSError):
                group.rmdir()


def _group_of_process(parent: Path) -> Path:
    """Where this process is now: v1 lists ``memory``, v2 an entry without controllers (cgroups(7))."""
    wanted = "memory" if parent.name == "memory" else ""
    with suppress(OSError):
        for line in Path("/proc/self/cgroup").read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            if wanted in controllers.split(","):
                return parent / path.lstrip("/")
    return parent
