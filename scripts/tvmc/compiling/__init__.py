"""``tvmc compile``: delegates, modules and their packages."""
