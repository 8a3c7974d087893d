// SPDX-License-Identifier: Apache-2.0
//
// One CONV_2D node as the model states it, and the geometry that follows from an input shape.

#ifndef LEANCONV_LAYER_H
#define LEANCONV_LAYER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "kernel_table.h"
#include "tflite_abi.h"

struct lc_layer {
    // Tensor indices. Weights and bias name the constants themselves, also where the model has a
    // DEQUANTIZE between a float16 constant and the node.
    int input, weights, bias, output;     // bias: TFL_OPTIONAL_TENSOR if there is none
    int32_t group_channels, out_channels; // input channels of one group, all output channels
    int32_t kernel_height, kernel_width;
    int32_t stride_height, stride_width;
    int32_t dilation_height, dilation_width;
    bool same_padding;
    int32_t activation; // enum tfl_activation
};

// The tensor at `index`, or NULL if there is none.
struct tfl_tensor *lc_tensor(const struct tfl_context *context, int index);

// Whether the tensor's data never changes while its interpreter lives.
bool lc_is_constant(const struct tfl_tensor *tensor);

// Reads a CONV_2D node. `half_sources` maps the output of a DEQUANTIZE to its float16 constant
// and every other tensor to -1; NULL if the node's inputs name the constants already.
// Returns NULL, or why the node is not for this delegate.
const char *lc_layer_read(struct lc_layer *layer, const struct tfl_context *context,
                          const struct tfl_node *node, const int *half_sources);

// The geometry of one image for an NHWC input shape, and the number of images.
// Returns NULL, or what is wrong with the shape.
const char *lc_layer_geometry(const struct lc_layer *layer, const struct tfl_ints *input_dims,
                              struct lc_geometry *geometry, int32_t *batch);

int32_t lc_out_height(const struct lc_geometry *geometry);
int32_t lc_out_width(const struct lc_geometry *geometry);

// Elements of one input or output image. False if they cannot be addressed.
bool lc_image_elements(const struct lc_geometry *geometry, size_t *input, size_t *output);

// The interval that an activation clamps to; infinite where it does not.
void lc_activation_range(int32_t activation, float *least, float *most);

// A short name, e.g. "conv3x3 s2 224x224x3->32 relu6".
void lc_geometry_describe(const struct lc_geometry *geometry, char *text, size_t size);

// The first kernel for the geometry, of `algorithm` unless that is NULL, and reading the same
// packed weights as `same_weights_as` unless that is NULL. NULL if there is none.
const struct lc_kernel *lc_find_kernel(const struct lc_geometry *geometry, const char *algorithm,
                                       const struct lc_kernel *same_weights_as);

#endif // LEANCONV_LAYER_H
