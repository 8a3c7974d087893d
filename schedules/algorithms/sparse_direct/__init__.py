"""Layers of which most weights are zero."""
