// SPDX-License-Identifier: Apache-2.0
//
// The shapes of a layer, as TFLite infers them.

#include <string.h>

#include "host/checked.h"
#include "host/tensor.h"
#include "kernels/geometry.h"
#include "kernels/quantised/rounding.h"
#include "layer/hybrid/hybrid_layer.h"
#include "layer/layer.h"

// Adds the scheme's padding along one axis to what `before` and `after` hold already. False if the
// output has fewer than no positions: with none, it is empty, as TFLite's.
static bool infer_axis(bool same, int32_t size, int32_t kernel, int32_t stride, int32_t dilation,
                       int32_t *before, int32_t *after) {
    int64_t span = lc_multiply_add(kernel - 1, dilation, 1);
    int64_t padded = (int64_t)size + *before + *after;
    if (padded > INT32_MAX) {
        return false;
    }
    if (!same) {
        return padded + 2 * (int64_t)stride > span;
    }
    int64_t last = (padded - 1) / stride; // index of the last output position
    int64_t total = last * stride + span - padded;
    if (total > INT32_MAX - padded) {
        return false;
    }
    if (total > 0) {
        *before += (int32_t)(total / 2);
        *after += (int32_t)(total - total / 2);
    }
    return true;
}

// The image that a dense layer's rows make.
static const char *read_rows(const struct lc_layer *layer, const struct tfl_ints *dims,
                             struct lc_geometry *geometry, int32_t *batch) {
    size_t elements, depth = (size_t)layer->group_channels;
    if (!lc_count_elements(dims, &elements) || dims->size < 1) {
        return "the input is too large";
    }
    size_t rows = elements / depth;
    if (rows * depth != elements ||
        (layer->keep_num_dims && (size_t)dims->data[dims->size - 1] != depth)) {
        return "the input does not divide into rows as long as those of the weights";
    }
    if (rows > INT32_MAX) {
        return "the input is too large";
    }
    *batch = rows > 0;
    geometry->in_height = 1;
    geometry->in_width = rows > 0 ? (int32_t)rows : 1;
    geometry->in_channels = layer->group_channels;
    geometry->groups = 1;
    return NULL;
}

static const char *read_image(const struct lc_layer *layer, const struct tfl_ints *dims,
                              struct lc_geometry *geometry, int32_t *batch) {
    bool is_volume = layer->source == LC_VOLUME;
    if (!dims || dims->size != (is_volume ? 5 : 4)) {
        return is_volume ? "the input is not of rank 5" : "the input is not of rank 4";
    }
    const int *d = dims->data;
    *batch = d[0];
    if (is_volume) {
        geometry->in_depth = *++d; // the rest is that of an image
    }
    if (*batch < 0 || (is_volume && d[0] < 1) || d[1] < 1 || d[2] < 1) {
        return "the input is empty";
    }
    if (is_volume && d[3] != layer->group_channels) {
        return "the input does not have as many channels as the weights";
    }
    if (d[3] < 1 || d[3] % layer->group_channels ||
        ((layer->upsampling.rows || layer->domain) && d[3] != layer->group_channels)) {
        return "the input does not have as many channels as the weights, nor a multiple of them";
    }
    geometry->in_height = d[1];
    geometry->in_width = d[2];
    geometry->in_channels = d[3];
    geometry->groups = d[3] / layer->group_channels;
    return layer->out_channels % geometry->groups
               ? "the output channels do not divide into the groups of the input"
               : NULL;
}

// The padding of the sub-pixel convolution.
static const char *pad_subpixels(const struct lc_upsampling *up, int32_t batch,
                                 struct lc_geometry *geometry) {
    struct lc_upsampled_axis height, width;
    if (!lc_upsample_rows(up, geometry->in_height, &height) ||
        !lc_upsample_columns(up, geometry->in_width, &width) ||
        (up->out_batch && up->out_batch != batch)) {
        return "the output's shape does not fit the input's";
    }
    geometry->pad_top = height.before;
    geometry->pad_bottom = height.after;
    geometry->pad_left = width.before;
    geometry->pad_right = width.after;
    return NULL;
}

bool lc_layer_spread(const struct lc_layer *layer, const struct lc_geometry *geometry,
                     struct lc_spread *spread) {
    const struct lc_upsampling *up = &layer->upsampling;
    if (!up->rows) {
        return false;
    }
    *spread = (struct lc_spread){
        .up = up,
        .columns = lc_out_width(geometry),
        .element_bytes = lc_element_bytes(geometry),
    };
    return lc_upsample_rows(up, geometry->in_height, &spread->height) &&
           lc_upsample_columns(up, geometry->in_width, &spread->width);
}

// False unless every window has something of the image in it.
static bool read_pool(const struct lc_layer_pool *pool, struct lc_geometry *geometry) {
    if (!pool->kind) {
        return true;
    }
    geometry->pool = pool->kind;
    geometry->pool_height = pool->height;
    geometry->pool_width = pool->width;
    geometry->pool_stride_height = pool->stride_height;
    geometry->pool_stride_width = pool->stride_width;
    geometry->pool_top = pool->top;
    geometry->pool_bottom = pool->bottom;
    geometry->pool_left = pool->left;
    geometry->pool_right = pool->right;
    geometry->pool_activation = pool->activation;
    int32_t height = lc_out_height(geometry), width = lc_out_width(geometry);
    bool fits = infer_axis(pool->same_padding, height, pool->height, pool->stride_height, 1,
                           &geometry->pool_top, &geometry->pool_bottom) &&
                infer_axis(pool->same_padding, width, pool->width, pool->stride_width, 1,
                           &geometry->pool_left, &geometry->pool_right);
    return fits && height > 0 && width > 0 && lc_pooled_height(geometry) > 0 &&
           lc_pooled_width(geometry) > 0 && geometry->pool_top < pool->height &&
           geometry->pool_bottom < pool->height && geometry->pool_left < pool->width &&
           geometry->pool_right < pool->width;
}

