"""Compute and steps that several algorithms of the literature share."""
