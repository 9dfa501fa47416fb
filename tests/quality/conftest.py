"""These tests need torch; one thread of it, so that tests side by side do not wait for each other."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")
torch.set_num_threads(1)
