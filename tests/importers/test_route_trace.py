"""Routing traces: what they say, and every way they can be broken."""

from __future__ import annotations

from pathlib import Path

import pytest

from simio.errors import MeasurementFileError, SimioError, UsageError
from simio.importers import route_trace

HEAD = "# route_trace v1\n# model=m.gguf n_layer=2 n_expert=4 n_expert_used=2\n# layer=0 expert_bytes=9 dense_bytes=1\n"
COLUMNS = "turn,phase,step,layer,slot,expert,weight,residency,expert_bytes\n"
PROMPT = "0,0,0,0,0,3,0.6,0,9\n0,0,0,0,1,1,0.4,0,9\n"
TOKEN = "0,1,0,0,1,2,0.3,0,9\n0,1,0,0,0,0,0.7,1,0\n0,1,0,1,0,1,0.5,0,9\n0,1,0,1,1,3,0.5,0,9\n"
SHARED = Path(__file__).parents[3] / "shared" / "traces" / "oneplus15r"


def read(tmp_path: Path, text: str) -> route_trace.RoutingTrace:
    path = tmp_path / "t.route.csv"
    path.write_text(text)
    return route_trace.read(path)


def test_experts_come_by_slot_with_their_weights(tmp_path):
    trace = read(tmp_path, HEAD + COLUMNS + PROMPT + TOKEN)
    assert (trace.n_layers, trace.n_experts, trace.top_k) == (2, 4, 2)
    assert trace.prompt == (((3, 1), ()),)
    assert trace.decoded == (((0, 2), (1, 3)),)
    assert trace.weights == (((0.6, 0.4), ()), ((0.7, 0.3), (0.5, 0.5)))


def test_a_last_token_cut_short_is_left_out(tmp_path):
    cut = TOKEN + "0,1,1,0,0,2,0.5,0,9\n"
    assert len(read(tmp_path, HEAD + COLUMNS + PROMPT + cut).decoded) == 1


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "is no routing trace"),
        ("run_id,device\n", "is no routing trace"),
        ("# route_trace v1\n", "no whole number n_layer"),
        (HEAD + COLUMNS + PROMPT, "no decoded token"),
        (HEAD + COLUMNS + TOKEN + "0,1,1,0,ze", "line 9"),
        (HEAD + COLUMNS + TOKEN + "0,7,1,0,0,1,0.5\n", "out of its range"),
        (HEAD + COLUMNS + TOKEN + "0,1,1,0,0,1,nan\n", "out of its range"),
        (HEAD + COLUMNS + TOKEN.replace(",3,0.5", ",9,0.5"), "expert 9 of a model with 4"),
        (HEAD.replace("used=2", "used=9") + COLUMNS + TOKEN, "n_expert_used=9 of 4"),
        (HEAD.replace("used=2", "used=1") + COLUMNS + TOKEN, "not 1 experts"),
        (HEAD + COLUMNS + TOKEN.replace("0,1,0,1,1,3", "0,1,0,1,1,1"), "not 2 experts"),
    ],
)  # fmt: skip
def test_what_is_broken_is_named(tmp_path, text, says):
    with pytest.raises(MeasurementFileError, match=says):
        read(tmp_path, text)


def test_no_file_and_a_directory(tmp_path):
    with pytest.raises(UsageError, match="no such routing trace"):
        route_trace.read(tmp_path / "none.csv")
    with pytest.raises(UsageError, match="is a directory"):
        route_trace.read(tmp_path)


@pytest.mark.skipif(not SHARED.is_dir(), reason="../shared with the routing traces is not here")
def test_any_cut_of_a_real_trace_reads_or_is_refused(tmp_path):
    whole = (SHARED / "gemma.route.csv").read_text()
    for share in (0.0001, 0.01, 0.2, 0.55, 0.9):
        try:
            trace = read(tmp_path, whole[: round(share * len(whole))])
        except SimioError:
            continue
        assert trace.decoded
        assert all(len(layer) == 6 for token in trace.decoded for layer in token)
