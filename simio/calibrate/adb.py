"""Talk to a phone: which one, run a command on it, in plain errors. https://developer.android.com/tools/adb"""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass

from simio.errors import MissingPackageError, SimioError, UsageError

#: No command of the probe plan takes longer, even on slow storage. [s]
TIMEOUT_S = 180.0


class AdbError(SimioError):
    """adb is there and cannot do what was asked of the phone."""


@dataclass(frozen=True, slots=True)
class Phone:
    """A phone that answers."""

    serial: str

    def run(self, command: str) -> str:
        """What ``command`` prints, errors included; raises ``AdbError`` where the phone does not answer."""
        return _adb("-s", self.serial, "shell", f"({command}) 2>&1")


def connect(serial: str | None) -> Phone:
    """The phone called ``serial``, or the only one there.

    Raises ``MissingPackageError`` without adb, ``UsageError`` where there is no such phone or more than one, and
    ``AdbError`` where it does not let us in.
    """
    if shutil.which("adb") is None:
        raise MissingPackageError(
            "adb is not installed", "apt install adb, or https://developer.android.com/tools/releases/platform-tools"
        )
    states = dict(_devices())
    if serial is None and len(states) > 1:
        raise UsageError(f"{len(states)} devices are connected", f"add --serial, one of {', '.join(sorted(states))}")
    chosen = serial or next(iter(states), None)
    if chosen is None:
        raise UsageError("adb sees no device", "connect a phone and switch on USB debugging in its developer options")
    if chosen not in states:
        raise UsageError(f"adb sees no device '{chosen}'", f"connected: {', '.join(sorted(states)) or 'none'}")
    if states[chosen] == "unauthorized":
        raise AdbError(f"{chosen}: the phone has not authorized this computer", "unlock it and confirm the dialog")
    if states[chosen] != "device":
        raise AdbError(f"{chosen}: the device is {states[chosen]}", "plug it in again, or: adb kill-server")
    return Phone(chosen)


def _devices() -> list[tuple[str, str]]:
    """(serial, state) of everything adb sees."""
    lines = _adb("devices").splitlines()
    rows = [line.split() for line in lines if "\t" in line]
    return [(row[0], " ".join(row[1:])) for row in rows if len(row) > 1]


def _adb(*words: str) -> str:
    try:
        done = subprocess.run(["adb", *words], capture_output=True, text=True, errors="replace", check=False,
                              timeout=TIMEOUT_S)  # fmt: skip
    except subprocess.TimeoutExpired:
        raise AdbError(f"adb {words[0]} did not answer within {TIMEOUT_S:.0f} s", "is the phone asleep?") from None
    except OSError as error:
        raise AdbError(f"adb cannot be run: {error.strerror}", "reinstall adb") from error
    said = done.stderr.strip()
    if done.returncode and (said or "shell" not in words):
        raise AdbError(f"adb {' '.join(words[:3])}: {said or f'exit code {done.returncode}'}", "is the cable loose?")
    return done.stdout
