"""What a device is: rates, sizes and where each number comes from. No bytes to read, no seconds of a run."""

from __future__ import annotations

from dataclasses import dataclass, field

#: Kinds of source, from best to worst; ``assumed`` numbers must carry wide bounds and a note.
SOURCE_KINDS = ("measured", "datasheet", "review", "inferred", "assumed", "fitted")


@dataclass(frozen=True, slots=True)
class Source:
    """Where a number comes from."""

    id: str
    kind: str  # one of SOURCE_KINDS
    url: str
    note: str = ""


@dataclass(frozen=True, slots=True)
class Quantity:
    """A number in SI with its bounds (10th and 90th percentile) and its source."""

    value: float
    low: float
    high: float
    unit: str  # the SI dimension: "bytes_per_s", "s", "bytes", "1", "flop_per_s", "hz", "degc", "w", "j_per_byte"
    source: str  # Source.id, or "assumed"
    kind: str  # of the source
    note: str = ""


@dataclass(frozen=True, slots=True)
class ReadPoint:
    """One measured point of the storage curve: requests of ``block_bytes`` with ``queue_depth`` of them in flight."""

    pattern: str  # "random" or "sequential"
    block_bytes: int
    queue_depth: int
    bandwidth: Quantity  # [bytes/s]


@dataclass(frozen=True, slots=True)
class Storage:
    """Flash: what an app reads. ``curve`` has at least one point."""

    kind: str  # "UFS 3.1", "NVMe PCIe 3.0 x1", "microSD" …
    curve: tuple[ReadPoint, ...]
    read_ahead_bytes: Quantity  # window of a page-fault read
    fault_overhead: Quantity  # CPU time per page fault taken [s]
    best_queue_depth: int
    folio_bytes: Quantity | None = None  # largest folio of the page cache; None: single pages, or not known
    fault_bandwidth: Quantity | None = None  # of page faults in file order, reclaiming; None: what the curve says


@dataclass(frozen=True, slots=True)
class Cluster:
    """Cores of one kind. ``relative_speed`` is against the fastest core of this device."""

    name: str
    n_cores: int
    clock: Quantity
    relative_speed: Quantity


@dataclass(frozen=True, slots=True)
class Cpu:
    """Compute. ``gemv`` and ``decompress`` are rates of one fastest core, ``prefill`` of the default threads."""

    clusters: tuple[Cluster, ...]  # fastest first
    default_threads: int
    gemv: dict[str, Quantity]  # weight class → bytes of stored weights per second (dequantize + GEMV)
    prefill: dict[str, Quantity]  # weight class → flop/s (batched GEMM)
    decompress: dict[str, Quantity]  # codec id → bytes of output per second
    layer_overhead: Quantity  # synchronisation and dispatch per layer [s]
    parallel_efficiency: Quantity | None = None  # rate of a core with all cores busy ÷ alone; None: 1
    thread_efficiency: Quantity | None = None  # of a compute thread when all share every matrix ÷ alone; None: 1
    handover: Quantity | None = None  # waking threads that wait for reads of experts [s]; None: nothing


@dataclass(frozen=True, slots=True)
class Memory:
    """RAM. ``usable`` is what one app gets, not what the box says."""

    total: Quantity
    usable: Quantity
    read_bandwidth: Quantity  # all the threads of a GEMV together
    reserve: Quantity | None = None  # what the runtime and the system keep of the RAM available at launch [bytes]
    commit_bandwidth: Quantity | None = None  # a weight cache letting pages go for new ones; None: free
    fresh_page: Quantity | None = None  # a lane copying into a page nobody has touched yet [s]; None: nothing
    page_cache_share: Quantity | None = None  # of the RAM available, what a mapped mixture past it gets; None: all
    swap_fault: Quantity | None = None  # bringing one swapped page (zram) back [s]; None: swapping is not predicted
    swap_onset: Quantity | None = None  # the system swaps where less is left of the RAM available at launch [bytes]
    swap_share: Quantity | None = None  # of what is missing to ``swap_onset``, what it takes of this app; None: nothing


@dataclass(frozen=True, slots=True)
class Thermal:
    """What sustained load does. Shares are of the cool rate, reached exponentially with ``time_constant``.

    ``cool`` and ``hot`` are CPU temperatures: a run that starts at ``hot`` starts derated. [°C]
    """

    time_constant: Quantity  # [s]
    cpu_share: Quantity
    storage_share: Quantity
    cool: Quantity
    hot: Quantity


@dataclass(frozen=True, slots=True)
class Power:
    """What the device draws at its battery or its plug, screen off: the powers of equation E1."""

    baseline: Quantity  # awake with idle cores, whatever runs [W]
    core: dict[str, Quantity]  # cluster name → one busy core of it, beyond the baseline [W]
    dram: Quantity  # traffic between memory and cores [J/byte]
    storage_read: Quantity  # while the storage reads, beyond the baseline [W]


@dataclass(frozen=True, slots=True)
class Device:
    """One device file, converted to SI."""

    id: str
    name: str
    soc: str
    storage: Storage
    cpu: Cpu
    memory: Memory
    sources: tuple[Source, ...]
    aliases: tuple[str, ...] = field(default=())
    thermal: Thermal | None = None  # None: heat is not predicted
    power: Power | None = None  # None: energy is not predicted
    residual: Quantity | None = None  # standard deviation of log time that a fit to runs left unexplained; None: no fit
