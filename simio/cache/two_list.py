"""Linux's page cache of one mapped file under a memory limit: two lists, second chances and refaults.

A cyclic scan longer than such a cache neither misses everything, as under LRU, nor reads only what is missing. The
rules are those of the kernel without multi-generational LRU (``CONFIG_LRU_GEN`` off), no swap, one process mapping the
file. Units stand for pages: the rules do not depend on their size.

- A page read enters the **inactive** list, unless its *refault distance* is at most the active list's size: then the
  **active** one. Distance: evictions and activations since it was evicted (mm/workingset.c, ``workingset_refault``).
- Reclaim looks at the oldest inactive page. Not used since the last look: evicted. Used for the first time: another
  round. Used again since: activated (mm/vmscan.c, ``folio_check_references``; accessed bits count once per mapping,
  mm/rmap.c, ``folio_referenced_one``). Pages still being read are locked and go round too.
- While refaults activate pages, or the inactive list is low, active pages fall back in proportion to the lists' sizes,
  and are not asked whether they were used (``shrink_active_list``).
- Low: ``inactive · √(10 · GiB of both lists) < active``, below 1 GiB ``inactive < active`` (``inactive_is_low``).
- The list sizes and refaults in those decisions are a memory cgroup's statistics, which are brought up to date every
  two seconds only (mm/memcontrol.c, ``FLUSH_TIME``) unless somebody reads ``memory.stat``. At 200 MB/s that is a token
  of a 0.4 GB model: the lists swing, and where a run settles depends on when the statistics were taken.
"""

from __future__ import annotations

from collections import OrderedDict
from math import isqrt


class TwoList:
    """Pages of a file, in units of ``unit_bytes``; at most ``capacity`` of them.

    >>> cache = TwoList(capacity=2, unit_bytes=4096)
    >>> for unit in (1, 2, 3):
    ...     cache.insert(unit)
    >>> [unit in cache for unit in (1, 2, 3)]
    [False, True, True]
    """

    def __init__(self, capacity: int, unit_bytes: int, flush_every: float = 0.0, flush_in: float = 0.0) -> None:
        """Statistics are flushed every ``flush_every`` units inserted, first after ``flush_in``."""
        self.capacity = max(1, capacity)
        self.unit_bytes = unit_bytes
        self.inactive: OrderedDict[int, None] = OrderedDict()  # oldest first
        self.active: OrderedDict[int, None] = OrderedDict()
        self.locked: set[int] = set()  # being read
        self.mapped: set[int] = set()  # in the page tables, so that touching them takes no fault
        self._young: set[int] = set()  # accessed bit of the page tables
        self._referenced: set[int] = set()  # PG_referenced
        self._evicted_at: dict[int, int] = {}
        self._age = 0  # lruvec.nonresident_age
        self._n_refaults = 0  # activated on refault so far
        self._flush_every, self._flush_in = flush_every, flush_in
        self._seen = (0, 0, 0)  # inactive, active and activated on refault, when statistics were last flushed
        self._refaults_before = 0  # as seen by the last reclaim
        self._owed = 0.0  # active pages still to scan

    def __contains__(self, unit: int) -> bool:
        return unit in self.inactive or unit in self.active

    def insert(self, unit: int) -> None:
        """Make room for ``unit``, which is not in the cache, and add it. Over capacity only when all is locked."""
        self._flush_in -= 1
        if self._flush_in <= 0:
            self._flush_in += self._flush_every or 1
            self._seen = len(self.inactive), len(self.active), self._n_refaults
        while len(self.inactive) + len(self.active) >= self.capacity and self._reclaim_one():
            pass
        evicted_at = self._evicted_at.pop(unit, None)
        if evicted_at is not None and self._age - evicted_at <= self._seen[1]:
            self._n_refaults += 1
            self._age += 1
            self.active[unit] = None
        else:
            self.inactive[unit] = None

    def touch(self, unit: int) -> None:
        """Use a page of ``unit`` through the mapping: sets its accessed bit."""
        self.mapped.add(unit)
        self._young.add(unit)

    def mark_accessed(self, unit: int) -> None:
        """``folio_mark_accessed`` once: the first call marks a page, the second one activates it."""
        if unit in self._referenced:
            self.activate(unit)
        else:
            self._referenced.add(unit)

    def activate(self, unit: int) -> None:
        """Move an inactive ``unit`` to the active list."""
        if unit in self.inactive:
            del self.inactive[unit]
            self.active[unit] = None
            self._age += 1
        self._referenced.discard(unit)

    def _reclaim_one(self) -> bool:
        """Evict one unit; False when all are locked. After a round in vain active pages fall back whatever was seen."""
        deactivates = self._seen[2] != self._refaults_before or self._inactive_is_low()
        a_round = 2 * len(self.inactive)
        for n_looked_at in range(4 * (len(self.inactive) + len(self.active)) + 8):
            if deactivates or n_looked_at > a_round or not self.inactive:
                self._scan_active()
            if not self.inactive:
                return False
            unit, _none = self.inactive.popitem(last=False)
            if not self._keeps(unit):
                self._evict(unit)
                self._refaults_before = self._seen[2]
                return True
        return False

    def _inactive_is_low(self) -> bool:
        n_inactive, n_active, _ = self._seen
        gib = (n_inactive + n_active) * self.unit_bytes >> 30
        return n_inactive * (isqrt(10 * gib) if gib else 1) < n_active

    def _scan_active(self) -> None:
        """Let active pages fall back: as many per inactive page looked at as the lists' sizes say."""
        self._owed += len(self.active) / len(self.inactive) if self.inactive else 1.0
        while self._owed >= 1 and self.active:
            self._owed -= 1
            unit, _none = self.active.popitem(last=False)
            self._young.discard(unit)
            self.inactive[unit] = None
        if not self.active:
            self._owed = 0.0

    def _keeps(self, unit: int) -> bool:
        """Give an oldest inactive ``unit`` its due; False when it is to be evicted."""
        if unit in self.locked:
            self.inactive[unit] = None
        elif unit not in self._young:
            return False
        elif unit in self._referenced:
            self._young.discard(unit)
            self._referenced.discard(unit)
            self.active[unit] = None
            self._age += 1
        else:
            self._young.discard(unit)
            self._referenced.add(unit)
            self.inactive[unit] = None
        return True

    def _evict(self, unit: int) -> None:
        self._referenced.discard(unit)
        self.mapped.discard(unit)
        self._evicted_at[unit] = self._age
        self._age += 1
