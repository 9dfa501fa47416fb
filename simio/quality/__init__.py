"""What a weight layout costs: a real decoder in float32, calibrated, quantized, and held against itself.

Everything goes layer by layer, for all layouts at once: a layer is read, run on the calibration tokens, quantized by
every layout and run on the evaluation tokens, then forgotten. Needs the extra ``torch``.
"""

from simio.quality.activations import activations, multiplied
from simio.quality.measuring import PARTS, measure
from simio.quality.texts import generated, halves, of_text

__all__ = ["PARTS", "activations", "generated", "halves", "measure", "multiplied", "of_text"]
