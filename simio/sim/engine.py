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

#: Of the simulation library.
VERSION: str = simpy.__version__

Process = Generator[simpy.Event, Any, None]


@dataclass(frozen=True, slots=True)
class Simulated:
    """When each pass ended [s], every span of service, and ∫ number in system dt per resource, as counted [s]."""

    pass_end_s: list[float]
    spans: list[Span]
    in_system_s: dict[str, float]


class _Census:
    """Counts who is at a resource and integrates the count over time."""

    def __init__(self, env: simpy.Environment) -> None:
        self.env = env
        self.n = 0
        self.since = 0.0
        self.area_s = 0.0

    def change(self, by: int) -> None:
        self.area_s += self.n * (self.env.now - self.since)
        self.since = self.env.now
        self.n += by


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
        self.census = {name: _Census(env) for name in ("storage", "decompress", "compute")}
        self.pass_end = [0.0] * len(order)
        self.spans: list[Span] = []

    def run(self) -> Simulated:
        for process in (self.reader(), self.dispatcher(), self.token_loop()):
            self.env.process(process)
        self.env.run()
        return Simulated(self.pass_end, self.spans, {name: c.area_s for name, c in self.census.items()})

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
        queued = self.arrive("storage")
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
        """Hand the chunks of what has arrived to the workers, in plan order."""
        for g, k, f in self.fetches():
            if not self.timed.n_chunks[f]:
                continue
            yield self.arrived[g][k]
            running = []
            for _ in range(self.timed.n_chunks[f]):
                queued = self.arrive("decompress")
                worker = self.workers.request()
                yield worker
                running.append(self.env.process(self.decompress(g, f, worker, queued)))
            self.env.process(self.gather(g, k, running))

    def decompress(self, g: int, f: int, worker: simpy.resources.resource.Request, queued: float) -> Process:
        """Hold a worker for one chunk."""
        start = self.env.now
        yield self.env.timeout(self.timed.decompress_s[f])
        self.workers.release(worker)
        self.note("decompress", g, queued, start, 0)

    def gather(self, g: int, k: int, running: list[simpy.Process]) -> Process:
        """A fetch is ready when all its chunks are."""
        yield self.env.all_of(running)
        self.ready[g][k].succeed()

    def token_loop(self) -> Process:
        """Compute step after step, each when its fetches are ready; then give its staging back."""
        for g, (i, s) in enumerate(self.steps):
            queued = self.arrive("compute")
            first = self.timed.step_fetch[s]
            for k in range(len(self.ready[g])):
                yield (self.ready if self.timed.n_chunks[first + k] else self.arrived)[g][k]
            start = self.env.now
            if self.timed.compute_s[s]:
                yield self.env.timeout(self.timed.compute_s[s])
            self.note("compute", g, queued, start, 0)
            self.pass_end[i] = self.env.now
            self.computed[g].succeed()
            held = sum(self.timed.staging_bytes[first : self.timed.step_fetch[s + 1]])
            if held:
                yield self.staging.put(held)

    def arrive(self, resource: str) -> float:
        """Join ``resource`` now. [s]"""
        self.census[resource].change(+1)
        return self.env.now

    def note(self, resource: str, g: int, queued: float, start: float, n_bytes: int) -> None:
        """Leave ``resource``, served."""
        self.census[resource].change(-1)
        self.spans.append(Span(resource, self.steps[g][0], g, queued, start, self.env.now, n_bytes))
