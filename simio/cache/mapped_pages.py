"""Page faults of a mapped file with Linux's read-ahead in front of the two lists.

As mm/filemap.c and mm/readahead.c read ahead for a mapping that was neither declared random nor sequential:

- A fault on a page that is not cached reads a whole window *around* it, half of it behind, and marks the page three
  quarters into the window (``do_sync_mmap_readahead``: ``start = page − w/2``, ``size = w``, ``async_size = w/4``).
- A fault on a marked page reads the next window ahead, marked at its first page (``do_async_mmap_readahead``).
- Windows read ahead are made of larger and larger folios: each four times the last one's, up to the largest the file
  system allows (``page_cache_ra_order``; ``ra->order += 2``). A window read around is made of single pages.
- What the cache holds is not read again; what read-ahead brought and reclaim took before its use is read twice.

Loading with ``MAP_POPULATE`` touches every page in order and marks it accessed (mm/gup.c, ``FOLL_TOUCH``): once per
page, so a folio of several pages is marked more than once and starts out active, but not one mapped as a whole (2 MiB).
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from math import log2

from simio.cache.two_list import TwoList

PAGE_BYTES = 4096
#: Order of a folio that one page-table entry of the next level maps: 2 MiB on x86-64 and arm64 with 4 KiB pages.
HUGE_ORDER = 9
#: Asking for a window of small folios, and reclaiming as many, takes as long as reading this share of what is in flight
#: (mm_filemap tracepoints, kernel 6.18, 16 MiB windows at 200 MB/s: 10 to 19 ms for single pages, 10 for 64 KiB, 1 to 3
#: for 512 KiB and more, while a throttle's burst brings 16 MiB in about 20 ms): so much has arrived meanwhile, and is
#: no longer locked. Folios of ``QUICK_ORDER`` and more take no time worth counting.
ARRIVED, QUICK_ORDER = 0.5, 7


@dataclass(frozen=True, slots=True)
class Kernel:
    """What the kernel and the file system give a mapping."""

    window_bytes: int  # one read-ahead
    folio_bytes: int = PAGE_BYTES  # largest folio of the page cache
    flush_bytes: int = 0  # read between two flushes of a cgroup's statistics; 0: always up to date


class MappedPages:
    """One file of ``n_units`` of ``unit_bytes``, mapped, cached by ``pages`` and read through its faults."""

    def __init__(self, n_units: int, pages: TwoList, kernel: Kernel) -> None:
        self.n_units = n_units
        self.pages = pages
        self.window = max(1, round(kernel.window_bytes / pages.unit_bytes))
        largest = min(kernel.folio_bytes, kernel.window_bytes)
        self._most_order = min(HUGE_ORDER, int(log2(max(1, largest // PAGE_BYTES))))
        self.n_read = 0  # units read so far
        self.n_missed = 0  # units whose first use after being read was a touch
        self._fresh: set[int] = set()  # read and not used yet
        self._orders: dict[int, int] = {}
        self._marked: set[int] = set()  # PG_readahead
        self._in_flight: deque[int] = deque()  # the locked units, in the order they were asked for
        self._start = self._size = self._mark = self._order = 0  # file_ra_state

    def touch(self, unit: int) -> None:
        """Use every page of ``unit``, reading it where it is not cached."""
        if unit not in self.pages:
            self._read_around(unit)
        elif unit in self._marked and unit not in self.pages.mapped:
            self._read_ahead(unit)
        if unit in self._fresh:
            self._fresh.discard(unit)
            self.n_missed += 1
        if unit in self.pages.locked:
            self._arrive(unit)
        self.pages.touch(unit)

    def populate(self) -> None:
        """Load the file as ``MAP_POPULATE`` does."""
        for unit in range(self.n_units):
            self.touch(unit)
            order = self._orders.get(unit, 0)
            if order == 0:
                self.pages.mark_accessed(unit)
            elif order < HUGE_ORDER:
                self.pages.activate(unit)

    def _arrive(self, unit: int) -> None:
        """Wait for ``unit``: storage answers in order, so all that was asked for before it is there too."""
        arrived = -1
        while arrived != unit:
            arrived = self._in_flight.popleft()
            self.pages.locked.discard(arrived)

    def _read_around(self, unit: int) -> None:
        self._order = 0
        self._start, self._size = max(0, unit - self.window // 2), self.window
        self._mark = self._start + self._size - self.window // 4
        self._read(0)
        if unit not in self.pages:
            self._insert(unit, 0)

    def _read_ahead(self, unit: int) -> None:
        """The window after the last one or, after other faults came between, after what is cached here."""
        self._marked.discard(unit)
        if unit == self._mark:
            self._start, self._size = self._start + self._size, self.window
        else:
            first = unit + 1
            while first in self.pages and first - unit <= self.window:
                first += 1
            if first - unit > self.window:
                return
            self._start, self._size = first, min(self.window, 2 * (first - unit + 1))
        self._mark = self._start
        self._order = min(self._most_order, self._order + 2)
        self._read(self._order)

    def _read(self, order: int) -> None:
        """Read what is missing of the window; behind a page that is cached already, single pages follow."""
        slow = sum(self._orders[unit] < QUICK_ORDER for unit in self._in_flight)
        for _ in range(int(ARRIVED * slow)):
            self.pages.locked.discard(self._in_flight.popleft())
        for unit in range(self._start, min(self.n_units, self._start + self._size)):
            if unit in self.pages:
                order = 0
            else:
                self._insert(unit, order)
                if unit == self._mark:
                    self._marked.add(unit)

    def _insert(self, unit: int, order: int) -> None:
        self._marked.discard(unit)
        self.pages.insert(unit)
        self.pages.locked.add(unit)
        self._in_flight.append(unit)
        self._orders[unit] = order
        self._fresh.add(unit)
        self.n_read += 1
