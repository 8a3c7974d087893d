"""Winograd's minimal filtering: exact transforms, the domain, and the schedule."""
