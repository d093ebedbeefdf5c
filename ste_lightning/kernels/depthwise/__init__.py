"""Convolutions of groups of few channels, channels first and channels last."""
