"""Intervals drawn for a whole frame are those that `predict` draws for each scenario."""

import numpy as np
import pytest

from simio.predict import predict
from simio.sweep import block
from simio.sweep.block import evaluate_block
from simio.sweep.outcome import NUMBER
from simio.sweep.study import study_of

pytest.importorskip("numba")

DENSE = {"device": "pixel8", "model": "llama-3.2-1b:q8_0", "n_tokens": 6, "draws": 40, "seed": 3}
STREAMED = DENSE | {"runtime": "stream"}
MIXTURE = {"device": "oneplus15r", "model": "qwen3-30b-a3b:q4_0", "n_tokens": 6, "prompt_tokens": 4, "draws": 10,
           "runtime": "stream", "dense_weights": "anon"}  # fmt: skip
STUDIES = {
    "streamed": (STREAMED, {"ram": "0.1GB:1.6GB:0.3GB", "codec": "raw,fields(zstd:1)", "prefetch": "0,2"}),
    "several kinds of tokens": (STREAMED | {"n_tokens": 300, "codec": "zstd:1"}, {"ram": "0.4GB,0.9GB"}),
    "fit or not": (DENSE | {"codec": "zstd:1"}, {"ram": "0.8GB,2.5GB,3GB"}),
    "heat": (DENSE, {"ram": "0.8GB,2.5GB", "sustained_s": "0,600"}),
    "mapped": (DENSE | {"runtime": "mmap"}, {"ram": "0.8GB", "sustained_s": "0,600"}),
    "RAM as the device says": (STREAMED | {"model": "llama-3.1-8b:q4_k_m"}, {"prefetch": "0,2"}),
    "mixtures": (MIXTURE, {"ram": "3GB,6GB"}),
}  # fmt: skip


@pytest.mark.parametrize("kind", STUDIES)
def test_intervals_of_a_frame_are_those_of_predict(kind, monkeypatch):
    base, vary = STUDIES[kind]
    plan = study_of({"scenario": base, "vary": vary, "check": 0}, "test")
    monkeypatch.setattr(block, "FEW_DRAWN", 0)
    numbers = np.arange(plan.n)
    outcome = evaluate_block(plan, numbers, frozenset()).outcome
    found = outcome.numbers[:, [NUMBER["interval_low"], NUMBER["interval_high"]]]
    n_runs = 0
    for rows, frame in plan.frames(numbers):
        for j, row in enumerate(rows):
            if outcome.reason[row] is None:
                alone = predict(frame.scenario(j), suggestions=False).interval
                np.testing.assert_allclose(found[row], [alone.low, alone.high], rtol=1e-9)
                n_runs += 1
            else:
                assert np.isnan(found[row]).all()
    assert n_runs > 0


def test_dense_streams_are_not_drawn_one_by_one(monkeypatch):
    base, vary = STUDIES["streamed"]
    plan = study_of({"scenario": base, "vary": vary, "check": 0}, "test")
    monkeypatch.setattr(block, "FEW_DRAWN", 0)
    monkeypatch.setattr(block, "_draw", lambda *_: pytest.fail("drawn by itself"))
    evaluate_block(plan, np.arange(plan.n), frozenset())
