// SPDX-License-Identifier: Apache-2.0

#include "layer/winograd/composite.h"

#include <string.h>

#include "host/tensor.h"
#include "kernels/geometry.h"
#include "layer/constants/sparsity.h"

static const char other[] = "not the next node of a layer of Winograd's domain";

// Constants

// The elements of a dense constant of float32 with these dimensions; NULL of anything else.
static const float *floats(const struct tfl_context *context, int index, int rank,
                           const int32_t *dims) {
    const struct tfl_tensor *tensor = lc_tensor(context, index);
    if (!tensor || tensor->type != TFL_FLOAT32 || tensor->sparsity ||
        !lc_is_float_constant(tensor) || !lc_has_rank(tensor, rank)) {
        return NULL;
    }
    for (int axis = 0; axis < rank; axis++) {
        if (tensor->dims->data[axis] != dims[axis]) {
            return NULL;
        }
    }
    return tensor->data;
}

// Reads a vector of so many int32. False unless it is one, and constant.
static bool read_integers(const struct tfl_context *context, int index, int32_t count,
                          int32_t *values) {
    const struct tfl_tensor *tensor = lc_tensor(context, index);
    size_t bytes = (size_t)count * sizeof *values;
    if (!tensor || tensor->type != TFL_INT32 || !lc_is_constant(tensor) || !tensor->data ||
        !lc_has_rank(tensor, 1) || tensor->dims->data[0] != count || tensor->bytes < bytes) {
        return false;
    }
    memcpy(values, tensor->data, bytes);
    return true;
}

// The transforms

static const struct lc_domain *domain_of(const struct lc_layer *layer) {
    for (size_t i = 0; i < lc_library.domain_count; i++) {
        const struct lc_domain *domain = &lc_library.domains[i];
        if (domain->outputs == layer->stride_height &&
            domain->outputs + domain->taps - 1 == layer->kernel_height) {
            return domain;
        }
    }
    return NULL;
}

static int32_t inputs_of(const struct lc_domain *domain) {
    return domain->outputs + domain->taps - 1;
}

// Whether row `row` of the product of a matrix [rows][n] with itself, which is (A x A) [rows
// rows][n n], is what is at `values`, `step` apart: products in double precision, rounded once.
static bool is_product_row(const double *matrix, size_t rows, size_t n, size_t row,
                           const float *values, size_t step) {
    const double *first = matrix + row / rows * n, *second = matrix + row % rows * n;
    for (size_t i = 0; i < n; i++) {
        for (size_t j = 0; j < n; j++) {
            if (values[(i * n + j) * step] != (float)(first[i] * second[j])) {
                return false;
            }
        }
    }
    return true;
}

// Whether the layer's weights [1][n][n][C n n] are B^T x B^T of every channel, and its bias zeros.
static bool transforms_image(const struct lc_layer *layer, const struct tfl_context *context,
                             const struct lc_domain *domain) {
    int32_t n = inputs_of(domain), outputs = layer->out_channels;
    const int32_t dims[4] = {1, n, n, outputs};
    const float *weights = floats(context, layer->weights, 4, dims);
    const float *bias = floats(context, layer->bias, 1, &outputs);
    if (!weights || (!bias && layer->bias != TFL_OPTIONAL_TENSOR)) {
        return false;
    }
    size_t points = (size_t)n * (size_t)n, channels = (size_t)outputs;
    for (size_t i = 0; i < channels; i++) {
        if ((bias && bias[i] != 0.0f) || !is_product_row(domain->image, (size_t)n, (size_t)n,
                                                         i % points, weights + i, channels)) {
            return false;
        }
    }
    return true;
}

// Steps

struct step {
    struct lc_composite *composite;
    struct lc_layer *layer;
    const struct tfl_context *context;
    const struct lc_domain *domain;
    const struct tfl_node *node;
};

// [N][down][across][C n n] -> [T][C][n n]
static bool begin(const struct step *step) {
    struct lc_composite *composite = step->composite;
    const struct lc_layer *layer = step->layer;
    int32_t shape[3], points = inputs_of(step->domain) * inputs_of(step->domain);
    if (layer->kernel_width != layer->kernel_height ||
        layer->stride_width != layer->stride_height || layer->dilation_height != 1 ||
        layer->dilation_width != 1 || layer->element != LC_FLOAT32 ||
        layer->out_channels % points ||
        (layer->activation != TFL_ACTIVATION_NONE && layer->activation != TFL_ACTIVATION_RELU) ||
        !read_integers(step->context, step->node->inputs->data[1], 3, shape) || shape[0] < 1 ||
        shape[1] != layer->out_channels / points || shape[2] != points) {
        return false;
    }
    composite->tiles = shape[0];
    composite->channels = shape[1];
    return transforms_image(layer, step->context, step->domain);
}

