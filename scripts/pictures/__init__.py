"""The pictures of the READMEs, as SVG beside the code that draws them.

    python -m scripts.pictures  # all of them anew

A line here says what is drawn: of an idea from data in the code, of figures from the JSON that
benchmarks wrote (scripts/benchmarks/results).
"""
