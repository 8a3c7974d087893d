"""Algorithms for layers of volumes."""
