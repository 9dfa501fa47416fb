"""Queue slots, one link, decompression workers, staging and compute, played out in SimPy.

Latency is waited with a slot but without the link, so throughput is min(bandwidth, depth·s/(latency + s/bandwidth)).
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import dataclass
from typing import Any

import simpy

from simio.records.span import Span
from simio.records.timed import TimedPlan

Process = Generator[simpy.Event, Any, None]


@dataclass(frozen=True, slots=True)
class Simulated:
    """When each pass ended [s], and every span of service."""

    pass_end_s: list[float]
    spans: list[Span]


def run(timed: TimedPlan, n_passes: int | None = None) -> Simulated:
    """Simulate the first ``n_passes`` entries of ``timed.order`` (all by default)."""
    return _Pipeline(timed, timed.order[:n_passes]).run()


class _Pipeline:
    def __init__(self, timed: TimedPlan, order: list[int]) -> None:
        self.timed = timed
        self.env = env = simpy.Environment()
        self.slots = simpy.Resource(env, timed.queue_depth)
        self.link = simpy.Resource(env, 1)
        self.workers = simpy.Resource(env, timed.n_workers)
        self.staging = simpy.Container(env, max(1, timed.capacity_bytes), max(1, timed.capacity_bytes))
        self.steps = [(i, s) for i, p in enumerate(order) for s in range(timed.pass_step[p], timed.pass_step[p + 1])]
        self.computed = [env.event() for _ in self.steps]
        n = [timed.step_fetch[s + 1] - timed.step_fetch[s] for _, s in self.steps]
        self.arrived = [[env.event() for _ in range(k)] for k in n]
        self.ready = [[env.event() for _ in range(k)] for k in n]
        self.pass_end = [0.0] * len(order)
        self.spans: list[Span] = []

    def run(self) -> Simulated:
        for process in (self.reader(), self.dispatcher(), self.token_loop()):
            self.env.process(process)
        self.env.run()
        return Simulated(self.pass_end, self.spans)

    def fetches(self) -> Iterator[tuple[int, int, int]]:
        """(global step, number within the step, fetch) in plan order."""
        for g, (_, s) in enumerate(self.steps):
            for k, f in enumerate(range(self.timed.step_fetch[s], self.timed.step_fetch[s + 1])):
                yield g, k, f

    def reader(self) -> Process:
        """Admit fetches in order: gate, staging, slot."""
        for g, k, f in self.fetches():
            for gate in self.gates(g):
                yield self.computed[gate]
            if self.timed.staging_bytes[f]:
                yield self.staging.get(self.timed.staging_bytes[f])
            if not self.timed.is_read[f]:
                self.arrived[g][k].succeed()
                continue
            slot = self.slots.request()
            yield slot
            self.env.process(self.read(g, k, f, slot))

    def gates(self, g: int) -> Iterator[int]:
        """The steps that must have computed before fetches of step ``g`` are admitted."""
        back = self.timed.router_back[self.steps[g][1]]
        if g - 1 - self.timed.prefetch_depth >= 0:
            yield g - 1 - self.timed.prefetch_depth
        if back and g - back >= 0:
            yield g - back

    def read(self, g: int, k: int, f: int, slot: simpy.resources.resource.Request) -> Process:
        """Wait the latency with the slot, then hold the link for the transfer."""
        queued = self.env.now
        if self.timed.latency_s:
            yield self.env.timeout(self.timed.latency_s)
        with self.link.request() as turn:
            yield turn
            start = self.env.now
            yield self.env.timeout(self.timed.link_s[f])
        self.slots.release(slot)
        self.note("storage", g, queued, start, self.timed.link_bytes[f])
        self.arrived[g][k].succeed()

    def dispatcher(self) -> Process:
        """Hand what has arrived to the workers, in plan order."""
        for g, k, f in self.fetches():
            if not self.timed.decompress_s[f]:
                continue
            yield self.arrived[g][k]
            queued = self.env.now
            worker = self.workers.request()
            yield worker
            self.env.process(self.decompress(g, k, f, worker, queued))

    def decompress(self, g: int, k: int, f: int, worker: simpy.resources.resource.Request, queued: float) -> Process:
        """Hold a worker."""
        start = self.env.now
        yield self.env.timeout(self.timed.decompress_s[f])
        self.workers.release(worker)
        self.note("decompress", g, queued, start, 0)
        self.ready[g][k].succeed()

    def token_loop(self) -> Process:
        """Compute step after step, each when its fetches are ready; then give its staging back."""
        for g, (i, s) in enumerate(self.steps):
            queued = self.env.now
            first = self.timed.step_fetch[s]
            for k in range(len(self.ready[g])):
                yield (self.ready if self.timed.decompress_s[first + k] else self.arrived)[g][k]
            start = self.env.now
            if self.timed.compute_s[s]:
                yield self.env.timeout(self.timed.compute_s[s])
            self.note("compute", g, queued, start, 0)
            self.pass_end[i] = self.env.now
            self.computed[g].succeed()
            held = sum(self.timed.staging_bytes[first : self.timed.step_fetch[s + 1]])
            if held:
                yield self.staging.put(held)

    def note(self, resource: str, g: int, queued: float, start: float, n_bytes: int) -> None:
        if self.env.now > start or n_bytes:
            self.spans.append(Span(resource, self.steps[g][0], g, queued, start, self.env.now, n_bytes))
