"""fio as the engine of a calibration: one short process a round. Options: https://fio.readthedocs.io/en/latest/fio_doc.html"""

from __future__ import annotations

import json
import random
import shutil
import subprocess
from functools import cache
from typing import Any

from simio.calibrate.direct_reads import Access
from simio.calibrate.scratch_file import ScratchFile
from simio.errors import MissingPackageError, SimioError
from simio.units import KIB

#: Starting and ending fio. [s]
EXTRA_S = 0.25
_ENGINES = ("io_uring", "libaio")
_RW = {"random": "randread", "sequential": "read"}


class FioError(SimioError):
    """fio is there and does not do what was asked."""


def is_installed() -> bool:
    """Whether a program called fio is on the PATH."""
    return shutil.which("fio") is not None


def version() -> str:
    """``fio-3.33``; raises ``MissingPackageError`` where fio is not installed."""
    if not is_installed():
        raise MissingPackageError("fio is not installed", "apt install fio, or use --engine builtin")
    return subprocess.run(["fio", "--version"], capture_output=True, text=True, check=False).stdout.strip()


def bandwidth(file: ScratchFile, access: Access, duration_s: float, rng: random.Random) -> float:
    """Bandwidth of a round of about ``duration_s`` as fio measures it. [bytes/s] Raises ``FioError``."""
    first = rng.randrange(max(1, file.n_bytes // 2 // access.block_bytes)) * access.block_bytes
    start = first if access.pattern == "sequential" else 0
    read = _run(file, access, duration_s, start, _io_engine(file))["read"]
    return float(read.get("bw_bytes") or read["bw"] * KIB)


@cache
def _io_engine(file: ScratchFile) -> str:
    """The first asynchronous engine that works here: a kernel or a container may forbid io_uring."""
    failures = []
    for engine in _ENGINES:
        try:
            _run(file, Access("random", 4 * KIB, 1), 0.05, 0, engine)
        except FioError as error:
            failures.append(error.message)
        else:
            return engine
    raise FioError(f"fio cannot read asynchronously here: {'; '.join(failures)}", "use --engine builtin")


def _run(file: ScratchFile, access: Access, duration_s: float, start: int, engine: str) -> dict[str, Any]:
    """The one job of fio's answer."""
    done = subprocess.run(arguments(file, access, duration_s, start, engine), capture_output=True, text=True,
                          check=False, timeout=60 + duration_s)  # fmt: skip
    text = done.stdout[done.stdout.find("{") :]  # warnings may come first
    if done.returncode or not text:
        said = (done.stderr or done.stdout).strip().splitlines()
        raise FioError(f"fio failed: {said[-1] if said else f'exit code {done.returncode}'}", "use --engine builtin")
    try:
        job: dict[str, Any] = json.loads(text)["jobs"][0]
    except (json.JSONDecodeError, KeyError, IndexError):
        raise FioError("fio's answer cannot be read", "use --engine builtin") from None
    if job.get("error"):
        raise FioError(f"fio failed with error {job['error']}", "use --engine builtin")
    return job


def arguments(file: ScratchFile, access: Access, duration_s: float, start: int, engine: str) -> list[str]:
    """The command line of one round."""
    options = {
        "name": "simio", "filename": str(file.path).replace(":", "\\:"), "size": file.n_bytes - start,
        "offset": start, "rw": _RW[access.pattern], "bs": access.block_bytes, "iodepth": access.queue_depth,
        "ioengine": engine, "direct": 1, "time_based": 1, "runtime": f"{max(10, round(1000 * duration_s))}ms",
        "randrepeat": 0, "invalidate": 0, "readonly": None, "allow_file_create": 0, "output-format": "json",
    }  # fmt: skip
    return ["fio", *(f"--{key}" if value is None else f"--{key}={value}" for key, value in options.items())]
