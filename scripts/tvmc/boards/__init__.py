"""``tvmc rpc-server``: what a board runs."""
