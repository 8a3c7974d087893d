"""What all benchmarks share: runners, timing in turns, memory, error bounds, rows and pictures.

A line here may touch other libraries (XNNPACK, ncnn, ONNX Runtime, oneDNN) and the machine.
"""
