"""What every test shares: one thread, and property tests that draw the same examples every time.

Triton's kernels run in its interpreter where there is no GPU. It asks for that at its first import.
"""

import os

import torch
from hypothesis import Phase, settings

if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")
torch.set_num_threads(1)  # results differ between thread counts
settings.register_profile("reproducible", derandomize=True, deadline=None)
settings.register_profile(  # for mutations.py, to which any failure will do
    "quick to fail", settings.get_profile("reproducible"), phases=[Phase.explicit, Phase.generate]
)
settings.load_profile(os.environ.get("HYPERGRADIENT_PROFILE", "reproducible"))
