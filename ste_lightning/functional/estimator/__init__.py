"""Backward rules: the surrogate gradient, the straight-through estimator, and what checks them."""
