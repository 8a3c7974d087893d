"""Timing of several threads: in processes of their own, by how far apart the cores are."""
