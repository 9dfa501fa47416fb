"""The compressed weight container (``*.simio``): ``packing.pack``, ``reading.Container``, ``unpacking``, ``verifying``.

Every byte of the format is in docs/container.md.
"""
