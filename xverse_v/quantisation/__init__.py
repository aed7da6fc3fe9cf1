"""Weights of the decoder in fewer bits, on kernels that are measured before they are used."""
