"""simio: predict LLM token latency on devices whose RAM is smaller than the weights."""

__version__ = "0.1.0"
