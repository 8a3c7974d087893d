"""Convolution algorithms of the literature as TVM compute and schedule definitions.

Folders are floors, here from the ground up; each imports from those before it (``make lint``):

- :mod:`layer`: what is computed; :mod:`target`: what it runs on;
- :mod:`lower`: scheduled loops as bare C functions; :mod:`kernel`: what algorithms are built from;
- :mod:`algorithms`: one file or folder each;
- :mod:`plan`: one kernel for one layer; :mod:`tuning`: measuring which is best;
- :mod:`select`: the kernels of a whole network; :mod:`relax`: the same as a pass of TVM's.
"""

__version__ = "0.1.0"
