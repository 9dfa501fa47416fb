"""The child of ``supervising``: a question on stdin, progress and the answer on stdout, one JSON document a line.

stdin stays open for as long as the parent lives.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from typing import Any

from simio.errors import SimioError
from simio.records.scenario import Scenario
from simio.runtime.running import run

#: How long a run may take to stop when nobody waits for it any more. [s]
_PATIENCE_S = 10.0


def main() -> None:
    """Answer one question, unless the parent goes away."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # whatever the parent does with it
    question = json.loads(sys.stdin.readline())
    threading.Thread(target=_stop_with_parent, name="parent", daemon=True).start()
    try:
        _answer(question)
    except (KeyboardInterrupt, BrokenPipeError):
        os._exit(130)  # without writing to a pipe that nobody reads


def _stop_with_parent() -> None:
    sys.stdin.read()
    signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)  # undoes the memory limit
    time.sleep(_PATIENCE_S)
    os._exit(130)


def _answer(question: dict[str, Any]) -> None:
    scenario = Scenario.from_json(question["scenario"])
    try:
        ran = run(scenario, question["prompt"], lambda done, total: _say({"progress": [done, total]}))
    except SimioError as error:
        _say({"error": [type(error).__name__, error.message, error.hint]})
        return
    except MemoryError:
        _say({"error": ["InfeasibleError", "this process may not take the memory it needs", "see ulimit -a"]})
        return
    _say(
        {
            "scenario": ran.scenario.to_json(),
            "tokens": ran.tokens,
            "measurement": ran.measurement.to_json(),
            "limit_note": ran.limit_note,
            "storage_note": ran.storage_note,
        }
    )


def _say(message: dict[str, Any]) -> None:
    print(json.dumps(message, allow_nan=False), flush=True)


if __name__ == "__main__":
    main()
