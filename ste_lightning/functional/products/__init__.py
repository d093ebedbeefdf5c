"""Products of quantized operands with their gradients."""
