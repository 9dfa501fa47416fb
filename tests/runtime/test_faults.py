"""Whatever breaks under a run, it ends with a clear message and never with a wrong token."""

from __future__ import annotations

import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from packed import PROMPT, container, expected, run_it

from simio.container.header import HEADER_BYTES
from simio.container.reading import Container
from simio.errors import ContainerError, InfeasibleError, UsageError
from simio.records.scenario import Scenario
from simio.runtime import memory_limit, supervising
from simio.runtime.fetching import Fetcher
from simio.runtime.held import Held
from simio.runtime.storage import DirectFile, Pacer

ROOT = Path(__file__).parent.parent.parent
SIMIO = [sys.executable, "-c", "from simio.cli import main; main()"]
SLOW = ("--prompt", "1 5 9", "--tokens", "400", "--pin", "0%", "--read-limit", "2MB/s")
N_FLIPS = 240


def places(path: Path) -> dict[str, list[range]]:
    """Where header, index, payload and padding of a container lie."""
    with Container.open(path) as opened:
        spans = [(opened.chunk(n), opened.stored_span(n)) for n in range(opened.n_chunks)]
        index = range(opened.header.index_offset, opened.header.file_bytes)
    return {
        "header": [range(HEADER_BYTES)],
        "index": [index],
        "payload": [range(c.offset, c.offset + c.stored_bytes) for c, _ in spans],
        "padding": [range(c.offset + c.stored_bytes, at + n) for c, (at, n) in spans if c.stored_bytes < n],
    }


def test_no_flipped_bit_ever_gives_a_wrong_token(tmp_path):
    good = container("stacked experts", "zstd:1", 4096)
    data, bad, rng = good.read_bytes(), tmp_path / "bad.simio", random.Random(11)
    where, n_found = places(good), dict.fromkeys(("header", "index", "payload", "padding"), 0)
    for i in range(N_FLIPS):
        kind = ("header", "index", "payload", "padding", "payload")[i % 5]
        at, bit = rng.choice(rng.choice(where[kind])), rng.randrange(8)
        damaged = bytearray(data)
        damaged[at] ^= 1 << bit
        bad.write_bytes(damaged)
        form, pinned_fraction = rng.choice(["raw", "compressed"]), rng.choice([0.0, 1.0])
        error = None
        try:
            ran = run_it(bad, n_tokens=2, cache_form=form, pinned_fraction=pinned_fraction)
        except ContainerError as caught:
            error = caught
        if error is None:
            assert ran.tokens == expected("stacked experts", PROMPT, 2), (kind, at, bit)
            continue
        assert str(bad) in error.message
        assert error.hint
        n_found[kind] += 1
    assert n_found["header"] == n_found["index"] == N_FLIPS // 5
    assert n_found["payload"] >= N_FLIPS / 5  # what no token needs (unused experts and rows) passes
    assert n_found["padding"] >= N_FLIPS / 20


def test_a_truncated_container_is_refused(tmp_path):
    data, bad, rng = container("f16").read_bytes(), tmp_path / "bad.simio", random.Random(12)
    for n_bytes in (0, 7, 4095, 4096, len(data) - 4096, len(data) - 1, *(rng.randrange(len(data)) for _ in range(20))):
        bad.write_bytes(data[:n_bytes])
        with pytest.raises(ContainerError):
            run_it(bad)


def test_a_container_cut_off_while_it_is_read_is_an_error_not_a_hang(tmp_path, monkeypatch):
    path = tmp_path / "model.simio"
    shutil.copy(container("f16", "raw"), path)
    read = DirectFile.read_into

    def cut_first(self: DirectFile, *args: Any) -> None:
        os.truncate(path, 50_000)
        read(self, *args)

    monkeypatch.setattr(DirectFile, "read_into", cut_first)
    assert isinstance(error_of(lambda: run_it(path, pinned_fraction=0.0)), ContainerError)


def test_a_container_may_be_deleted_while_it_is_read(tmp_path, monkeypatch):
    path = tmp_path / "model.simio"
    shutil.copy(container("f16"), path)
    read = DirectFile.read_into

    def delete_first(self: DirectFile, *args: Any) -> None:
        path.unlink(missing_ok=True)
        read(self, *args)

    monkeypatch.setattr(DirectFile, "read_into", delete_first)
    assert run_it(path, pinned_fraction=0.0).tokens == expected("f16")


def error_of(run: Callable[[], Any], timeout_s: float = 20.0) -> BaseException:
    """What ``run`` raises; fails when it hangs or ends well."""
    raised: list[BaseException] = []

    def target() -> None:
        try:
            run()
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=target, daemon=True)
    thread.start()
    thread.join(timeout_s)
    assert not thread.is_alive(), "the run hangs"
    assert raised, "the run ended well"
    return raised[0]


class BrokenError(Exception):
    """Something nobody foresaw."""


