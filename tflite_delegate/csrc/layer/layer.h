// SPDX-License-Identifier: Apache-2.0
//
// One layer as the model states it, and the geometry that follows from an input shape: a CONV_2D,
// DEPTHWISE_CONV_2D, TRANSPOSE_CONV, FULLY_CONNECTED or CONV_3D node, its core, and the nodes that
// are merged with it.

#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "host/kernel_table.h"
#include "host/tflite_abi.h"
#include "kernels/upsampling.h"
#include "kernels/weights.h"
#include "layer/graph.h"

// The pool of a layer's output.
struct lc_layer_pool {
    int32_t kind; // enum lc_pool; LC_NO_POOL: there is none, and all else is 0
    int32_t height, width, stride_height, stride_width;
    bool same_padding;
    int32_t top, bottom, left, right; // beside that: of a PAD node
    int32_t activation;               // enum tfl_activation
    int input;                        // tensor index
};

struct lc_layer {
    int core;          // node index
    bool is_composite; // several nodes, whose constants are no inputs of the core: composite.h

    // Tensor indices, TFL_OPTIONAL_TENSOR for what there is not. Weights and bias name the
    // constants themselves, also where the model has a DENSIFY or DEQUANTIZE between a sparse or
    // float16 constant and the node.
    int input, weights, bias, residual, output;
    int addend; // of integers with a residual, what it is added to; else 0

    int32_t domain, domain_relu;          // as in struct lc_geometry; source is LC_POINTS
    enum lc_layout source;                // LC_ROWS, LC_TAPS, LC_VOLUME: as the model has them
    int32_t group_channels, out_channels; // input channels of one group, all output channels
    int32_t kernel_height, kernel_width;
    int32_t kernel_depth, stride_depth, dilation_depth; // of volumes; else 0
    int32_t stride_height, stride_width;
    int32_t dilation_height, dilation_width;
    bool same_padding;
    int32_t pad_top, pad_bottom, pad_left, pad_right; // beside that: of a PAD node
    int32_t pad_front, pad_back;                      // likewise, of a volume
    int32_t element;                                  // enum lc_element
    int32_t half_weights;                             // 1 if they are float16
    int32_t pairs;                                    // as in struct lc_geometry
    bool is_hybrid;           // float elements that are multiplied as int8 by int8 weights
    int32_t byte_weights;     // 1 if they are int8 that a DEQUANTIZE makes floats of
    bool is_dense;            // fully connected
    bool keep_num_dims;       // a dense output has the input's rank
    bool has_asymmetric_rows; // what TFLite's own kernel of a hybrid dense layer quantises
    bool has_one_scale;       // all channels of a hybrid layer's weights have the same
    int32_t activation, output_activation; // as in struct lc_geometry
    struct lc_layer_pool pool;
    void *densified[2];              // copies of sparse weights and bias; NULL: there are none
    struct lc_upsampling upsampling; // of a transposed convolution, of which the above is the
                                     // sub-pixel one; else all zeros
};

// The name of an operator that can be a layer's core, NULL of any other.
const char *lc_core_name(int32_t builtin_code);

// Where a core has its input, weights and bias among its inputs.
struct lc_operands {
    int input, weights, bias;
};
struct lc_operands lc_core_operands(int32_t builtin_code);

// Reads a core node. `sources` maps what is made of a constant to that constant and every other
// tensor to -1; NULL if the node's inputs name the constants already.
// Returns NULL, or why the node is not for this delegate.
const char *lc_layer_read(struct lc_layer *layer, const struct tfl_context *context,
                          struct lc_node_view core, const int *sources);

// The geometry of one image for the shape of the input, and the number of images.
// Returns NULL, or what is wrong with the shape.
const char *lc_layer_geometry(const struct lc_layer *layer, const struct tfl_ints *input_dims,
                              struct lc_geometry *geometry, int32_t *batch);

// How the sub-pixel convolution of this geometry becomes an image of the output. False if the layer
// is no transposed convolution.
bool lc_layer_spread(const struct lc_layer *layer, const struct lc_geometry *geometry,
                     struct lc_spread *spread);

// The shape of the output before a pool; of the output. NULL without memory. TFLite may free it.
struct tfl_ints *lc_layer_unpooled_dims(const struct lc_layer *layer,
                                        const struct tfl_ints *input_dims,
                                        const struct lc_geometry *geometry, int32_t batch);
struct tfl_ints *lc_layer_output_dims(const struct lc_layer *layer,
                                      const struct tfl_ints *input_dims,
                                      const struct lc_geometry *geometry, int32_t batch);

// The layer's weights and bias, where the model has them now; of sparse ones the dense copies, NULL
// before lc_layer_densify.
struct lc_constants lc_layer_constants(const struct lc_layer *layer,
                                       const struct tfl_context *context);

// Of these nothing but where they are: a model of few weights takes longer to say what its integers
// stand for than to be computed.
const void *lc_layer_weights(const struct lc_layer *layer, const struct tfl_context *context);
const void *lc_layer_bias(const struct lc_layer *layer, const struct tfl_context *context);

// Copies sparse constants, unless they are already. False if memory cannot be had.
bool lc_layer_densify(struct lc_layer *layer, const struct tfl_context *context);

void lc_layer_forget_copies(struct lc_layer *layer);
