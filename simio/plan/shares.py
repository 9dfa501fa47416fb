"""How `stream` shares out RAM and which read requests it pins, as plain loops and arithmetic.

Only numbers, indexing, ``min`` and ``max``: the planner runs these as they stand, a sweep compiles them.
"""

from __future__ import annotations

from collections.abc import MutableSequence, Sequence

#: In place of a size or share that was not asked for.
NOT_ASKED = -1

#: What may not fit, by number, and what to do about it.
DEMANDS = (
    ("staging for one layer", "give more --ram, a shorter --context or a smaller quantization"),
    ("staging for one layer", "raise --staging"),
    ("staging", "lower --staging or give more --ram"),
    ("pinning beside the staging", "pin less, or give more --ram"),
)


def share_out(
    free_bytes: int,
    step_bytes: int,
    prefetch_depth: int,
    staging_bytes: int,
    pinnable_bytes: float,
    pinned_bytes: int,
    pinned_fraction: float,
    cache_bytes: int,
    leaves_cache: bool,
) -> tuple[int, float, float, int, float]:
    """Staging and the share of the dense weights to pin: (unmet, needed, available, staging, fraction).

    ``free_bytes`` are left beside KV cache and buffers; ``step_bytes`` of staging are what the largest step needs, and
    ``prefetch_depth`` more steps are staged where half of what is free allows. Pinned is what was asked for, or as much
    as is free beside the cache asked for; ``leaves_cache``: dense weights are to be cached, and without a size the
    cache gets all that is free. ``unmet`` is the number in ``DEMANDS`` of what does not fit, -1 if all does.
    """
    if step_bytes > free_bytes:
        return 0, float(step_bytes), float(free_bytes), 0, 0.0
    if staging_bytes == NOT_ASKED:
        staging = max(step_bytes, min((prefetch_depth + 1) * step_bytes, free_bytes // 2))
    else:
        staging = staging_bytes
        if step_bytes > staging:
            return 1, float(step_bytes), float(staging), 0, 0.0
        if staging > free_bytes:
            return 2, float(staging), float(free_bytes), 0, 0.0
    left = free_bytes - staging
    if pinned_fraction != NOT_ASKED:
        wanted = pinned_fraction * pinnable_bytes
    elif pinned_bytes != NOT_ASKED:
        wanted = min(float(pinned_bytes), pinnable_bytes)
    elif leaves_cache and cache_bytes == NOT_ASKED:
        wanted = 0.0
    else:
        wanted = min(max(0.0, float(left - max(0, cache_bytes))), pinnable_bytes)
    if wanted > left:
        return 3, wanted, float(left), 0, 0.0
    return -1, 0.0, 0.0, staging, wanted / max(1.0, pinnable_bytes)


def pin(
    raw_bytes: Sequence[int],
    held_bytes: Sequence[int],
    fraction: float,
    limit_bytes: float,
    pinned: MutableSequence[bool],
) -> int:
    """Mark in ``pinned`` the requests that stay in RAM, evenly over all of them; what they take there. [bytes]

    ``fraction`` of the raw bytes is pinned in whole requests, never more than ``limit_bytes`` as they are held.
    """
    credit = 0.0
    in_ram = 0
    for i in range(len(raw_bytes)):
        credit += raw_bytes[i] * fraction
        pinned[i] = credit >= 0.999999 * raw_bytes[i] and in_ram + held_bytes[i] <= limit_bytes
        if pinned[i]:
            credit -= raw_bytes[i]
            in_ram += held_bytes[i]
    return in_ram
