"""Pieces that several Triton kernels are made of."""
