"""What ``benchmark_model`` is made of: flags, sessions, profiles and protocol buffers as TFLite's.

A line here may touch a runtime of TFLite and the harness of the benchmarks.
"""
