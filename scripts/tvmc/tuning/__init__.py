"""``tvmc tune`` and ``tvmc records``."""
