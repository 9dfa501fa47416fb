"""Predictions beside measurements. The only room that sees both, and it keeps them apart.

``compare`` builds a Scenario from what a run's source states of its inputs, predicts, and only then looks at what was
measured; ``errors`` turns the pairs into figures.
"""

from simio.validate.compare import validate
from simio.validate.errors import parts, summarize

__all__ = ["parts", "summarize", "validate"]
