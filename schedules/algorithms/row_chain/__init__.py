"""``row_chain``: a chain of any length, row by row."""
