"""What to try next: the space of candidates, their features, the cost model, the search."""
