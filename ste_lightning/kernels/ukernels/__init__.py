"""Micro-kernels: the inner loops of products, as LLVM code, and nothing else."""
