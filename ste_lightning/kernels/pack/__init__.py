"""Operands brought into the layout that a micro-kernel reads: inputs, and latent weights."""
