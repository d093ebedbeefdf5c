"""Packed layers: integer weights, eval only."""
