"""Generate text for real, on this machine: kernels, a forward pass, tokenizers, and models to run."""
