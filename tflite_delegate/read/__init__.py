"""The .tflite file: its graph, its layers, what they take in, and what is left.

A line here reads and checks, and compiles nothing.
"""
