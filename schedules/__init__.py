"""Convolution algorithms of the literature as TVM compute and schedule definitions."""

__version__ = "0.1.0"
