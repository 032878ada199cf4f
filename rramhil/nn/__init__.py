"""Data sets, their splits, and networks in torch whose weights can be replaced.

`data`, `fetch` and `splits` are numpy only; `network` and `train` import torch.
"""