PARTS = {
    "the admission thread": (Held, "access"), "a reader": (Fetcher, "_read_link"),
    "a worker": (Container, "_decompress"), "checking raw chunks": (Container, "stored"),
    "the hand-over to readers": (Fetcher, "read"), "decompressing from RAM": (Fetcher, "decompress"),
    "giving buffers back": (Fetcher, "give_back"), "the link": (Pacer, "reserve"),
}  # fmt: skip


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("nth", [1, 40])
def test_a_failure_anywhere_ends_the_run(part, nth, monkeypatch):
    owner, name = PARTS[part]
    whole, n_calls = getattr(owner, name), iter(range(1, 10**9))

    def breaks(*args: Any, **more: Any) -> Any:
        if next(n_calls) >= nth:
            raise BrokenError
        return whole(*args, **more)

    monkeypatch.setattr(owner, name, breaks)
    choices = {"pinned_fraction": 0.3, "cache_form": "compressed", "prefetch_depth": 3, "read_bytes": 50_000}
    before = threading.active_count()
    error = error_of(lambda: run_it(container("tied bf16", "byteplane(zstd:1)", 4096), n_tokens=8, **choices))
    assert isinstance(error, BrokenError)
    wait_for(lambda: threading.active_count() <= before)  # no thread stays behind


def test_a_run_that_fails_does_not_wait_for_a_slow_link(monkeypatch):
    """Four reads wait for minutes each when the fifth fails."""
    reserve, n_calls = Pacer.reserve, iter(range(10))

    def breaks(self: Pacer, n_bytes: int) -> float:
        if next(n_calls) == 4:
            raise BrokenError
        return reserve(self, n_bytes)

    monkeypatch.setattr(Pacer, "reserve", breaks)
    choices = {"pinned_fraction": 0.0, "read_limit_bytes_per_s": 10.0, "read_bytes": 4096, "queue_depth": 5}
    assert isinstance(error_of(lambda: run_it(container("f16", "raw", 4096), **choices)), BrokenError)


def test_too_little_ram_says_how_much_is_missing():
    for ram_bytes in (1, 100_000, 700_000):
        with pytest.raises(InfeasibleError, match=r"needs .* of RAM"):
            run_it(container("tied bf16"), ram_bytes=ram_bytes)
    with pytest.raises(InfeasibleError, match="needs"):
        run_it(container("f16"), staging_bytes=5000)


def groups() -> set[str]:
    """Memory cgroups of runs."""
    return {p.name for root in ("memory", "") for p in (Path("/sys/fs/cgroup") / root).glob("simio-run-*")}


@pytest.fixture
def enforced() -> None:
    """Skips where no memory cgroup can be made."""
    with memory_limit.limited(1 << 30) as limit:
        if not limit.is_enforced:
            pytest.skip(limit.note)


def a_child_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str) -> None:
    """Let the children of ``run_apart`` run ``code`` first."""
    script = tmp_path / "python"
    program = f"{code}; from simio.runtime.child import main; main()"
    script.write_text(f"#!/bin/sh\nexec '{sys.executable}' -c '{program}'\n")
    script.chmod(0o755)
    monkeypatch.setattr(supervising.sys, "executable", str(script))


def test_a_run_that_takes_more_than_its_limit_is_killed_and_says_so(tmp_path, monkeypatch, enforced):
    a_child_with(tmp_path, monkeypatch, "import simio.runtime.memory_limit as m; m.PROCESS_BYTES = -(299 << 20)")
    pids: list[int] = []
    monkeypatch.setattr(supervising, "remove_group", lambda pid: (pids.append(pid), memory_limit.remove_group(pid)))
    with pytest.raises(InfeasibleError, match="took more RAM than 315 MB") as caught:
        supervising.run_apart(Scenario("host", str(container("f16")), ram_bytes=300 << 20, prompt_tokens=3), PROMPT)
    assert caught.value.hint == "give more --ram"
    assert f"simio-run-{pids[0]}" not in groups()


@pytest.mark.parametrize(
    ("code", "says"),
    [("import os; os.kill(os.getpid(), 15)", "SIGTERM"), ("import os; os._exit(3)", "exit code 3"),
     ("import sys; print(0, end=str()); sys.stdout.flush(); import os; os.kill(os.getpid(), 9)", "killed")],
)  # fmt: skip
def test_a_child_that_dies_is_told_of(tmp_path, monkeypatch, code, says):
    a_child_with(tmp_path, monkeypatch, code)
    scenario = Scenario("host", str(container("f16")), prompt_tokens=3)
    for prompt in (PROMPT, (1,) * 10**5):  # the second does not fit into the pipe
        with pytest.raises((UsageError, InfeasibleError), match=says):
            supervising.run_apart(scenario, prompt)


def child_of(process: subprocess.Popen[str]) -> int:
    """Its one child, once that runs in its cgroup (or has had the time to)."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    wait_for(lambda: bool(children.read_text().split()))
    child = int(children.read_text().split()[0])
    wait_for(lambda: f"simio-run-{child}" in groups() or "accounted" in limit_note())
    time.sleep(0.2)
    return child


def limit_note() -> str:
    with memory_limit.limited(1 << 30) as limit:
        return limit.note


def is_running(pid: int) -> bool:
    """Whether the process is there and no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def wait_for(condition: Callable[[], bool]) -> None:
    end_s = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end_s, "waited in vain"
        time.sleep(0.02)


