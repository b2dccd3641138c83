"""What all tests share: on a GPU torch's own products are repeatable where a test asks torch for that."""

import os

# Without it every product of cuBLAS warns under `torch.use_deterministic_algorithms`, and a warning in himakernels is an error.
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
