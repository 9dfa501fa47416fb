"""Studies over a model's real weights: how far each layout compresses, and what that is worth on a device."""
