"""What kernels run on: processors, TVM's targets, compilers and the libraries that they make.

A line here may ask what a processor or a compiler can do, and knows nothing of algorithms.
"""
