"""Networks that are made as .tflite files: architectures, random weights, small trained ones.

A line here may touch Keras and TensorFlow, which only ``scripts.prune`` imports besides.
"""
