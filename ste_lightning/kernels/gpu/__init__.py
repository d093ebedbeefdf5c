"""Products with packed weights on a GPU.

A place of its own, because nothing here can be imported without Triton, which only CUDA builds of
torch bring along. Two kernels read the packed words themselves and never write decoded weights to
memory: one for a few rows, where the time is that of reading the weights, so that a sixteenth of
the bytes is what counts; one for many rows, which decodes a tile into int8 and lets the tensor
cores multiply it, 8 x 8 -> 32 bits. Both compute the integers that the CPU's kernels compute, and
apply scale and shift in the same order without fusing them, so the results are equal in every bit.
"""

from ste_lightning.kernels.gpu.products import FEW_ROWS, multiply, multiply_floats, patches
from ste_lightning.kernels.gpu.words import DeviceWeights, on_device

__all__ = ["FEW_ROWS", "DeviceWeights", "multiply", "multiply_floats", "on_device", "patches"]
