"""Write docs/commands.md and the prediction shown in README.md, as they are. A test fails when they are out of date."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

COMMANDS = (
    "",
    "predict",
    "compare",
    "sensitivity",
    "breakeven",
    "inspect",
    "profile",
    "pack",
    "unpack",
    "verify",
    "run",
    "generate",
    "validate",
    "calibrate",
    "models",
    "devices",
    "devices list",
    "devices show",
    "devices check",
)


QUESTION = "predict --device pixel8 --model llama-3.1-8b:q4_k_m"
ROOT = Path(__file__).parent.parent


def simio(*words: str) -> str:
    """What a command prints."""
    environment = os.environ | {"COLUMNS": "100", "TERM": "dumb", "NO_COLOR": "1"}
    command = [str(Path(sys.executable).with_name("simio")), *words]
    shown = subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout
    return "\n".join(line.rstrip() for line in shown.strip().splitlines())


def commands() -> str:
    """The page of commands."""
    parts = ["# Commands\n\nWritten by `python docs/generate.py`.\n"]
    for command in COMMANDS:
        parts.append(f"## simio {command}".rstrip() + f"\n\n```\n{simio(*command.split(), '--help')}\n```\n")
    return "\n".join(parts)


def readme() -> str:
    """README.md with the answer to its first question brought up to date."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    answer = simio(*QUESTION.split())
    shown = rf"(\$ simio {re.escape(QUESTION)}\n).*?(\n```)"
    return re.sub(shown, lambda m: m[1] + answer + m[2], text, count=1, flags=re.DOTALL)


if __name__ == "__main__":
    (ROOT / "docs" / "commands.md").write_text(commands(), encoding="utf-8")
    (ROOT / "README.md").write_text(readme(), encoding="utf-8")
