"""The waist: bytes, flop and order of a run, without a second in it. Both engines and the bounds read the same Plan."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class Fetch:
    """One piece of work that must finish before its step may compute: a read request, a decompression, or both.

    ``link_bytes`` come from storage in ``n_reads`` requests (0 when the weights are in RAM, compressed) and carry
    ``raw_bytes`` of weights; ``decompress_bytes`` is the output of the decompressor (0 when stored raw), made of
    ``n_chunks`` equal parts that workers take independently; ``staging_bytes`` of buffer are taken from admission until
    the step has computed. ``sequential``: the read follows file order; routed experts and embedding rows do not.
    """

    link_bytes: int
    n_reads: int
    raw_bytes: int
    decompress_bytes: int
    n_chunks: int
    staging_bytes: int
    sequential: bool


@dataclass(frozen=True, slots=True)
class Step:
    """The unit of compute: part of a layer whose weights are consumed together.

    ``weight_bytes`` lists (kernel class, stored bytes touched); ``flop`` is the batched work of a prefill step and 0
    for decode, where weights are read once per token. ``overheads`` counts the layer synchronisations it pays.
    ``router_back`` is how many steps back the router computes that chose this step's experts: nothing may be read
    before it has; 0 where the bytes are known beforehand.
    """

    layer: int
    label: str
    weight_bytes: tuple[tuple[str, int], ...]
    kv_bytes: float
    flop: tuple[tuple[str, float], ...]
    overheads: int
    router_back: int
    fetches: tuple[Fetch, ...]
    care: Care | None = None


@dataclass(frozen=True, slots=True)
class Care:
    """What a streamed mixture costs the cores besides arithmetic.

    ``commit_bytes`` of a weight cache make room for what is read, ``swap_bytes`` go through swap page by page, in or
    out, and ``handovers`` times threads are woken that have waited for long.
    """

    commit_bytes: int = 0
    swap_bytes: int = 0
    handovers: int = 0


@dataclass(frozen=True, slots=True)
class Pass:
    """One walk through the model: loading, the prefill of the prompt, or one decoded token."""

    kind: str  # "load", "prefill" or "decode"
    steps: tuple[Step, ...]

    @property
    def last_swap_bytes(self) -> int:
        """What its last step brings through swap, after all reads."""
        care = self.steps[-1].care
        return care.swap_bytes if care else 0

    def with_last_swap(self, n_bytes: int) -> Pass:
        """The same pass with so much of it."""
        if n_bytes == self.last_swap_bytes:
            return self
        *steps, last = self.steps
        care = replace(last.care or Care(), swap_bytes=n_bytes)
        return Pass(self.kind, (*steps, replace(last, care=care)))


@dataclass(frozen=True, slots=True)
class RamUse:
    """Where the RAM goes at its peak. [bytes]"""

    weights: int  # pinned, cached or mapped
    staging: int
    kv_cache: int
    buffers: int  # activations and logits
    budget: int

    @property
    def peak(self) -> int:
        """All of it together."""
        return self.weights + self.staging + self.kv_cache + self.buffers


@dataclass(frozen=True, slots=True)
class Plan:
    """Passes in order. ``order[i]`` indexes ``passes``: equal passes are stored once, which is what lets an engine stop
    when a steady state repeats. First come the load (if any) and the prefill; the rest decode one token each.
    """

    runtime: str  # resolved: "resident", "mmap" or "stream"
    passes: tuple[Pass, ...]
    order: tuple[int, ...]
    prefetch_depth: int
    staging_bytes: int
    queue_depth: int
    n_workers: int
    n_threads: int
    request_bytes: int  # nominal size of one read
    ram: RamUse
    notes: tuple[str, ...] = ()
    in_order: bool = True  # reads go through the file from front to back
    n_together: int = 1  # reads that a burst begins with
    fresh_bytes: int = 0  # of one read that land in pages nobody has touched
    cache_hit_ratio: float | None = None  # of experts decoded tokens look up in the weight cache; None: not counted

    @property
    def decompresses(self) -> bool:
        """Whether workers are busy while tokens are computed (and not only while loading)."""
        walks = (p for p in self.passes if p.kind != "load")
        return any(fetch.decompress_bytes for p in walks for step in p.steps for fetch in step.fetches)

    @property
    def hit_ratio(self) -> float:
        """Share of the weight bytes touched by decoded tokens that were in RAM."""
        touched = missed = 0
        for index, n in Counter(self.order[self.n_setup :]).items():
            for step in self.passes[index].steps:
                touched += n * sum(n_bytes for _, n_bytes in step.weight_bytes)
                missed += n * sum(fetch.raw_bytes for fetch in step.fetches)
        return 1 - missed / touched if touched else 1.0

    @property
    def n_setup(self) -> int:
        """Entries of ``order`` before the first decoded token."""
        return sum(1 for index in self.order if self.passes[index].kind != "decode")
