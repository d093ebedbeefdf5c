"""Drivers that tile products over the micro-kernels, and their entry points."""
