"""Strassen's algorithm: seven products of the quadrants of two matrices."""
