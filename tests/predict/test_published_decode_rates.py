"""The device files against published decode rates of models that fit in RAM (``-s`` shows the table)."""

from __future__ import annotations

import statistics

from in_ram_accuracy import compare, page


def test_published_decode_rates_are_met(shared):
    comparisons = compare(shared / "measured" / "runs.csv")
    print(page(comparisons))
    assert len(comparisons) > 100
    assert statistics.median(abs(c.error) for c in comparisons) < 0.2