static bool turns(const struct step *step, int32_t first, int32_t second, int32_t third) {
    int32_t axes[3];
    return read_integers(step->context, step->node->inputs->data[1], 3, axes) && axes[0] == first &&
           axes[1] == second && axes[2] == third;
}

static bool turn_to_points(const struct step *step) { return turns(step, 2, 0, 1); }

static bool turn_from_points(const struct step *step) { return turns(step, 1, 2, 0); }

static bool turn_to_pixels(const struct step *step) { return turns(step, 0, 2, 1); }

static bool multiply(const struct step *step) {
    const struct tfl_batch_matmul_params *params = step->node->builtin_data;
    int index = step->node->inputs->data[1];
    const struct tfl_tensor *weights = lc_tensor(step->context, index);
    if (!weights || !lc_has_rank(weights, 3) || params->adj_x || params->adj_y) {
        return false;
    }
    int32_t n = inputs_of(step->domain);
    const int32_t dims[3] = {n * n, step->composite->channels, weights->dims->data[2]};
    step->composite->weights = index;
    step->composite->filters = dims[2];
    return floats(step->context, index, 3, dims);
}

// A x A
static bool transform_output(const struct step *step) {
    const struct tfl_dense_params *params = step->node->builtin_data;
    int32_t m = step->domain->outputs, n = inputs_of(step->domain);
    const int32_t dims[2] = {m * m, n * n};
    const float *weights = floats(step->context, step->node->inputs->data[1], 2, dims);
    bool is_product = weights && params->activation == TFL_ACTIVATION_NONE &&
                      !params->weights_format && params->keep_num_dims;
    for (int32_t row = 0; is_product && row < m * m; row++) {
        is_product = is_product_row(step->domain->output, (size_t)m, (size_t)n, (size_t)row,
                                    weights + row * n * n, 1);
    }
    return is_product;
}

// [T][m m][O] -> [N][down][across][m m O]
static bool shape_grid(const struct step *step) {
    struct lc_composite *composite = step->composite;
    int32_t shape[4], m = step->domain->outputs, tiles, depth;
    if (!read_integers(step->context, step->node->inputs->data[1], 4, shape) || shape[0] < 1 ||
        shape[1] < 1 || shape[2] < 1 || __builtin_mul_overflow(shape[0], shape[1], &tiles) ||
        __builtin_mul_overflow(tiles, shape[2], &tiles) || tiles != composite->tiles ||
        __builtin_mul_overflow(m * m, composite->filters, &depth) || shape[3] != depth) {
        return false;
    }
    composite->images = shape[0];
    composite->down = shape[1];
    composite->across = shape[2];
    return !__builtin_mul_overflow(shape[1], m, &composite->height) &&
           !__builtin_mul_overflow(shape[2], m, &composite->width);
}

static bool spread(const struct step *step) {
    const struct tfl_block_params *params = step->node->builtin_data;
    return params->block_size == step->domain->outputs;
}

static bool crop(const struct step *step) {
    struct lc_composite *composite = step->composite;
    const int *inputs = step->node->inputs->data;
    int32_t begins[4], sizes[4];
    if (!read_integers(step->context, inputs[1], 4, begins) ||
        !read_integers(step->context, inputs[2], 4, sizes) || begins[0] || begins[1] || begins[2] ||
        begins[3] || sizes[0] != composite->images || sizes[1] < 1 ||
        sizes[1] > composite->height || sizes[2] < 1 || sizes[2] > composite->width ||
        sizes[3] != composite->filters) {
        return false;
    }
    composite->height = sizes[1];
    composite->width = sizes[2];
    return true;
}

// What is padded behind an axis of which so much is padded in front. False if that is less than
// nothing: tiles of the image would then be cut.
static bool pad_behind(int32_t outputs, int32_t taps, int32_t size, int32_t before,
                       int32_t *after) {
    int64_t pad = (int64_t)outputs + taps - 1 - size - before;
    *after = (int32_t)pad;
    return pad >= 0 && pad <= INT32_MAX;
}

