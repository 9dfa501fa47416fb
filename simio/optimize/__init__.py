"""The best way to run a model on a device: codec, quantizer and place of every tensor, cache, prefetch, threads.

What is linear is solved (``placing.py``), what is not is searched (``grid.py``, ``refining.py``); docs/optimize.md.
"""
