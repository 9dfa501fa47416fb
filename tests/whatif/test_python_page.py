"""docs/python.md does what it says, and `import simio` loads nothing."""

from __future__ import annotations

import doctest
import subprocess
import sys
from pathlib import Path

import simio

PAGE = Path(__file__).parent.parent.parent / "docs" / "python.md"


def test_the_page_runs():
    failed, tried = doctest.testfile(str(PAGE), module_relative=False)
    assert tried > 10
    assert failed == 0


def test_importing_simio_loads_no_room():
    code = "import sys, simio; print([m for m in sys.modules if m.startswith('simio.') or m == 'numpy'])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_the_verb_and_its_room_go_by_one_name():
    fields = {"device": "pixel8", "model": "llama-3.2-1b:q4_0", "draws": 0}
    code = (
        f"import simio\nfirst = simio.predict(**{fields}, suggestions=False)\nimport simio.predict.point\n"
        f"assert simio.predict(**{fields}, suggestions=False) == first\nprint('ok')"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "ok\n"


def test_every_exported_name_is_there():
    assert all(getattr(simio, name) is not None for name in simio.__all__)
