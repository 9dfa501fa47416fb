"""Results people have become numbers of a device file; what does not fit is refused with its place."""

import json

import pytest
from command_line import simio

from simio import catalog
from simio.calibrate.document import check_id
from simio.calibrate.fio_results import fault_overhead_s, read, size
from simio.calibrate.given import refine
from simio.calibrate.llama_bench_results import weight_class
from simio.errors import UsageError
from simio.units import KIB, MIB

LZBENCH = """Compressor name,Compression speed,Decompression speed,Original size,Compressed size,Ratio,Filename
memcpy,12000.1,12100.2,211948544,211948544,100.00,silesia.tar
zstd 1.5.6 -3,312.1,1247.5,211948544,66524654,31.39,silesia.tar
zstd 1.5.6 -1,412.1,1347.5,211948544,73229468,34.55,silesia.tar
lz4 1.10.0,700.2,4512.3,211948544,100880800,47.60,silesia.tar
lz4hc 1.10.0 -9,42.1,4312.3,211948544,77884448,36.75,silesia.tar
brotli 1.1.0 -0,428.0,451.1,211948544,78433298,37.01,silesia.tar
"""


def job(name="a", bw=500_000_000, **options):
    """A job as fio writes it, reading 1 MiB four at a time unless ``options`` say otherwise."""
    own = {"rw": "read", "bs": "1m", "iodepth": "4", "ioengine": "io_uring", "direct": "1"} | options
    return {"jobname": name, "groupid": 0, "error": 0, "job options": own,
            "read": {"bw_bytes": bw, "bw": bw // 1024, "bw_samples": 1, "clat_ns": {"mean": 75_000.0}}}  # fmt: skip


@pytest.fixture
def fio(tmp_path):
    def write(*jobs, common=None, name="fio.json"):
        path = tmp_path / name
        document = {"fio version": "fio-3.36", "global options": common or {}, "jobs": list(jobs)}
        path.write_text("note: a warning\n" + json.dumps(document))
        return path

    return write


@pytest.mark.parametrize(("text", "kb_base", "n"), [
    ("4k", 1024, 4096), ("4K", 1024, 4096), ("4kb", 1024, 4096), ("4ki", 1024, 4000), ("4KiB", 1024, 4000),
    ("4k", 1000, 4000), ("4kB", 1000, 4000), ("4ki", 1000, 4096), ("4KiB", 1000, 4096), ("1m", 1024, MIB),
    ("1mi", 1000, MIB), ("4096", 1024, 4096), ("4096b", 1000, 4096), ("0x1000", 1024, 4096), ("many", 1024, None),
    ("", 1024, None), ("0", 1024, None),
])  # fmt: skip
def test_sizes_follow_kb_base(text, kb_base, n):
    assert size(text, kb_base) == n


def test_a_job_becomes_a_point_of_the_curve(fio, tmp_path):
    found = refine([fio(job())], "pixel8", tmp_path / "mine.toml").device
    point = next(p for p in found.storage.curve if p.block_bytes == MIB)
    assert (point.pattern, point.queue_depth, point.bandwidth.value) == ("sequential", 4, 5e8)
    assert point.bandwidth.kind == "measured"
    assert catalog.load(str(tmp_path / "mine.toml")) == found


def test_kb_base_is_read_from_the_global_options_and_bw_is_in_kib(fio):
    one = job(bs="4ki")
    one["read"] = {"bw": 1000}
    (found,) = read(fio(one, common={"kb_base": "1000"})).reads
    assert found.access.block_bytes == 4 * KIB
    assert found.bytes_per_s == 1000 * 1024


def test_options_of_the_job_come_before_the_global_ones(fio):
    one = job()
    del one["job options"]["bs"]
    (found,) = read(fio(one, common={"bs": "64k", "iodepth": "32"})).reads
    assert (found.access.block_bytes, found.access.queue_depth) == (64 * KIB, 4)


def test_clones_of_a_job_add_up_and_waiting_engines_are_as_deep_as_they_are_many(fio):
    clones = [job("c", bw=bw, ioengine="psync", numjobs="2", iodepth="16") for bw in (100_000_000, 150_000_000)]
    (found,) = read(fio(*clones)).reads
    assert found.access.queue_depth == 2
    assert found.bytes_per_s == 250e6


def test_clones_reported_as_a_group_are_one(fio):
    (found,) = read(fio(job(ioengine="psync", numjobs="8", group_reporting="1"))).reads
    assert (found.access.queue_depth, found.bytes_per_s) == (8, 5e8)


def test_a_point_measured_several_times_gets_its_median_and_percentiles(fio, tmp_path):
    jobs = [job(str(i), bw=bw) for i, bw in enumerate((300_000_000, 400_000_000, 500_000_000))]
    found = refine([fio(*jobs)], "pixel8", tmp_path / "mine.toml").device
    point = next(p for p in found.storage.curve if p.block_bytes == MIB).bandwidth
    assert (point.low, point.value, point.high) == (320e6, 400e6, 480e6)


@pytest.mark.parametrize(("options", "reason"), [
    ({"direct": "0"}, "buffered"), ({"rw": "randrw"}, "does not only read"), ({"rw": "write"}, "does not only read"),
    ({"rate": "100m"}, "limited"), ({"bssplit": "4k/50:64k/50"}, "several sizes"),
])  # fmt: skip
def test_jobs_that_say_nothing_about_the_storage_are_left_out_with_a_reason(fio, options, reason, tmp_path):
    found = refine([fio(job("good"), job("bad", **options))], "pixel8", tmp_path / "mine.toml")
    assert len(found.skipped) == 1
    assert "job bad" in found.skipped[0]
    assert reason in found.skipped[0]


def test_results_of_which_nothing_can_be_used_are_an_error(fio, tmp_path):
    with pytest.raises(UsageError, match="nothing in the results can be used"):
        refine([fio(job(direct="0"))], "pixel8", tmp_path / "mine.toml")
    assert not (tmp_path / "mine.toml").exists()


def test_page_faults_give_their_overhead_and_no_point(fio, tmp_path):
    direct = job("direct", rw="randread", bs="4k", iodepth="1")
    mapped = job("mapped", rw="randread", bs="4k", iodepth="1", ioengine="mmap", direct="0")
    mapped["read"]["clat_ns"] = {"mean": 91_000.0}
    path = fio(direct, mapped)
    assert fault_overhead_s(read(path).reads) == pytest.approx(16e-6)
    found = refine([path], "pixel8", tmp_path / "mine.toml").device
    assert found.storage.fault_overhead.value == pytest.approx(16e-6)
    assert sum(p.block_bytes == 4096 for p in found.storage.curve) == 1


def test_points_of_the_base_stay_only_far_from_what_was_measured(fio, tmp_path):
    base = catalog.load("pixel8")
    found = refine([fio(job())], "pixel8", tmp_path / "mine.toml").device
    kept = [p for p in found.storage.curve if p.bandwidth.source != "fio"]
    assert all(not MIB / 4 <= p.block_bytes <= 4 * MIB for p in kept)
    assert {p.block_bytes for p in base.storage.curve if p.block_bytes < MIB / 4} == {p.block_bytes for p in kept}


def test_lzbench_gives_decompression_at_the_lowest_level_with_wide_bounds(tmp_path):
    path = tmp_path / "lz.csv"
    path.write_text(LZBENCH)
    rates = refine([path], "pixel8", tmp_path / "mine.toml").device.cpu.decompress
    assert (rates["zstd"].value, rates["lz4"].value) == (pytest.approx(1347e6, rel=1e-3), pytest.approx(4512e6))
    assert rates["zstd"].low < 0.7 * rates["zstd"].value
    assert rates["brotli"].kind == "inferred"


def llama(**fields):
    return {"build_commit": "0c1e570", "cpu_info": "ARM", "backends": "CPU", "model_filename": "m.gguf",
            "model_type": "llama 1B Q4_K - Medium", "model_size": 800_000_000, "model_n_params": 1_200_000_000,
            "n_threads": 1, "type_k": "f16", "type_v": "f16", "n_prompt": 0, "n_gen": 10, "n_depth": 0,
            "avg_ns": 10**9, "stddev_ns": 0, "samples_ns": [10**9, 10**9, 10**9]} | fields  # fmt: skip


def test_llama_bench_gives_the_rate_of_a_core_and_of_prefill(tmp_path):
    path = tmp_path / "bench.jsonl"
    tests = [llama(), llama(n_threads=4, samples_ns=[4 * 10**8] * 3), llama(n_prompt=512, n_gen=0, n_threads=4)]
    path.write_text("\n".join(map(json.dumps, tests)))
    cpu = refine([path], "host-epyc-zen3", tmp_path / "mine.toml").device.cpu
    assert cpu.gemv["q4_k"].value == pytest.approx(8e9)
    assert cpu.gemv["q4_k"].low < 0.9 * 8e9  # the embedding table may be a part of it
    assert cpu.prefill["q4_k"].value == pytest.approx(2 * 1.2e9 * 512, rel=1e-3)
    assert cpu.gemv["q8_0"] == catalog.load("host-epyc-zen3").cpu.gemv["q8_0"]


def test_threads_that_read_more_than_the_base_s_memory_raise_its_bandwidth(tmp_path):
    path = tmp_path / "bench.json"
    path.write_text(json.dumps([llama(n_threads=2, samples_ns=[2 * 10**8] * 3)]))
    memory = refine([path], "host-epyc-zen3", tmp_path / "mine.toml").device.memory
    assert memory.read_bandwidth.value == pytest.approx(40e9)


@pytest.mark.parametrize(("text", "name"), [
    ("llama 8B Q4_K - Medium", "q4_k"), ("llama 7B Q8_0", "q8_0"), ("qwen2 1B F16", "f16"), ("gemma 2B BF16", "bf16"),
    ("llama 1B IQ4_NL - 4.5 bpw", "iq4"), ("llama ?B all F32", "f32"), ("llama 7B", None),
])  # fmt: skip
def test_the_weight_type_is_read_from_the_model_type(text, name):
    assert weight_class(text) == name


def test_mixtures_of_experts_and_other_backends_are_left_out(tmp_path):
    path = tmp_path / "bench.json"
    tests = [llama(), llama(model_type="qwen3moe 30B.A3B Q4_K - Medium"), llama(backends="CUDA")]
    path.write_text(json.dumps(tests))
    assert len(refine([path], "pixel8", tmp_path / "mine.toml").skipped) == 2


def test_without_a_base_what_is_missing_is_listed_with_how_to_get_it(fio, tmp_path):
    result = simio("calibrate", "--from", fio(job()), "-o", tmp_path / "mine.toml")
    assert result.code == 2
    assert "memory.total" in result.err
    assert "llama-bench -p 512 -n 128 -o json" in result.err
    assert "storage.curve" not in result.err
    assert "--device BASE" in result.err
    assert not (tmp_path / "mine.toml").exists()


FILES = [
    ("fio.json", '{"fio version": "fio-3.36", "jobs": [{"jobname": "a", "job opt', 11, "line 1"),
    ("fio.json", '{"fio version": "fio-3.36"}', 11, "jobs"),
    ("fio.json", '{"fio version": "fio-3.36", "jobs": [3]}', 11, "job 0"),
    ("fio.json", '{"fio version": "x", "jobs": [{"job options": {"direct": "1", "bs": "q"}, "read": {}}]}', 11, "'q' "),
    ("fio.json", '{"fio version": "x", "jobs": [{"job options": {"direct": "1"}, "read": {"bw": 0}}]}', 11, "read.bw_"),
    ("bench.json", '[{"build_commit": "0c1e570", "n_gen": 32, "avg_', 11, "row 1"),
    ("bench.json", '[{"build_commit": "0c1e570", "n_gen": 32, "n_prompt": 0}]', 11, "avg_ns"),
    ("lz.csv", LZBENCH.replace("1347.5", "fast"), 11, "Decompression speed"),
    ("lz.csv", LZBENCH.replace("Decompression speed", "Other"), 11, "Decompression speed"),
    ("lz.csv", LZBENCH.splitlines()[0] + "\nmemcpy,1,1,1,1,1,f\n", 11, "no row of"),
    ("what.txt", "hello", 11, "not a file of results"),
    ("what.json", '{"a": 1}', 11, "not a file of results"),
    ("empty", "", 11, "not a file of results"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "text", "code", "says"), FILES)
def test_a_damaged_or_unknown_file_is_refused_with_its_place(name, text, code, says, tmp_path):
    path = tmp_path / name
    path.write_text(text)
    result = simio("calibrate", "--from", path, "--device", "pixel8", "-o", tmp_path / "mine.toml")
    assert says in result.err
    assert name in result.err
    assert "→" in result.err
    assert result.code == code
    assert not (tmp_path / "mine.toml").exists()


def test_a_missing_file_and_an_unknown_base_are_named(tmp_path, fio):
    result = simio("calibrate", "--from", tmp_path / "no.json", "--device", "pixel8", "-o", tmp_path / "mine.toml")
    assert (result.code, "no such file" in result.err) == (2, True)
    result = simio("calibrate", "--from", fio(job()), "--device", "pixle8", "-o", tmp_path / "mine.toml")
    assert (result.code, "pixel8" in result.err) == (3, True)


def test_every_file_of_the_measured_host_is_read(shared, tmp_path):
    traces = shared / "traces" / "host-llamacpp"
    files = [*sorted((traces / "fio").glob("*.json")), *(traces / "llama_bench").glob("inram*.json")]
    words = [word for file in files for word in ("--from", file)]
    output = tmp_path / "mine.toml"
    result = simio("calibrate", *words, "--device", "host-epyc-zen3", "-o", output, "--json")
    assert result.code == 0
    device = catalog.load(str(output))
    rates = {(p.pattern, p.block_bytes, p.queue_depth): p.bandwidth.value for p in device.storage.curve}
    assert rates["sequential", MIB, 1] == pytest.approx(827.5e6, rel=1e-3)
    assert len(rates) == 6
    assert device.cpu.gemv["q8_0"].low < 308.7e6 / 30.2e-3 < device.cpu.gemv["q8_0"].high
    assert result.json["device"]["id"] == "mine"
    assert result.json["skipped"] == []


@pytest.mark.parametrize("name", ["Host.toml", "my host.toml", "-x.toml", "host.json", "host"])
def test_a_file_name_that_is_no_device_id_is_refused(name, tmp_path):
    with pytest.raises(UsageError):
        check_id(tmp_path / name)
