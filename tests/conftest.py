"""What every test shares: one thread, and property tests that draw the same examples every time."""

import torch
from hypothesis import settings

torch.set_num_threads(1)  # results differ between thread counts
settings.register_profile("reproducible", derandomize=True, deadline=None)
settings.load_profile("reproducible")
