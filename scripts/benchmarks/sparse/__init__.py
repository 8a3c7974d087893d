"""Layers with zeros in the Winograd domain: what they cost, and what accuracy they leave."""
