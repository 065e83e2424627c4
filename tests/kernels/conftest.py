"""Where there is no GPU, Triton kernels run in its interpreter. It must be told before the first kernel is defined."""

import os

import torch

if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")
