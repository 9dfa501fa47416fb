"""`simio.sweep` from Python: the rows of the command, and nothing left behind."""

import subprocess
import sys

import pytest

import simio
from simio.errors import UnknownNameError, UsageError

pd = pytest.importorskip("pandas")
pytest.importorskip("pyarrow")
pytest.importorskip("numba")

BASE = {"device": "pixel8", "model": "smollm2-360m:q8_0"}
VARY = {"ram": "0.02GB:0.42GB:0.1GB", "codec": ["raw", "byteplane(zstd:1)"], "device.cpu.gemv": ["0.5x", "1x"]}


def test_rows_are_those_of_the_command(tmp_path, monkeypatch):
    words = ["--device", BASE["device"], "--model", BASE["model"], "--set", "tokens=4", "--json"]
    words += ["--vary", "ram=0.02GB:0.42GB:0.1GB", "--vary", "codec=raw,byteplane(zstd:1)"]
    words += ["--vary", "device.cpu.gemv=0.5x,1x", "-o", str(tmp_path / "rows.parquet")]
    subprocess.run([sys.executable, "-m", "simio", "sweep", *words], check=True, capture_output=True)
    theirs = pd.read_parquet(tmp_path / "rows.parquet")
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    mine = simio.sweep(**BASE, n_tokens=4, vary=VARY)
    pd.testing.assert_frame_equal(mine, theirs)
    assert list((tmp_path / "here").iterdir()) == []
    by_option = simio.sweep(simio.Scenario(**BASE), set={"tokens": 4}, vary=VARY)
    pd.testing.assert_frame_equal(by_option, theirs)


def test_an_output_goes_on_and_gives_the_rows_asked_for_alone(tmp_path):
    out = tmp_path / "rows"
    wide = simio.sweep(**BASE, n_tokens=4, vary={"ram": ["0.4GB", "0.3GB", "0.2GB"]}, check=0, output=out)
    narrow = simio.sweep(**BASE, n_tokens=4, vary={"ram": ["0.2GB", "0.4GB"]}, check=0, output=out)
    assert wide.ram_bytes.tolist() == [4e8, 3e8, 2e8]
    pd.testing.assert_frame_equal(narrow, wide.iloc[[2, 0]].reset_index(drop=True))
    assert len(list(out.glob("part-*"))) == 1


def test_what_cannot_be_swept_says_why():
    with pytest.raises(UsageError, match="no model"):
        simio.sweep(device="pixel8", vary={"ram": [10**9]})
    with pytest.raises(UnknownNameError):
        simio.sweep(**BASE, vary={"rum": [10**9]})
    with pytest.raises(UsageError, match="not a Scenario"):
        simio.sweep(BASE, vary={"ram": [10**9]})


def test_the_verb_and_its_room_go_by_one_name():
    code = (
        f"import simio\nfields = {BASE}\nfirst = simio.sweep(**fields, vary={{'ram': [4 * 10**8]}}, check=0)\n"
        "import simio.sweep.run\nagain = simio.sweep(**fields, vary={'ram': [4 * 10**8]}, check=0)\n"
        "assert first.equals(again)\nprint('ok')"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "ok\n"
