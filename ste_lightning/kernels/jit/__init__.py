"""Compilation with numba: cached machine code, C functions, LLVM, vector instructions, threads."""
