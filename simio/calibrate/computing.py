"""What of the processor is measured: kernels by weight type, decompression by codec, and all cores at once."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from simio.calibrate import decompression, kernels
from simio.calibrate.machine import CoreGroup
from simio.calibrate.memory import BigArray
from simio.calibrate.rounds import Probe

MEMORY, PARALLEL = "memory", "parallel"
#: Weight types whose prefill rate is measured; the first stands for the others.
PREFILL = ("q8_0", "q4_k", "q4_0", "q6_k", "f32", "f16", "bf16", "int8")
#: What runs side by side to learn how cores disturb each other: pairs of (weight type or codec).
_SIDE_BY_SIDE = (("q8_0", "q8_0"), ("q4_k", "zstd"), ("zstd", "zstd"), ("q8_0", "lz4"))
Work = Callable[[int], int]


class Cores:
    """The kernels, codecs and memory of a calibration. ``groups``: the machine's cores, fastest first."""

    def __init__(self, groups: Sequence[CoreGroup], working_set_bytes: int) -> None:
        self._fastest = set(groups[0].cpus)
        self._groups = groups
        self._arena = kernels.Arena(working_set_bytes)
        self._array = BigArray(2 * working_set_bytes)
        self._samples = {name: decompression.samples_of(codec) for name, codec in decompression.CODECS.items()}
        self.n_cores = sum(len(group.cpus) for group in groups)
        self.kernel_classes = [name for name, dtype in kernels.TYPES.items() if kernels.can_compute(dtype)]

    def probes(self, default_threads: int) -> list[Probe]:
        """Everything that is measured of the processor."""
        found = [Probe(MEMORY, lambda s: {MEMORY: self._array.bandwidth(default_threads, s)})]
        found += [self._one(f"decompress/{name}/1", name, 1, every=1, share=1.0) for name in self._samples]
        found += [
            self._one(f"gemv/{name}/1", name, 1, every=1 if name in PREFILL else 2, share=0.7)
            for name in self.kernel_classes
        ]
        found += [self._prefill(name, default_threads) for name in PREFILL if name in self.kernel_classes]
        if self.n_cores > 1:
            n = self.n_cores
            found += [self._one(f"{'gemv' if name in kernels.TYPES else 'decompress'}/{name}/{n}", name, n, 4, 0.5)
                      for name in (*self._samples, *self.kernel_classes)]  # fmt: skip
            found += [Probe(f"{PARALLEL}/{a}+{b}", self._side_by_side(a, b)) for a, b in _SIDE_BY_SIDE]
        found += [self._relative(k) for k in range(1, len(self._groups))]
        return found

    def work(self, name: str) -> Work:
        """The work called by a weight class or a codec."""
        if name in self._samples:
            return decompression.work(self._samples[name])
        return kernels.gemv_work(self._arena.blocks(kernels.TYPES[name]))

    def _one(self, series: str, name: str, n_threads: int, every: int, share: float) -> Probe:
        def measure(duration_s: float) -> dict[str, float]:
            if n_threads == 1:
                with pinned(self._fastest):
                    if name in self._samples:
                        return {series: decompression.rate(self._samples[name], duration_s)}
                    return {series: kernels.shared_rate([self.work(name)], duration_s)[0]}
            return {series: sum(kernels.shared_rate([self.work(name)] * n_threads, duration_s))}

        return Probe(series, measure, every, share)

    def _prefill(self, name: str, n_threads: int) -> Probe:
        series = f"prefill/{name}/{n_threads}"

        def measure(duration_s: float) -> dict[str, float]:
            work = kernels.gemm_work(self._arena.blocks(kernels.TYPES[name]))
            return {series: sum(kernels.shared_rate([work] * n_threads, duration_s))}

        return Probe(series, measure, every=3)

    def _side_by_side(self, a: str, b: str) -> Callable[[float], dict[str, float]]:
        """Half of the cores do ``a``, half ``b``: the mean of what each still does of its rate alone."""

        def measure(duration_s: float) -> dict[str, float]:
            works = [self.work(a), self.work(b)] if a != b else [self.work(a)] * 2
            alone = [kernels.shared_rate([work], duration_s / 4)[0] for work in works]
            every = [works[k % 2] for k in range(self.n_cores)]
            together = kernels.shared_rate(every, duration_s / 2)
            shares = [rate / alone[k % 2] for k, rate in enumerate(together)]
            return {PARALLEL: min(1.0, sum(shares) / len(shares))}

        return measure

    def _relative(self, group: int) -> Probe:
        """The speed of a core of another group against one of the fastest, in turns."""
        series = f"relative/{group}"

        def measure(duration_s: float) -> dict[str, float]:
            rates = []
            for cpus in (self._groups[group].cpus, self._groups[0].cpus):
                with pinned(set(cpus)):
                    rates.append(kernels.shared_rate([self.work("q8_0")], duration_s / 2)[0])
            return {series: rates[0] / rates[1]}

        return Probe(series, measure)


@contextmanager
def pinned(cpus: set[int]) -> Iterator[None]:
    """This thread, and threads it starts, run on ``cpus`` only."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cpus)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
