// SPDX-License-Identifier: Apache-2.0
//
// What follows from the geometry of a layer.

#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "host/kernel_table.h"

int32_t lc_out_height(const struct lc_geometry *geometry);
int32_t lc_out_width(const struct lc_geometry *geometry);

// Rows and columns of the output of the layer's pool, if it has one; else of its own.
int32_t lc_pooled_height(const struct lc_geometry *geometry);
int32_t lc_pooled_width(const struct lc_geometry *geometry);

// Images of the output: 1, or those of a volume.
int32_t lc_out_depth(const struct lc_geometry *geometry);

// Rows of all images of a kernel.
int32_t lc_kernel_rows(const struct lc_geometry *geometry);

// Rows of all images of the output.
int32_t lc_out_rows(const struct lc_geometry *geometry);

// The row of the input, counted over all images, that row `tap` of the kernel reads for row `row`
// of the output; -1 beyond the border.
int64_t lc_tap_row(const struct lc_geometry *geometry, int32_t row, int32_t tap);

// Points of Winograd's domain for weights that are in it.
size_t lc_points(const struct lc_geometry *geometry);

// Elements of one input or output image or volume, before a pool. False if they cannot be
// addressed.
bool lc_image_elements(const struct lc_geometry *geometry, size_t *input, size_t *output);

// The pixel of the input that tap (kh, kw) of an output pixel reads; SIZE_MAX beyond the border.
size_t lc_tap_pixel(const struct lc_geometry *geometry, int32_t oy, int32_t ox, int32_t kh,
                    int32_t kw);

// Whether weights are packed as the model has them, in less than four bytes.
bool lc_packs_narrow(const struct lc_geometry *geometry);

// Bytes of one element.
size_t lc_element_bytes(const struct lc_geometry *geometry);

// Whether sums are of products of integers.
bool lc_sums_integers(const struct lc_geometry *geometry);

// The activation that a node is which clamps and does nothing else, or TFL_ACTIVATION_NONE.
int32_t lc_activation_of_node(int32_t builtin_code);

// The interval that an activation clamps to; infinite where it does not.
void lc_activation_range(int32_t activation, float *least, float *most);

// Writes a short name, e.g. "conv3x3 s2 224x224x3->32 relu6"; "+" stands for the residual. Returns
// its length, as snprintf does.
size_t lc_geometry_describe(const struct lc_geometry *geometry, char *text, size_t size);

// Likewise, layers joined by "|".
void lc_layers_describe(const struct lc_geometry *layers, int32_t count, char *text, size_t size);
