"""Let the Triton kernels run in the interpreter where there is no GPU; they decide when they are imported."""

import os

import torch

if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")
