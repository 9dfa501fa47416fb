"""Rounds are short, spread over the whole time, and fit the budget."""

import subprocess
import sys
import time
from itertools import pairwise

import pytest

from simio.calibrate import foreign
from simio.calibrate.quantities import FASTER, SLOWER, of_rounds, percentile
from simio.calibrate.rounds import MIN_SWEEPS, ROUND_S, Probe, Schedule, measure_all, n_visits, schedule


def probe(name, every=1, share=1.0, extra_s=0.0):
    return Probe(name, lambda s: {name: 1.0}, every, share, extra_s)


def test_time_to_spare_buys_more_sweeps_of_whole_rounds():
    probes = [probe("a"), probe("b")]
    few, many = schedule(probes, 3.0), schedule(probes, 5.0)
    assert few.round_s == many.round_s == ROUND_S
    assert few.n_sweeps < many.n_sweeps


def test_too_little_time_makes_rounds_shorter_and_keeps_the_fewest_sweeps():
    found = schedule([probe(str(i)) for i in range(50)], 10.0)
    assert found.n_sweeps == MIN_SWEEPS
    assert 50 * MIN_SWEEPS * found.round_s < 10.0


def test_what_a_round_costs_beside_is_planned_for():
    slow = schedule([probe(str(i), extra_s=0.25) for i in range(20)], 20.0)
    quick = schedule([probe(str(i)) for i in range(20)], 20.0)
    assert slow.round_s < quick.round_s or slow.n_sweeps < quick.n_sweeps


def test_every_probe_is_visited_as_planned_and_no_two_sweeps_are_alike():
    order = []

    def seen(name):
        return Probe(name, lambda s: order.append(name) or {name: s}, every=3 if name == "rare" else 1)

    probes = [seen(name) for name in ("a", "b", "c", "d", "rare")]
    plan = schedule(probes, 100.0)
    found = measure_all(probes, time.monotonic() + 100, plan, lambda done, total: None)
    assert {name: len(values) for name, values in found.items()} == {p.name: n_visits(p, plan.n_sweeps) for p in probes}
    places = [i for i, name in enumerate(order) if name == "a"]
    assert len({b - a for a, b in pairwise(places)}) > 1
    assert places[-1] - places[0] > len(order) / 2


def test_after_the_deadline_only_what_has_no_value_yet_is_measured():
    probes = [probe("a"), probe("b")]
    found = measure_all(probes, time.monotonic() - 1, schedule(probes, 100.0), lambda done, total: None)
    assert found == {"a": [1.0], "b": [1.0]}


def disturbed_at(numbers):
    """A watch that says of the rounds with these numbers that others disturbed them."""
    turn = iter(range(1000))

    def load():
        n = next(turn)
        return lambda: n in numbers

    return load


def counting(name="a"):
    turn = iter(range(1000))
    return Probe(name, lambda s: {name: float(next(turn))})


def test_disturbed_rounds_are_repeated_while_time_is_left_and_do_not_count():
    plan, late = Schedule(3, 0.01), time.monotonic() + 100
    found = measure_all([counting()], late, plan, lambda done, total: None, load=disturbed_at({1}))
    assert found == {"a": [0.0, 2.0, 3.0]}


def test_without_enough_quiet_rounds_all_count():
    plan, soon = Schedule(3, 0.2), time.monotonic() + 0.1
    found = measure_all([counting()], soon, plan, lambda done, total: None, load=disturbed_at({0, 1, 2}))
    assert sorted(found["a"]) == [0.0, 1.0, 2.0]


def test_work_of_another_process_is_seen_and_our_own_is_not():
    begin = foreign.now()
    sum(range(5_000_000))
    alone = foreign.cpus_since(begin)
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as hog:
        begin = foreign.now()
        time.sleep(0.5)
        beside = foreign.cpus_since(begin)
        hog.kill()
    assert beside > alone


def test_bounds_are_percentiles_of_the_rounds_widened_by_what_time_brings():
    values = [float(v) for v in range(1, 102)]
    rate = of_rounds(values, "bytes", "me")
    assert rate["value"] == 51
    assert (rate["low"], rate["high"]) == pytest.approx((SLOWER * 11, FASTER * 91), rel=1e-3)
    duration = of_rounds(values, "s", "me")
    assert (duration["low"], duration["high"]) == pytest.approx((11e3 / FASTER, 91e3 / SLOWER), rel=1e-3)
    share = of_rounds(values, "1", "me")
    assert (share["low"], share["high"]) == (11, 91)


def test_a_percentile_lies_between_its_neighbours():
    assert percentile([3.0, 1.0, 2.0], 50) == 2
    assert percentile([1.0, 2.0], 25) == pytest.approx(1.25)
    assert percentile([7.0], 90) == 7