@pytest.fixture
def running() -> Iterator[subprocess.Popen[str]]:
    """A run that would last for minutes."""
    command = [*SIMIO, "run", str(container("f16", "raw")), *SLOW]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        yield process
        process.kill()


needs_proc = pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="there is no /proc here")


@needs_proc
def test_ctrl_c_ends_run_and_child_without_a_traceback(running):
    child = child_of(running)
    running.send_signal(signal.SIGINT)
    out, err = running.communicate(timeout=20)
    assert (running.returncode, out) == (130, "")
    assert "interrupted" in err
    assert "Traceback" not in err
    assert not is_running(child)
    assert f"simio-run-{child}" not in groups()


@needs_proc
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_the_child_does_not_outlive_its_parent_nor_leave_its_cgroup(running, how):
    child = child_of(running)
    running.send_signal(how)
    _, err = running.communicate(timeout=20)
    wait_for(lambda: not is_running(child))
    wait_for(lambda: f"simio-run-{child}" not in groups())
    assert "Traceback" not in err


@needs_proc
def test_a_killed_child_is_told_of_and_leaves_no_cgroup(running):
    child = child_of(running)
    os.kill(child, signal.SIGKILL)
    out, err = running.communicate(timeout=20)
    assert (running.returncode, out) == (InfeasibleError.exit_code, "")
    assert "the run was killed" in err
    assert "Traceback" not in err
    assert f"simio-run-{child}" not in groups()


def test_a_group_whose_process_is_gone_is_removed_by_the_next_run(enforced):
    root = Path("/sys/fs/cgroup/memory")
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    left = (root if root.is_dir() else root.parent) / f"simio-run-{dead.pid}"
    left.mkdir()
    run_it(container("f16"))
    assert not left.exists()
    assert f"simio-run-{os.getpid()}" not in groups()


def test_without_cgroups_memory_is_accounted_not_enforced(tmp_path, monkeypatch):
    for root, why in ((tmp_path / "none", "no cgroups"), (Path("/proc"), "can be made")):
        monkeypatch.setattr(memory_limit, "_ROOT", root)
        ran = run_it(container("f16"))
        assert ran.tokens == expected("f16")
        assert ran.measurement.counters["is_enforced"] == 0
        assert ran.limit_note.startswith("memory is accounted, not enforced")
        assert why in ran.limit_note


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become nobody")
def test_an_unprivileged_user_can_run(tmp_path, monkeypatch):
    """The child becomes nobody after a first run: Python itself may lie where nobody may read."""
    path = Path("/tmp") / f"simio-unprivileged-{os.getpid()}.simio"  # pytest's folders are the owner's alone
    shutil.copy(container("f16"), path)
    path.chmod(0o644)
    once = "import os, simio.runtime.child; from simio.runtime.running import *; "
    once += f'run(Scenario("host", "{path}", n_tokens=2, prompt_tokens=1), [1]); '
    a_child_with(tmp_path, monkeypatch, once + "os.setgroups([]); os.setgid(65534); os.setuid(65534)")
    try:
        report = supervising.run_apart(Scenario("host", str(path), n_tokens=5, prompt_tokens=3), PROMPT)
    finally:
        path.unlink()
    assert report.tokens == expected("f16")
    assert report.limit_note == "memory is accounted, not enforced: no memory cgroup can be made (Permission denied)"


@pytest.mark.skipif(not Path("/dev/shm").is_dir(), reason="there is no /dev/shm here")
def test_a_container_in_ram_is_not_said_to_be_read_directly():
    path = Path("/dev/shm") / f"simio-test-{os.getpid()}.simio"
    shutil.copy(container("f16"), path)
    try:
        ran = run_it(path)
        assert ran.tokens == expected("f16")
        assert ran.storage_note.startswith("through the page cache")
    finally:
        path.unlink()


def test_two_runs_at_once_do_not_disturb_each_other():
    command = [*SIMIO, "run", str(container("f16")), "--prompt", "1 5 9", "--tokens", "20", "--check", "--ram", "200MB"]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    for process in both:
        out, err = process.communicate(timeout=60)
        assert (process.returncode, err) == (0, "")
        assert "equal to those of the same model in RAM" in out


def test_an_output_that_cannot_be_written_is_refused_and_one_that_gets_full_leaves_nothing(tmp_path):
    command = [*SIMIO, "run", str(container("f16")), "--prompt", "1", "--tokens", "2", "-o"]
    early = subprocess.run([*command, str(tmp_path / "no" / "run.json")], check=False, capture_output=True, text=True)
    assert (early.returncode, early.stdout) == (2, "")
    assert "no such directory" in early.stderr

    def small_files() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))

    full = subprocess.run(
        [*command, str(tmp_path / "run.json")], check=False, capture_output=True, text=True, preexec_fn=small_files
    )
    assert full.returncode == 9
    assert "cannot be written" in full.stderr
    assert "Traceback" not in full.stderr
    assert list(tmp_path.iterdir()) == []