// The bias, and with it the layer.
static bool end(const struct step *step) {
    const struct lc_composite *composite = step->composite;
    const struct tfl_arithmetic_params *params = step->node->builtin_data;
    struct lc_layer *layer = step->layer;
    const struct tfl_tensor *input = lc_tensor(step->context, layer->input);
    struct lc_geometry tiles;
    int32_t batch, taps = step->domain->taps, after[2];
    if (params->activation < TFL_ACTIVATION_NONE || params->activation > TFL_ACTIVATION_RELU6 ||
        !floats(step->context, step->node->inputs->data[1], 1, &composite->filters) || !input ||
        lc_layer_geometry(layer, input->dims, &tiles, &batch) || batch != composite->images ||
        tiles.in_channels != composite->channels || lc_out_height(&tiles) != composite->down ||
        lc_out_width(&tiles) != composite->across ||
        !pad_behind(composite->height, taps, tiles.in_height, tiles.pad_top, &after[0]) ||
        !pad_behind(composite->width, taps, tiles.in_width, tiles.pad_left, &after[1])) {
        return false;
    }
    *layer = (struct lc_layer){
        .core = layer->core,
        .is_composite = true,
        .input = layer->input,
        .weights = composite->weights,
        .bias = step->node->inputs->data[1],
        .residual = TFL_OPTIONAL_TENSOR,
        .output = step->node->outputs->data[0],
        .domain = step->domain->outputs,
        .domain_relu = layer->activation == TFL_ACTIVATION_RELU,
        .source = LC_POINTS,
        .group_channels = composite->channels,
        .out_channels = composite->filters,
        .kernel_height = taps,
        .kernel_width = taps,
        .stride_height = 1,
        .stride_width = 1,
        .dilation_height = 1,
        .dilation_width = 1,
        .pad_top = tiles.pad_top,
        .pad_bottom = after[0],
        .pad_left = tiles.pad_left,
        .pad_right = after[1],
        .element = LC_FLOAT32,
        .activation = params->activation,
    };
    return true;
}

static bool always(const struct lc_composite *composite) {
    (void)composite;
    return true;
}

// [T][1][m m] has the same elements in the same places.
static bool has_one_filter(const struct lc_composite *composite) { return composite->filters == 1; }

static const struct {
    int32_t builtin_code;
    int inputs;
    bool has_params;
    bool (*may_miss)(const struct lc_composite *composite); // NULL: it may not
    bool (*read)(const struct step *step);
} steps[] = {
    {TFL_BUILTIN_RESHAPE, 2, false, NULL, begin},
    {TFL_BUILTIN_TRANSPOSE, 2, false, NULL, turn_to_points},
    {TFL_BUILTIN_BATCH_MATMUL, 2, true, NULL, multiply},
    {TFL_BUILTIN_TRANSPOSE, 2, false, NULL, turn_from_points},
    {TFL_BUILTIN_FULLY_CONNECTED, 2, true, NULL, transform_output},
    {TFL_BUILTIN_TRANSPOSE, 2, false, has_one_filter, turn_to_pixels},
    {TFL_BUILTIN_RESHAPE, 2, false, NULL, shape_grid},
    {TFL_BUILTIN_DEPTH_TO_SPACE, 1, true, NULL, spread},
    {TFL_BUILTIN_SLICE, 3, false, always, crop},
    {TFL_BUILTIN_ADD, 2, true, NULL, end},
};
_Static_assert(sizeof steps / sizeof *steps == LC_COMPOSITE_NODES, "a step is a node");

bool lc_composite_awaits(const struct lc_composite *composite, const struct lc_layer *layer,
                         struct lc_node_view view) {
    return composite->step ||
           (layer && layer->source == LC_TAPS && layer->residual == TFL_OPTIONAL_TENSOR &&
            view.builtin_code == steps[0].builtin_code);
}

// A FULLY_CONNECTED may name a bias that it does not have.
static bool has_inputs(const struct tfl_node *node, int count) {
    const struct tfl_ints *inputs = node->inputs;
    return inputs && (inputs->size == count ||
                      (inputs->size == count + 1 && inputs->data[count] == TFL_OPTIONAL_TENSOR));
}

const char *lc_composite_append(struct lc_composite *composite, struct lc_layer *layer,
                                const struct tfl_context *context, struct lc_node_view view) {
    const struct tfl_node *node = view.node;
    struct lc_composite next = *composite;
    const struct step step = {&next, layer, context, domain_of(layer), node};
    if (view.builtin_code != steps[next.step].builtin_code && steps[next.step].may_miss &&
        steps[next.step].may_miss(&next)) {
        next.step++;
    }
    int before = composite->step ? composite->output : layer->output;
    if (!step.domain || view.builtin_code != steps[next.step].builtin_code ||
        !has_inputs(node, steps[next.step].inputs) || node->inputs->data[0] != before ||
        (steps[next.step].has_params && !node->builtin_data) || !node->outputs ||
        node->outputs->size != 1) {
        return other;
    }
    const struct tfl_tensor *output = lc_tensor(context, node->outputs->data[0]);
    if (!output || output->type != TFL_FLOAT32 || lc_is_kept(output) ||
        !steps[next.step].read(&step)) {
        return other;
    }
    next.output = node->outputs->data[0];
    next.step++;
    *composite = next.step < LC_COMPOSITE_NODES ? next : (struct lc_composite){0};
    return NULL;
}
