"""The device catalogue: ``devices/<id>.toml`` → ``Device``, strict, one file when asked, nothing at import.

``load`` takes a catalogue id, another name of the device, or a path to a device file of your own.
"""

from simio.catalog.as_json import to_json
from simio.catalog.device_file import check, parse, read
from simio.catalog.lookup import find, load, names
from simio.catalog.reader import Problem

__all__ = ["Problem", "check", "find", "load", "names", "parse", "read", "to_json"]
