"""Products of sparse matrices in Winograd's domain."""
