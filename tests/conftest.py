"""Shared by all tests: one thread, so that runs are reproducible and the two cores are not oversubscribed."""

import torch

torch.set_num_threads(1)
