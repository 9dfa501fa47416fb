"""The child of ``supervising``: a question on stdin, progress and the answer on stdout, one JSON document a line."""

from __future__ import annotations

import json
import sys
from typing import Any

from simio.errors import SimioError
from simio.records.scenario import Scenario
from simio.runtime.running import run


def main() -> None:
    """Answer one question."""
    question = json.loads(sys.stdin.read())
    scenario = Scenario.from_json(question["scenario"])
    try:
        ran = run(scenario, question["prompt"], lambda done, total: _say({"progress": [done, total]}))
    except SimioError as error:
        _say({"error": [type(error).__name__, error.message, error.hint]})
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
