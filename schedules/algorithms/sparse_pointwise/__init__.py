"""1x1 layers of which most weights are zero."""
