"""Networks whose 3x3 convolutions are trained and pruned in the Winograd domain.

A pruned 3x3 kernel ``g`` has a dense transform ``U = G g G^T``, so the products that Winograd's
algorithm multiplies with are all still there. Li, Park and Tang ("Enabling Sparse Winograd
Convolution by Native Pruning", arXiv 1702.08597) make ``U`` itself the parameter; Liu, Pool, Han
and Dally ("Efficient Sparse-Winograd Convolutional Neural Networks", arXiv 1802.06367) move the
ReLU there as well, so that both factors have zeros.

A line here may touch Keras and TensorFlow. ``convolution`` says what such a layer computes,
``export`` how it is written into a .tflite file.
"""
