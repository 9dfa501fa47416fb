"""A folder on a disk: calibrations refuse folders in RAM, where /tmp often lies."""

import shutil
import tempfile
from pathlib import Path

import pytest

from simio.calibrate.scratch_file import check_folder
from simio.errors import SimioError


@pytest.fixture
def disk(tmp_path):
    """An empty folder where direct reads work; skips where neither /tmp nor this checkout offers one."""
    for parent in (tmp_path, Path(__file__).parent):
        try:
            check_folder(parent)
        except SimioError:
            continue
        folder = Path(tempfile.mkdtemp(prefix=".simio-test-", dir=parent))
        yield folder
        shutil.rmtree(folder)
        return
    pytest.skip("no folder on a disk here")
