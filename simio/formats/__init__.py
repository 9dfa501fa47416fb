"""Model-file readers: GGUF and safetensors, told apart by content, checked strictly, their weights read in place."""

from simio.formats.opening import open_model
from simio.formats.weights import WeightsReader

__all__ = ["WeightsReader", "open_model"]
