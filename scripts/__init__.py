"""What runs from a checkout: the demo, ``benchmark_model`` and the folders below.

Run as modules from the root of the checkout, ``python -m scripts.demo``. Only ``tvmc`` is
installed, under its own name.
"""
