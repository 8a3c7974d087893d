"""``tvmc plan``: what a network may hold, and what that costs; nothing is compiled."""
