"""The errors simio raises on bad input: each says what, where and what to do, and carries an exit code.

The command line catches ``SimioError`` once and prints it; library users catch the kind they expect.
"""

from __future__ import annotations

from collections.abc import Iterable


class SimioError(Exception):
    """Root of every error a user can cause. ``hint`` says what to do about it."""

    exit_code = 1

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class UsageError(SimioError):
    """An argument is malformed: a size without a unit, a negative count, NaN, options that exclude each other."""

    exit_code = 2


class UnknownNameError(SimioError):
    """A device, model, codec, runtime or quantizer that simio does not know."""

    exit_code = 3

    def __init__(self, kind: str, name: str, known: Iterable[str], hint: str = "") -> None:
        import difflib  # only needed when something went wrong

        known = sorted(known)
        close = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
        if not hint:
            hint = f"did you mean {' or '.join(close)}?" if close else f"known: {_some(known)}"
        super().__init__(f"unknown {kind} '{name}'", hint)


class ModelFileError(SimioError):
    """A weights file or directory is truncated, corrupt or not a model."""

    exit_code = 4


class DeviceFileError(SimioError):
    """A device file breaks the schema; the message names ``file: table.key``."""

    exit_code = 5


class InfeasibleError(SimioError):
    """The scenario is well formed but cannot run: for example RAM below one layer's staging."""

    exit_code = 6


class MissingPackageError(SimioError):
    """An optional package is needed; the hint is its install command."""

    exit_code = 7


class WriteError(SimioError):
    """A file cannot be written: no space, no permission, no such directory."""

    exit_code = 9


class ContainerError(SimioError):
    """A weight container is damaged, is not one, or is being written by another process."""

    exit_code = 10


class LawError(SimioError):
    """A conservation or queueing law failed: simio's own result is wrong. Please report it with the scenario."""

    exit_code = 70


class ProfileError(SimioError):
    """A stored profile is corrupt or does not belong to the model it is used with."""

    exit_code = 8


class MeasurementFileError(SimioError):
    """A file of measurements is malformed; the message names file, row and column."""

    exit_code = 11


def _some(names: list[str], n: int = 12) -> str:
    shown = ", ".join(names[:n])
    return shown + (f", … ({len(names)} in all)" if len(names) > n else "")
