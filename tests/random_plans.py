"""Random timed plans for the laws: every feature of the pipeline, small enough to simulate in milliseconds."""

from __future__ import annotations

import random

from simio.records.timed import TimedPlan


def random_plan(seed: int) -> TimedPlan:
    """A plan whose every step fits its staging, drawn from ``seed``."""
    rng = random.Random(seed)
    pass_step, step_fetch = [0], [0]
    compute, router_back, is_read, link, decompress, chunks, staging, link_bytes = [], [], [], [], [], [], [], []
    with_codec = rng.random() < 0.6
    for _ in range(rng.randint(1, 3)):
        since_router = 0
        for _ in range(rng.randint(1, 7)):
            compute.append(rng.choice([0.0, rng.uniform(1e-4, 5e-3)]))
            since_router = rng.choice([0, 1, since_router + 1 if since_router else 0])
            router_back.append(since_router)
            for _ in range(rng.randint(0, 5)):
                read = rng.random() < 0.85
                n_bytes = rng.randint(1, 1 << 20) if read else 0
                compressed = not read or (with_codec and rng.random() < 0.8)
                is_read.append(read)
                link_bytes.append(n_bytes)
                link.append(n_bytes / 1e9 if read else 0.0)
                decompress.append(rng.uniform(1e-5, 3e-3) if compressed else 0.0)
                chunks.append(rng.randint(1, 4) if compressed else 0)
                staging.append(rng.choice([0, n_bytes + 1000]))
            step_fetch.append(len(is_read))
        pass_step.append(len(compute))
    most = max(sum(staging[step_fetch[s] : step_fetch[s + 1]]) for s in range(len(compute)))
    runs = [[rng.randrange(len(pass_step) - 1)] * rng.randint(1, 12) for _ in range(rng.randint(1, 3))]
    return TimedPlan(
        order=[p for run in runs for p in run],
        pass_step=pass_step,
        step_fetch=step_fetch,
        compute_s=compute,
        router_back=router_back,
        is_read=is_read,
        link_s=link,
        decompress_s=decompress,
        n_chunks=chunks,
        staging_bytes=staging,
        link_bytes=link_bytes,
        latency_s=rng.choice([0.0, 1e-4, 2e-3]),
        prefetch_depth=rng.randint(0, 4),
        capacity_bytes=int(most * rng.choice([1.0, 1.3, 4.0])),
        queue_depth=rng.randint(1, 5),
        n_workers=rng.randint(1, 4),
    )
