"""What ``python -m ste_lightning.new`` writes: a recipe, data, a network and a test that run."""