static enum lc_kind kind_of(const struct lc_layer *layer) {
    return layer->is_dense            ? LC_DENSE
           : layer->upsampling.rows   ? LC_TRANSPOSED
           : layer->source == LC_TAPS ? LC_DEPTHWISE
                                      : LC_CONV;
}

const char *lc_layer_geometry(const struct lc_layer *layer, const struct tfl_ints *input_dims,
                              struct lc_geometry *geometry, int32_t *batch) {
    *geometry = (struct lc_geometry){
        .out_channels = layer->out_channels,
        .kernel_height = layer->kernel_height,
        .kernel_width = layer->kernel_width,
        .stride_height = layer->stride_height,
        .stride_width = layer->stride_width,
        .dilation_height = layer->dilation_height,
        .dilation_width = layer->dilation_width,
        .pad_top = layer->pad_top,
        .pad_bottom = layer->pad_bottom,
        .pad_left = layer->pad_left,
        .pad_right = layer->pad_right,
        .pad_front = layer->pad_front,
        .pad_back = layer->pad_back,
        .activation = layer->activation,
        .residual = layer->residual != TFL_OPTIONAL_TENSOR,
        .output_activation = layer->output_activation,
        .element = layer->element,
        .half_weights = layer->half_weights,
        .pairs = layer->pairs,
        .byte_weights = layer->byte_weights,
        .domain = layer->domain,
        .domain_relu = layer->domain_relu,
        .kernel_depth = layer->kernel_depth,
        .stride_depth = layer->stride_depth,
        .dilation_depth = layer->dilation_depth,
    };
    const char *problem = layer->is_dense ? read_rows(layer, input_dims, geometry, batch)
                                          : read_image(layer, input_dims, geometry, batch);
    if (problem) {
        return problem;
    }
    if (layer->upsampling.rows) {
        problem = pad_subpixels(&layer->upsampling, *batch, geometry);
        if (problem) {
            return problem;
        }
    }
    if (!infer_axis(layer->same_padding, geometry->in_height, geometry->kernel_height,
                    geometry->stride_height, geometry->dilation_height, &geometry->pad_top,
                    &geometry->pad_bottom) ||
        !infer_axis(layer->same_padding, geometry->in_width, geometry->kernel_width,
                    geometry->stride_width, geometry->dilation_width, &geometry->pad_left,
                    &geometry->pad_right) ||
        (geometry->in_depth &&
         !infer_axis(layer->same_padding, geometry->in_depth, geometry->kernel_depth,
                     geometry->stride_depth, geometry->dilation_depth, &geometry->pad_front,
                     &geometry->pad_back))) {
        return "the kernel is larger than the image";
    }
    if (!read_pool(&layer->pool, geometry)) {
        return "the pool's window is larger than the image";
    }
    geometry->rule = lc_rule_of(kind_of(layer), geometry, *batch);
    if (geometry->element != LC_FLOAT32 && geometry->rule == LC_NO_RULE) {
        return "no rule is known of the kernels that it is to follow";
    }
    if (layer->is_hybrid) {
        geometry->dynamic = lc_dynamic_rule(layer, geometry);
        if (layer->source == LC_ROWS && geometry->groups > 1) {
            return "its groups are quantised together";
        }
    }
    size_t input, output;
    int64_t taps = lc_multiply_add(geometry->kernel_depth, geometry->kernel_height, 0);
    int64_t rows = lc_multiply_add(lc_out_depth(geometry), lc_out_height(geometry), 0);
    return lc_image_elements(geometry, &input, &output) && rows <= INT32_MAX && taps <= INT32_MAX
               ? NULL
               : "the image is too large";
}

struct tfl_ints *lc_layer_output_dims(const struct lc_layer *layer,
                                      const struct tfl_ints *input_dims,
                                      const struct lc_geometry *geometry, int32_t batch) {
    struct tfl_ints *dims = lc_layer_unpooled_dims(layer, input_dims, geometry, batch);
    if (dims && geometry->pool) {
        dims->data[1] = lc_pooled_height(geometry);
        dims->data[2] = lc_pooled_width(geometry);
    }
    return dims;
}

struct tfl_ints *lc_layer_unpooled_dims(const struct lc_layer *layer,
                                        const struct tfl_ints *input_dims,
                                        const struct lc_geometry *geometry, int32_t batch) {
    bool is_volume = layer->source == LC_VOLUME;
    int rank = is_volume ? 5 : !layer->is_dense ? 4 : layer->keep_num_dims ? input_dims->size : 2;
    struct tfl_ints *dims = lc_new_ints(rank);
    if (!dims) {
        return NULL;
    }
    if (!layer->is_dense) {
        int image[4] = {batch, lc_out_height(geometry), lc_out_width(geometry),
                        geometry->out_channels};
        struct lc_spread spread;
        if (lc_layer_spread(layer, geometry, &spread)) {
            image[1] = spread.height.size;
            image[2] = spread.width.size;
            image[3] = spread.up->channels;
        }
        memcpy(dims->data + is_volume, image, sizeof image);
        if (is_volume) {
            dims->data[0] = batch;
            dims->data[1] = lc_out_depth(geometry);
        }
        return dims;
    }
    if (layer->keep_num_dims) {
        memcpy(dims->data, input_dims->data, (size_t)rank * sizeof(int));
    } else {
        dims->data[0] = batch * geometry->in_width;
    }
    dims->data[rank - 1] = geometry->out_channels;
    return dims;
}
