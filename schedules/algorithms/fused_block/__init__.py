"""A convolution, a depthwise and a pointwise layer as one kernel, strip by strip."""
