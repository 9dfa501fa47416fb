"""Busy neighbours slow a core down by what the device file says (C3), and by nothing where it says nothing."""

from dataclasses import replace

import pytest

from simio import catalog
from simio.cli.device_text import describe
from simio.predict import predict
from simio.records.device import Quantity
from simio.records.scenario import Scenario
from simio.service_times import parallel_efficiency

HOST = catalog.load("host-epyc-zen3")


def quantity(value, low=None, high=None):
    return Quantity(value, low or value, high or value, "1", "me", "measured")


def with_efficiency(device, value):
    return replace(device, cpu=replace(device.cpu, parallel_efficiency=quantity(value)))


def test_a_core_alone_runs_at_full_rate():
    assert parallel_efficiency(with_efficiency(HOST, 0.6).cpu, 1) == 1


def test_all_cores_busy_run_at_the_stated_share_and_more_threads_than_cores_no_slower():
    cpu = with_efficiency(HOST, 0.6).cpu
    assert parallel_efficiency(cpu, 2) == pytest.approx(0.6)
    assert parallel_efficiency(cpu, 5) == pytest.approx(0.6)


def test_in_between_it_falls_in_a_straight_line():
    cpu = with_efficiency(HOST, 0.7).cpu
    four = replace(cpu, clusters=(replace(cpu.clusters[0], n_cores=4),))
    assert [parallel_efficiency(four, n) for n in (1, 2, 3, 4)] == pytest.approx([1, 0.9, 0.8, 0.7])


def test_without_the_number_cores_do_not_disturb_each_other():
    assert HOST.cpu.parallel_efficiency is None
    assert parallel_efficiency(HOST.cpu, 2) == 1.0


def device_file(tmp_path, line):
    text = (catalog.find("host-epyc-zen3")).read_text().replace('"host-epyc-zen3"', '"mine"')
    path = tmp_path / "mine.toml"
    path.write_text(text.replace("[[cpu.clusters]]", f"{line}\n\n[[cpu.clusters]]", 1))
    return path


def test_two_threads_bound_by_arithmetic_take_the_inverse_share_longer(tmp_path):
    def ms(line, n_threads):
        scenario = Scenario(device=str(device_file(tmp_path, line)), model="llama-3.2-1b:q3_k_m", n_threads=n_threads,
                            runtime="resident", draws=20)  # fmt: skip
        return 1000 / predict(scenario).tokens_per_s

    half = 'parallel_efficiency = { value = 0.5, unit = "1", source = "fio", low = 0.4, high = 0.6 }'
    assert ms(half, 1) == pytest.approx(ms("", 1))
    assert ms(half, 2) == pytest.approx(2 * ms("", 2), rel=0.05)


def test_an_uncertain_efficiency_widens_the_interval(tmp_path):
    def width(low, high):
        line = f'parallel_efficiency = {{ value = 0.7, unit = "1", source = "fio", low = {low}, high = {high} }}'
        scenario = Scenario(device=str(device_file(tmp_path, line)), model="llama-3.2-1b:q3_k_m", n_threads=2,
                            runtime="resident")  # fmt: skip
        found = predict(scenario).interval
        return found.high - found.low

    assert width(0.4, 1.0) > 1.1 * width(0.7, 0.7)


def test_more_than_1_is_refused(tmp_path):
    line = 'parallel_efficiency = { value = 1.2, unit = "1", source = "fio", low = 1, high = 1.3 }'
    problems = catalog.check(device_file(tmp_path, line))
    assert [p.where for p in problems] == ["cpu.parallel_efficiency"]


def test_it_is_shown_beside_the_other_numbers(tmp_path):
    line = 'parallel_efficiency = { value = 0.7, unit = "%", source = "fio", low = 0.6, high = 0.8 }'
    shown = describe(
        catalog.read(device_file(tmp_path, line.replace("0.7", "70").replace("0.6", "60").replace("0.8", "80")))
    )
    assert "cpu.parallel_efficiency" in shown
    assert "cpu.parallel_efficiency" not in describe(HOST)
