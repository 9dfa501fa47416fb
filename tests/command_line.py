"""Run the command line in this process."""

from __future__ import annotations

import contextlib
import io
import json
import sys
from dataclasses import dataclass
from unittest.mock import patch

from simio.cli import main


@dataclass(frozen=True)
class Result:
    """What a command left behind."""

    code: int
    out: str
    err: str

    @property
    def json(self):
        """The document on stdout."""
        return json.loads(self.out)


def simio(*words: str) -> Result:
    """``simio WORDS…`` as a user would type it, with exit code and both outputs."""
    out, err = io.StringIO(), io.StringIO()
    argv = patch.object(sys, "argv", ["simio", *map(str, words)])
    with argv, contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main()
        except SystemExit as stop:
            code = stop.code
    return Result(int(code or 0), out.getvalue(), err.getvalue())
