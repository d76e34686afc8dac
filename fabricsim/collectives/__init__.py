"""Collective libraries: what NCCL would choose, and users' own algorithms, as variants of the core."""
