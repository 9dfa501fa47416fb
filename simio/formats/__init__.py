"""Model-file readers: GGUF and safetensors, told apart by content, checked strictly, their weights read in place.

``opening.open_model`` opens any of them; ``weights.WeightsReader`` reads their bytes.
"""
