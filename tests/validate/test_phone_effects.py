"""The documented effects of streaming experts on a real phone keep their sign and size; negative results included."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from phone_effects import EFFECTS, QWEN

from simio.predict.point import evaluate
from simio.predict.resolve import resolve
from simio.units import MIB

TRACES = Path(__file__).parents[3] / "shared" / "traces" / "oneplus15r"
needs_traces = pytest.mark.skipif(not TRACES.is_dir(), reason="../shared with the routing traces is not here")


@pytest.mark.parametrize("effect", EFFECTS, ids=lambda e: e.name)
def test_the_phone_says_so(effect):
    ratio, hits = effect.predicted()
    assert effect.low <= ratio <= effect.high
    if effect.hits is not None:
        assert hits == pytest.approx(effect.hits, abs=3.0)


CURVE = {500: 0.0, 750: 0.0, 1000: 37.7, 2000: 56.4, 3000: 70.6, 4000: 80.3, 6000: 92.1}


@needs_traces
@pytest.mark.parametrize(("cache_mib", "hit_percent"), CURVE.items())
def test_replaying_a_routing_trace_hits_as_the_phone_does(cache_mib, hit_percent):
    replayed = replace(
        QWEN, top_k=None, routing=str(TRACES / "qwen.route.csv"), prompt_tokens=28, cache_bytes=cache_mib * MIB
    )
    plan = evaluate(resolve(replayed)).plan
    assert 100 * plan.cache_hit_ratio == pytest.approx(hit_percent, abs=0.1)


@needs_traces
def test_a_trace_of_another_shape_is_refused():
    from simio.errors import UsageError

    with pytest.raises(UsageError, match="routes 30 layers"):
        resolve(replace(QWEN, top_k=None, routing=str(TRACES / "gemma.route.csv")))
    with pytest.raises(UsageError, match="6 experts"):
        resolve(replace(QWEN, top_k=8, routing=str(TRACES / "qwen.route.csv")))
