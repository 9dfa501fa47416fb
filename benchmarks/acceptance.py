"""A line of a target list: what was wanted beside what was reached."""

from __future__ import annotations

from dataclasses import dataclass

HEAD = ("| what | wanted | reached | met |", "|---|---|---|---|")


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the acceptance: what was reached beside what was wanted."""

    what: str
    target: str
    reached: str
    is_met: bool

    def __str__(self) -> str:
        return f"| {self.what} | {self.target} | {self.reached} | {'yes' if self.is_met else '**no**'} |"
