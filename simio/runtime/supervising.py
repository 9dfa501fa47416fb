"""Run in a process of its own: the memory limit counts nothing else, and a run that is killed can be told of."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

from simio import errors
from simio.errors import InfeasibleError, SimioError, UsageError
from simio.records.measurement import Measurement
from simio.records.scenario import Scenario
from simio.runtime.memory_limit import remove_group
from simio.runtime.running import Progress, Ran
from simio.units import format_bytes


def run_apart(asked: Scenario, prompt: Sequence[int], progress: Progress | None = None) -> Ran:
    """``simio.runtime.running.run`` in a child process; errors as of it.

    Raises ``InfeasibleError`` when the child was killed for taking more than its memory limit.
    """
    command = [sys.executable, "-m", "simio.runtime.child"]
    question = json.dumps({"scenario": asked.to_json(), "prompt": list(prompt)})
    pipe = subprocess.PIPE
    # A process group of its own: Ctrl-C is for this process, which ends the child.
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, process_group=0) as child:
        try:
            answer = _converse(child, question, progress)
        finally:
            child.kill()
            child.wait()
            remove_group(child.pid)
    if answer is None:
        raise _died(child.returncode, asked)
    if "error" in answer:
        raise _error(*answer["error"])
    return Ran(
        Scenario.from_json(answer["scenario"]),
        tuple(answer["tokens"]),
        Measurement.from_json(answer["measurement"]),
        answer["limit_note"],
        answer["storage_note"],
    )


def _converse(child: subprocess.Popen[str], question: str, progress: Progress | None) -> dict[str, Any] | None:
    """Ask, follow the progress, and return the answer; None when the child ended without one."""
    if child.stdin is None or child.stdout is None:
        raise RuntimeError("the child has no pipes")
    try:
        child.stdin.write(question + "\n")
        child.stdin.flush()  # and stays open: its end would tell the child that it is alone
        for line in child.stdout:
            if not line.endswith("\n"):  # killed in the middle of it
                break
            message: dict[str, Any] = json.loads(line)
            if "progress" not in message:
                return message
            if progress is not None:
                progress(*message["progress"])
        child.wait()
        return None
    except BrokenPipeError:
        child.wait()
        return None


def _error(kind: str, message: str, hint: str) -> SimioError:
    """The error of the child; some classes make their message themselves."""
    of_kind = getattr(errors, kind, UsageError)
    error: SimioError = of_kind.__new__(of_kind)
    SimioError.__init__(error, message, hint)
    return error


def _died(code: int, asked: Scenario) -> SimioError:
    if code == -signal.SIGKILL:
        given = "its memory limit" if asked.ram_bytes is None else format_bytes(asked.ram_bytes)
        return InfeasibleError(f"the run was killed: it took more RAM than {given}", "give more --ram")
    if code < 0:
        return UsageError(f"the run was ended by {signal.Signals(-code).name}", "start it again")
    return UsageError(f"the run ended without an answer (exit code {code})", "its messages are above")
