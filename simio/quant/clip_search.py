"""How much of each group's range to keep: the clip factor of least squared error on a grid.

Clipping the range to ``factor·(min, max)`` is that of OmniQuant (arXiv 2308.13137, eq. 2, there learnt). The grid has
the step 1/20 of AWQ's clip search (arXiv 2306.00978; ``auto_clip`` of mit-han-lab/llm-awq, which stops at 1/2 and
weighs by inputs); coarse grids of 2 or 3 bits, and scales that many weights share, want less than 1/2.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from simio.quant.contract import FloatArray
from simio.quant.integer_grid import IntegerGrid

N_FACTORS = 20


def searched(
    groups: FloatArray, low: FloatArray, high: FloatArray, bits: int, rule: str, stored: npt.DTypeLike
) -> IntegerGrid:
    """The grid of ``groups (a, m, b)`` over the best of 1, 0.95 … 0.05 times the range ``low … high (a, b)``.

    Of equal errors the wider range wins; so does it for groups of zeros.
    """
    factors = np.ones_like(low)
    least = IntegerGrid.over(low, high, bits, rule, stored).squared_errors(groups)
    for step in range(1, N_FACTORS):
        factor = np.float32(1 - step / N_FACTORS)
        errors = IntegerGrid.over(factor * low, factor * high, bits, rule, stored).squared_errors(groups)
        better = errors < least
        factors[better], least[better] = factor, errors[better]
    return IntegerGrid.over(factors * low, factors * high, bits, rule, stored)
