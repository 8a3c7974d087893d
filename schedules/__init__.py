"""Convolution algorithms of the literature as TVM compute and schedule definitions.

Folders are floors, here from the ground up; each imports from those before it (``make lint``):

- :mod:`layer`: what is computed; :mod:`target`: what it runs on;
- :mod:`lower`: scheduled loops as bare C functions; :mod:`kernel`: what algorithms are built from;
- :mod:`algorithms`: one file or folder each;
- :mod:`plan`: one kernel for one layer; :mod:`tuning`: measuring which is best;
- :mod:`select`: the kernels of a whole network; :mod:`relax`: the same as a pass of TVM's.

What words mean, here and in the delegate's C sources:

- *node*: one operator of a model's graph; *tensor*: what nodes write and read.
- *layer*: one convolution, depthwise, transposed or fully-connected node, with the neighbours that
  its kernel does as well.
- *chain*: layers one after another that one kernel may compute; *block*: what it computes then.
- *workload*: what one kernel computes, a layer or a block: shapes, and nothing of how.
- *algorithm*: one way of the literature to compute workloads; *knob*: a choice that it leaves open.
- *choice*: an algorithm and values of knobs; *form*: one that makes another algorithm of it.
- *plan*: a workload and a choice, and all that follows from them: bytes, modelled time, error.
- *kernel*: a plan under a C name, and the compiled functions; *stage*: one of these functions.
- *candidate*: a choice with a value for every knob, to be measured; *trial*: that measurement.
- *record*: what is kept of a trial; *task*: a workload to tune, and how often models compute it.
"""

__version__ = "0.1.0"
