"""Compiled code that only training needs: sign masks, learned steps, grids, gradients by lookup."""
