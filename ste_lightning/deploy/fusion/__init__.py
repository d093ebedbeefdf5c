"""Packed layers that hand on bits and codes: passes over a network's graph."""
