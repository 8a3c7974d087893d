// SPDX-License-Identifier: Apache-2.0
//
// A TFLite interpreter in miniature, to be linked with a delegate's own sources and run under
// sanitizers. It is harsher than the real one:
//
//  - every tensor ends where an inaccessible page begins, or begins where one ends;
//  - the tensor and node arrays move whenever the interface allows it;
//  - the N-th allocation of the delegate fails, for every N;
//  - nodes come damaged in every way that can be thought of;
//  - several interpreters use one delegate at the same time.
//
// Compile the delegate with -Dmalloc=host_malloc -Dcalloc=host_calloc
// -Dposix_memalign=host_posix_memalign.
//
// usage: host LAYERS ALGORITHM THREADS INTERPRETERS (end|begin) [one_node] [harm]
//
// With `one_node`, all layers are one node, if the algorithm serves them all. With `harm`,
// allocations fail and nodes are damaged. The first layer must have a bias.
//
// LAYERS is a binary file of convolutions, each 16 int32 (see struct layer), its constants, and for
// every output channel a float64: an error that ALGORITHM may make where no input exceeds 1.

#define _GNU_SOURCE

#include <math.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "host/tflite_abi.h"
#include "kernels/geometry.h"
#include "kernels/halves.h"
#include "kernels/weights.h"
#include "layer/layer.h"
#include "leanconv.h"

struct tfl_delegate *tflite_plugin_create_delegate(char **keys, char **values, size_t count,
                                                   void (*report_error)(const char *));
void tflite_plugin_destroy_delegate(struct tfl_delegate *delegate);

#define CHECK(condition)                                                                           \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition);                        \
            abort();                                                                               \
        }                                                                                          \
    } while (0)

// Allocations of the delegate

static atomic_int allocations;
static int failing = -1; // number of the allocation that fails

static bool allocation_fails(void) { return atomic_fetch_add(&allocations, 1) == failing; }

void *host_malloc(size_t size) { return allocation_fails() ? NULL : malloc(size); }

void *host_calloc(size_t count, size_t size) {
    return allocation_fails() ? NULL : calloc(count, size);
}

int host_posix_memalign(void **memory, size_t alignment, size_t size) {
    return allocation_fails() ? 12 : posix_memalign(memory, alignment, size);
}

// Memory between inaccessible pages

static bool place_at_end, as_one_node;

struct guarded {
    void *mapping;
    size_t mapped;
    void *data;
};

static struct guarded guarded_new(size_t bytes, size_t alignment) {
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    size_t inner = (bytes + page - 1) / page * page;
    struct guarded memory = {.mapped = inner + 2 * page};
    char *start = mmap(NULL, memory.mapped, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(start != MAP_FAILED);
    memory.mapping = start;
    CHECK(inner == 0 || mprotect(start + page, inner, PROT_READ | PROT_WRITE) == 0);
    size_t slack = place_at_end ? (inner - bytes) / alignment * alignment : 0;
    memory.data = start + page + slack;
    return memory;
}

static void guarded_free(struct guarded *memory) {
    if (memory->mapping) {
        munmap(memory->mapping, memory->mapped);
    }
    *memory = (struct guarded){0};
}

// The model

struct layer {
    int32_t batch, height, width, channels;
    int32_t out_channels, kernel_height, kernel_width;
    int32_t padding, stride_height, stride_width, activation, dilation_height, dilation_width;
    int32_t is_half, has_bias, groups;
    void *weights, *bias;
    double *bounds;
};

enum { LAYER_INTS = 16 };

static struct layer *layers;
static int layer_count;

static void *read_bytes(FILE *file, size_t bytes) {
    void *data = malloc(bytes ? bytes : 1);
    CHECK(data && fread(data, 1, bytes, file) == bytes);
    return data;
}

static int group_channels(const struct layer *layer) { return layer->channels / layer->groups; }

static size_t weight_elements(const struct layer *layer) {
    return (size_t)layer->out_channels * (size_t)layer->kernel_height *
           (size_t)layer->kernel_width * (size_t)group_channels(layer);
}

static void read_layers(const char *path) {
    FILE *file = fopen(path, "rb");
    CHECK(file);
    int32_t ints[LAYER_INTS];
    while (fread(ints, sizeof ints, 1, file) == 1) {
        layers = realloc(layers, (size_t)(layer_count + 1) * sizeof *layers);
        CHECK(layers);
        struct layer *layer = &layers[layer_count++];
        memcpy(layer, ints, sizeof ints);
        size_t element = layer->is_half ? 2 : 4;
        layer->weights = read_bytes(file, weight_elements(layer) * element);
        layer->bias =
            layer->has_bias ? read_bytes(file, (size_t)layer->out_channels * element) : NULL;
        layer->bounds = read_bytes(file, (size_t)layer->out_channels * sizeof *layer->bounds);
    }
    fclose(file);
}

// The interpreter

struct node {
    struct tfl_node node;
    struct tfl_registration registration;
    struct tfl_delegate_params params; // of a delegate's node
};

struct interpreter {
    struct tfl_context context; // must be first
    struct node *nodes;
    int node_count;
    struct tfl_ints *plan;
    struct guarded *memory; // of each tensor
    struct tfl_conv_params *conv_params;
    int *conv_nodes; // of each layer: the node that computes it, the delegate's if it was claimed
    int *inputs, *outputs; // tensors of each layer
    struct tfl_delegate_params *partitions;
    int partition_count;
    int errors;
};

static struct tfl_ints *ints(int count, ...) {
    struct tfl_ints *result = malloc(sizeof *result + (size_t)count * sizeof(int));
    CHECK(result);
    result->size = count;
    va_list values;
    va_start(values, count);
    for (int i = 0; i < count; i++) {
        result->data[i] = va_arg(values, int);
    }
    va_end(values);
    return result;
}

// Moves an array, so that stale pointers into it are caught.
static void *moved(void *old, size_t old_bytes, size_t new_bytes) {
    char *fresh = calloc(1, new_bytes ? new_bytes : 1);
    CHECK(fresh);
    if (old_bytes) {
        memcpy(fresh, old, old_bytes);
        memset(old, 0xa5, old_bytes);
    }
    free(old);
    return fresh;
}

static int add_tensors(struct tfl_context *context, int count, int *first) {
    struct interpreter *self = (struct interpreter *)context;
    size_t old = context->tensors_size, fresh = old + (size_t)count;
    context->tensors =
        moved(context->tensors, old * sizeof *context->tensors, fresh * sizeof *context->tensors);
    self->memory = moved(self->memory, old * sizeof *self->memory, fresh * sizeof *self->memory);
    for (size_t i = old; i < fresh; i++) {
        context->tensors[i].dims = ints(0);
        context->tensors[i].allocation_type = TFL_ARENA_RW;
    }
    *first = (int)old;
    context->tensors_size = fresh;
    return TFL_OK;
}

static size_t element_bytes(int type) {
    return type == TFL_FLOAT32 ? 4 : type == TFL_FLOAT16 ? 2 : 1;
}

static size_t count_elements(const struct tfl_ints *dims) {
    size_t elements = 1;
    for (int i = 0; i < dims->size; i++) {
        elements *= (size_t)dims->data[i];
    }
    return elements;
}

static int resize_tensor(struct tfl_context *context, struct tfl_tensor *tensor,
                         struct tfl_ints *dims) {
    (void)context;
    free(tensor->dims);
    tensor->dims = dims;
    tensor->bytes = count_elements(dims) * element_bytes(tensor->type);
    tensor->data = NULL; // until the arena is planned
    return TFL_OK;
}

__attribute__((format(printf, 2, 3))) static void report_error(struct tfl_context *context,
                                                               const char *format, ...) {
    char text[512];
    va_list values;
    va_start(values, format);
    CHECK(vsnprintf(text, sizeof text, format, values) > 0);
    va_end(values);
    ((struct interpreter *)context)->errors++;
}

static int get_plan(struct tfl_context *context, struct tfl_ints **plan) {
    struct interpreter *self = (struct interpreter *)context;
    size_t bytes = sizeof *self->plan + (size_t)self->plan->size * sizeof(int);
    self->plan = moved(self->plan, bytes, bytes);
    *plan = self->plan;
    return TFL_OK;
}

static int get_node(struct tfl_context *context, int index, struct tfl_node **node,
                    struct tfl_registration **registration) {
    struct interpreter *self = (struct interpreter *)context;
    CHECK(index >= 0 && index < self->node_count);
    *node = &self->nodes[index].node;
    *registration = &self->nodes[index].registration;
    return TFL_OK;
}

static struct node *add_node(struct interpreter *self) {
    size_t old = (size_t)self->node_count;
    self->nodes = moved(self->nodes, old * sizeof *self->nodes, (old + 1) * sizeof *self->nodes);
    self->node_count++;
    return &self->nodes[old];
}

static void plan_node(struct interpreter *self, int index) {
    size_t bytes = sizeof *self->plan + (size_t)self->plan->size * sizeof(int);
    self->plan = moved(self->plan, bytes, bytes + sizeof(int));
    self->plan->data[self->plan->size++] = index;
}

static bool node_reads(const struct tfl_node *node, int tensor) {
    for (int i = 0; i < node->inputs->size; i++) {
        if (node->inputs->data[i] == tensor) {
            return true;
        }
    }
    return false;
}

static bool contains(const struct tfl_ints *list, int value) {
    for (int i = 0; i < list->size; i++) {
        if (list->data[i] == value) {
            return true;
        }
    }
    return false;
}

// Whether nodes outside of a subset of the plan, or the caller, read a tensor. Graph outputs are
// those of layers.
static bool is_read(struct interpreter *self, const struct tfl_ints *subset, int tensor) {
    for (int i = 0; i < layer_count; i++) {
        if (self->outputs[i] == tensor) {
            return true;
        }
    }
    for (int i = 0; i < self->plan->size; i++) {
        int index = self->plan->data[i];
        if (!contains(subset, index) && node_reads(&self->nodes[index].node, tensor)) {
            return true;
        }
    }
    return false;
}

// The subset's outputs that are read.
static struct tfl_ints *read_outputs(struct interpreter *self, const struct tfl_ints *subset) {
    struct tfl_ints *outputs = malloc(sizeof *outputs + (size_t)subset->size * sizeof(int));
    CHECK(outputs);
    outputs->size = 0;
    for (int i = 0; i < subset->size; i++) {
        int output = self->nodes[subset->data[i]].node.outputs->data[0];
        if (is_read(self, subset, output)) {
            outputs->data[outputs->size++] = output;
        }
    }
    return outputs;
}

static struct tfl_ints *copied(const struct tfl_ints *list) {
    size_t bytes = sizeof *list + (size_t)list->size * sizeof(int);
    struct tfl_ints *copy = malloc(bytes);
    CHECK(copy);
    return memcpy(copy, list, bytes);
}

static void free_partitions(struct interpreter *self) {
    for (int i = 0; i < self->partition_count; i++) {
        free(self->partitions[i].nodes_to_replace);
        free(self->partitions[i].output_tensors);
    }
    free(self->partitions);
    self->partitions = NULL;
    self->partition_count = 0;
}

static int preview(struct tfl_context *context, const struct tfl_ints *nodes,
                   struct tfl_delegate_params **partitions, int *count) {
    struct interpreter *self = (struct interpreter *)context;
    free_partitions(self);
    *partitions = self->partitions = calloc(1, sizeof *self->partitions);
    CHECK(self->partitions);
    *count = self->partition_count = 1;
    self->partitions->nodes_to_replace = copied(nodes);
    self->partitions->output_tensors = read_outputs(self, nodes);
    return TFL_OK;
}

static int replace_nodes(struct tfl_context *context, struct tfl_registration_argument argument,
                         const struct tfl_ints *nodes, struct tfl_delegate *delegate) {
    struct interpreter *self = (struct interpreter *)context;
    for (size_t i = 0; i < sizeof argument.zeros / sizeof *argument.zeros; i++) {
        CHECK(argument.zeros[i] == 0);
    }
    int index = self->node_count, last = nodes->data[nodes->size - 1];
    struct tfl_ints *outputs = read_outputs(self, nodes);
    struct node *fresh = add_node(self);
    fresh->registration = argument.registration;
    fresh->node.inputs = ints(1, self->nodes[nodes->data[0]].node.inputs->data[0]);
    fresh->node.outputs = outputs;
    fresh->node.temporaries = ints(0);
    fresh->node.delegate = delegate;
    fresh->params = (struct tfl_delegate_params){
        .delegate = delegate,
        .nodes_to_replace = copied(nodes),
        .input_tensors = fresh->node.inputs,
        .output_tensors = fresh->node.outputs,
    };
    // The new node stands where the last of the old ones did.
    int kept = 0;
    for (int i = 0; i < self->plan->size; i++) {
        int planned = self->plan->data[i];
        if (planned == last || !contains(nodes, planned)) {
            self->plan->data[kept++] = planned == last ? index : planned;
        }
    }
    self->plan->size = kept;
    for (int i = 0; i < layer_count; i++) {
        if (contains(nodes, self->conv_nodes[i])) {
            self->conv_nodes[i] = index;
        }
    }
    struct tfl_delegate_params params = fresh->params;
    if (argument.registration.init) {
        void *data = argument.registration.init(context, (const char *)&params, 0);
        self->nodes[index].node.user_data = data;
    }
    return TFL_OK;
}

static int constant(struct interpreter *self, const void *data, int type, struct tfl_ints *dims) {
    int index;
    add_tensors(&self->context, 1, &index);
    struct tfl_tensor *tensor = &self->context.tensors[index];
    tensor->type = type;
    resize_tensor(&self->context, tensor, dims);
    tensor->allocation_type = TFL_MMAP_RO;
    self->memory[index] = guarded_new(tensor->bytes, element_bytes(type));
    tensor->data = memcpy(self->memory[index].data, data, tensor->bytes);
    return index;
}

// A constant as layers read it: float16 goes through a DEQUANTIZE.
static int layer_constant(struct interpreter *self, const struct layer *layer, const void *data,
                          struct tfl_ints *dims) {
    int index = constant(self, data, layer->is_half ? TFL_FLOAT16 : TFL_FLOAT32, dims);
    if (!layer->is_half) {
        return index;
    }
    int output;
    add_tensors(&self->context, 1, &output);
    struct tfl_tensor *tensor = &self->context.tensors[output];
    size_t bytes = sizeof *dims + (size_t)dims->size * sizeof(int);
    struct tfl_ints *copy = memcpy(malloc(bytes), dims, bytes);
    tensor->type = TFL_FLOAT32;
    resize_tensor(&self->context, tensor, copy);
    struct node *node = add_node(self);
    node->registration.builtin_code = TFL_BUILTIN_DEQUANTIZE;
    node->node.inputs = ints(1, index);
    node->node.outputs = ints(1, output);
    node->node.temporaries = ints(0);
    plan_node(self, self->node_count - 1);
    return output;
}

static void add_layer(struct interpreter *self, int number) {
    const struct layer *layer = &layers[number];
    int x, y;
    add_tensors(&self->context, 1, &x);
    self->context.tensors[x].type = TFL_FLOAT32;
    resize_tensor(&self->context, &self->context.tensors[x],
                  ints(4, layer->batch, layer->height, layer->width, layer->channels));
    int w = layer_constant(self, layer, layer->weights,
                           ints(4, layer->out_channels, layer->kernel_height, layer->kernel_width,
                                group_channels(layer)));
    int b = layer->has_bias ? layer_constant(self, layer, layer->bias, ints(1, layer->out_channels))
                            : TFL_OPTIONAL_TENSOR;
    add_tensors(&self->context, 1, &y);
    self->context.tensors[y].type = TFL_FLOAT32;
    self->conv_params[number] = (struct tfl_conv_params){
        .padding = layer->padding,
        .stride_height = layer->stride_height,
        .stride_width = layer->stride_width,
        .activation = layer->activation,
        .dilation_height_factor = layer->dilation_height,
        .dilation_width_factor = layer->dilation_width,
    };
    struct node *node = add_node(self);
    node->registration.builtin_code = TFL_BUILTIN_CONV_2D;
    node->node.inputs = ints(3, x, w, b);
    node->node.outputs = ints(1, y);
    node->node.temporaries = ints(0);
    node->node.builtin_data = &self->conv_params[number];
    plan_node(self, self->node_count - 1);
    self->conv_nodes[number] = self->node_count - 1;
    self->inputs[number] = x;
    self->outputs[number] = y;
}

static struct interpreter *interpreter_new(int threads) {
    struct interpreter *self = calloc(1, sizeof *self);
    CHECK(self);
    self->context.GetExecutionPlan = get_plan;
    self->context.ResizeTensor = resize_tensor;
    self->context.ReportError = report_error;
    self->context.AddTensors = add_tensors;
    self->context.GetNodeAndRegistration = get_node;
    self->context.ReplaceNodeSubsetsWithDelegateKernels = replace_nodes;
    self->context.PreviewDelegatePartitioning = preview;
    self->context.recommended_num_threads = threads;
    self->plan = ints(0);
    self->conv_params = calloc((size_t)layer_count, sizeof *self->conv_params);
    self->conv_nodes = calloc((size_t)layer_count, sizeof(int));
    self->inputs = calloc((size_t)layer_count, sizeof(int));
    self->outputs = calloc((size_t)layer_count, sizeof(int));
    CHECK(self->conv_params && self->conv_nodes && self->inputs && self->outputs);
    for (int i = 0; i < layer_count; i++) {
        add_layer(self, i);
    }
    return self;
}

static void interpreter_free(struct interpreter *self) {
    free_partitions(self);
    for (int i = 0; i < self->node_count; i++) {
        struct node *node = &self->nodes[i];
        if (node->registration.free) {
            node->registration.free(&self->context, node->node.user_data);
        }
        free(node->node.inputs);
        free(node->node.outputs);
        free(node->node.temporaries);
        free(node->params.nodes_to_replace);
    }
    for (size_t i = 0; i < self->context.tensors_size; i++) {
        free(self->context.tensors[i].dims);
        guarded_free(&self->memory[i]);
    }
    free(self->context.tensors);
    free(self->memory);
    free(self->nodes);
    free(self->plan);
    free(self->conv_params);
    free(self->conv_nodes);
    free(self->inputs);
    free(self->outputs);
    free(self);
}

// Running

static void allocate(struct interpreter *self, int tensor, size_t alignment) {
    struct tfl_tensor *t = &self->context.tensors[tensor];
    guarded_free(&self->memory[tensor]);
    self->memory[tensor] = guarded_new(t->bytes, alignment);
    t->data = self->memory[tensor].data;
}

static double constant_value(const struct layer *layer, const void *data, size_t index) {
    return layer->is_half ? (double)lc_half_to_float(((const uint16_t *)data)[index])
                          : (double)((const float *)data)[index];
}

static double clamp(int activation, double value) {
    float least, most;
    lc_activation_range(activation, &least, &most);
    return value<(double)least ? (double)least : value>(double) most ? (double)most : value;
}

// Compares one output element with its definition in double precision. The bound is that of a sum
// of `terms` products in single precision, in any order: terms * eps * sum |x| |w|.
static void check_element(const struct layer *layer, const struct lc_geometry *g, const float *x,
                          int oy, int ox, int m, float got) {
    const double eps = 0x1p-24;
    double sum = 0.0, magnitude = 0.0;
    int terms = 1, channels = group_channels(layer);
    int first = m / (g->out_channels / g->groups) * channels;
    size_t w = (size_t)m * weight_elements(layer) / (size_t)layer->out_channels;
    for (int kh = 0; kh < g->kernel_height; kh++) {
        for (int kw = 0; kw < g->kernel_width; kw++) {
            int row = oy * g->stride_height + kh * g->dilation_height - g->pad_top;
            int column = ox * g->stride_width + kw * g->dilation_width - g->pad_left;
            bool inside = row >= 0 && row < g->in_height && column >= 0 && column < g->in_width;
            for (int c = 0; c < channels; c++, w++) {
                if (!inside) {
                    continue;
                }
                size_t at =
                    ((size_t)row * (size_t)g->in_width + (size_t)column) * (size_t)g->in_channels +
                    (size_t)(first + c);
                double product = (double)x[at] * constant_value(layer, layer->weights, w);
                sum += product;
                magnitude += fabs(product);
                terms++;
            }
        }
    }
    double bias = layer->has_bias ? constant_value(layer, layer->bias, (size_t)m) : 0.0;
    double expected = clamp(layer->activation, sum + bias);
    double bound = (terms + 1) * eps * (magnitude + fabs(bias)) * (1.0 + 1e-3);
    CHECK(fabs((double)got - expected) <= fmax(bound, layer->bounds[m]));
}

static void check_output(const struct layer *layer, const struct tfl_tensor *input,
                         const struct tfl_tensor *output) {
    struct lc_layer shape = {
        .residual = TFL_OPTIONAL_TENSOR,
        .group_channels = group_channels(layer),
        .out_channels = layer->out_channels,
        .kernel_height = layer->kernel_height,
        .kernel_width = layer->kernel_width,
        .stride_height = layer->stride_height,
        .stride_width = layer->stride_width,
        .dilation_height = layer->dilation_height,
        .dilation_width = layer->dilation_width,
        .same_padding = layer->padding == TFL_PADDING_SAME,
        .activation = layer->activation,
    };
    struct lc_geometry g;
    int32_t batch;
    CHECK(lc_layer_geometry(&shape, input->dims, &g, &batch) == NULL);
    const float *x = input->data, *y = output->data;
    for (int n = 0; n < batch; n++) {
        for (int oy = 0; oy < lc_out_height(&g); oy++) {
            for (int ox = 0; ox < lc_out_width(&g); ox++) {
                for (int m = 0; m < g.out_channels; m++) {
                    check_element(layer, &g, x, oy, ox, m, *y++);
                }
            }
        }
        x += (size_t)g.in_height * (size_t)g.in_width * (size_t)g.in_channels;
    }
}

static void fill(struct tfl_tensor *tensor, unsigned seed) {
    float *values = tensor->data;
    for (size_t i = 0; i < tensor->bytes / sizeof(float); i++) {
        seed = seed * 1664525u + 1013904223u;
        values[i] = (float)(seed >> 8) * 0x1p-23f - 1.0f;
    }
}

// Prepares and runs one claimed layer. False if prepare failed.
static bool run_layer(struct interpreter *self, int number) {
    int index = self->conv_nodes[number];
    struct tfl_registration registration = self->nodes[index].registration;
    int prepared = TFL_OK;
    for (int i = 0; i < 2 && prepared == TFL_OK; i++) { // TFLite may prepare a node several times
        prepared = registration.prepare(&self->context, &self->nodes[index].node);
    }
    if (prepared != TFL_OK) {
        return false;
    }
    const char *name = registration.profiling_string(&self->context, &self->nodes[index].node);
    CHECK(name && name[0] && strncmp(name, "leanconv/", 9) != 0); // that is in front of it
    CHECK(strncmp(registration.custom_name, "leanconv/", 9) == 0);
    int x = self->inputs[number], y = self->outputs[number];
    allocate(self, x, sizeof(float));
    allocate(self, y, sizeof(float));
    const struct tfl_ints *temporaries = self->nodes[index].node.temporaries;
    for (int i = 0; i < temporaries->size; i++) {
        allocate(self, temporaries->data[i], 64);
    }
    fill(&self->context.tensors[x], (unsigned)number);
    CHECK(registration.invoke(&self->context, &self->nodes[index].node) == TFL_OK);
    check_output(&layers[number], &self->context.tensors[x], &self->context.tensors[y]);
    return true;
}

static void resize_input(struct interpreter *self, int number, int batch, int more) {
    const struct layer *layer = &layers[number];
    resize_tensor(&self->context, &self->context.tensors[self->inputs[number]],
                  ints(4, batch, layer->height + more, layer->width + 2 * more, layer->channels));
}

// Prepares and runs the node that computes all layers. False if prepare failed.
static bool run_network(struct interpreter *self, int batch, int more) {
    int index = self->plan->data[0];
    struct tfl_registration registration = self->nodes[index].registration;
    for (int i = 0; i < layer_count; i++) {
        resize_input(self, i, batch, more);
    }
    for (int i = 0; i < 2; i++) {
        if (registration.prepare(&self->context, &self->nodes[index].node) != TFL_OK) {
            return false;
        }
    }
    for (int i = 0; i < layer_count; i++) {
        allocate(self, self->inputs[i], sizeof(float));
        allocate(self, self->outputs[i], sizeof(float));
        fill(&self->context.tensors[self->inputs[i]], (unsigned)i);
    }
    const struct tfl_ints *temporaries = self->nodes[index].node.temporaries;
    CHECK(temporaries->size <= 1);
    for (int i = 0; i < temporaries->size; i++) {
        allocate(self, temporaries->data[i], 64);
    }
    CHECK(registration.invoke(&self->context, &self->nodes[index].node) == TFL_OK);
    for (int i = 0; i < layer_count; i++) {
        check_output(&layers[i], &self->context.tensors[self->inputs[i]],
                     &self->context.tensors[self->outputs[i]]);
    }
    return true;
}

struct run {
    struct tfl_delegate *delegate;
    int threads;
    int claimed;
    bool good, is_network;
};

static void *run_interpreter(void *argument) {
    struct run *run = argument;
    struct interpreter *self = interpreter_new(run->threads);
    run->good = run->delegate->Prepare(&self->context, run->delegate) == TFL_OK;
    // As compiled, twice; a batch; another image; and back.
    const int batches[] = {1, 1, 2, 1, 1}, more[] = {0, 0, 0, 1, 0};
    run->is_network = self->plan->size == 1 && layer_count > 1;
    for (int j = 0; run->good && run->is_network && j < 5; j++) {
        run->good = run_network(self, batches[j], more[j]);
        run->claimed = layer_count;
    }
    for (int i = 0; run->good && !run->is_network && i < layer_count; i++) {
        if (!self->nodes[self->conv_nodes[i]].node.delegate) {
            continue;
        }
        run->claimed++;
        for (int j = 0; run->good && j < 5; j++) {
            resize_input(self, i, batches[j], more[j]);
            run->good = run_layer(self, i);
        }
        // An image with other channels is an error, not a crash.
        free(self->context.tensors[self->inputs[i]].dims);
        self->context.tensors[self->inputs[i]].dims = ints(4, 1, 8, 8, layers[i].channels + 1);
        struct tfl_node *node = &self->nodes[self->conv_nodes[i]].node;
        CHECK(!run->good || self->nodes[self->conv_nodes[i]].registration.prepare(&self->context,
                                                                                  node) != TFL_OK);
    }
    char report[64];
    CHECK(leanconv_report((const struct TfLiteDelegate *)(const void *)run->delegate, report,
                          sizeof report) > sizeof report);
    interpreter_free(self);
    return NULL;
}

// The whole life of a delegate. Returns the claimed layers of the first interpreter, or -1 if an
// allocation failed where the delegate could not go on; and whether they were one node.
static int scenario(char *algorithm, int threads, int interpreters, bool *is_network) {
    char *keys[] = {"algorithm", "one_node"}, *values[] = {algorithm, as_one_node ? "1" : "0"};
    struct tfl_delegate *delegate = tflite_plugin_create_delegate(keys, values, 2, NULL);
    if (!delegate) {
        return -1;
    }
    struct run *runs = calloc((size_t)interpreters, sizeof *runs);
    pthread_t *handles = calloc((size_t)interpreters, sizeof *handles);
    CHECK(runs && handles);
    for (int i = 0; i < interpreters; i++) {
        runs[i] = (struct run){.delegate = delegate, .threads = threads};
        CHECK(pthread_create(&handles[i], NULL, run_interpreter, &runs[i]) == 0);
    }
    bool good = true;
    for (int i = 0; i < interpreters; i++) {
        pthread_join(handles[i], NULL);
        good &= runs[i].good;
    }
    char report[512];
    leanconv_report((const struct TfLiteDelegate *)(void *)delegate, report, sizeof report);
    CHECK(strstr(report, "\"live_bytes\": 0, \"layers\": []"));
    tflite_plugin_destroy_delegate(delegate);
    int claimed = runs[0].claimed;
    *is_network = runs[0].is_network;
    free(runs);
    free(handles);
    return good ? claimed : -1;
}

// Makes the first layer a node that no converter writes. False if there is no such damage.
static bool damage(struct interpreter *self, int kind) {
    struct tfl_node *node = &self->nodes[self->conv_nodes[0]].node;
    struct tfl_tensor *tensors = self->context.tensors;
    struct tfl_tensor *x = &tensors[node->inputs->data[0]], *w = &tensors[node->inputs->data[1]];
    struct tfl_tensor *b = &tensors[node->inputs->data[2]];
    struct tfl_conv_params *params = node->builtin_data;
    static struct tfl_sparsity no_order; // of its axes
    switch (kind) {
    case 0:
        node->inputs->data[0] = TFL_OPTIONAL_TENSOR;
        return true;
    case 1:
        node->inputs->data[0] = INT32_MAX;
        return true;
    case 2:
        node->inputs->data[1] = TFL_OPTIONAL_TENSOR;
        return true;
    case 3:
        node->inputs->data[1] = INT32_MIN;
        return true;
    case 4:
        node->inputs->data[1] = (int)self->context.tensors_size;
        return true;
    case 5:
        node->inputs->data[2] = -2;
        return true;
    case 6:
        node->inputs->size = 1;
        return true;
    case 7:
        node->outputs->size = 0;
        return true;
    case 8:
        node->outputs->data[0] = INT32_MAX;
        return true;
    case 9:
        node->builtin_data = NULL;
        return true;
    case 10:
        params->stride_height = 0;
        return true;
    case 11:
        params->stride_width = -1;
        return true;
    case 12:
        params->dilation_height_factor = 0;
        return true;
    case 13:
        params->dilation_width_factor = INT32_MAX;
        return true;
    case 14:
        params->padding = 0;
        return true;
    case 15:
        params->activation = 4;
        return true;
    case 16:
        params->activation = -1;
        return true;
    case 17:
        w->dims->size = 3;
        return true;
    case 18:
        w->dims->data[1] = 0;
        return true;
    case 19:
        w->dims->data[0] = w->dims->data[1] = w->dims->data[2] = INT32_MAX;
        return true;
    case 20:
        w->data = NULL;
        return true;
    case 21:
        w->bytes--;
        return true;
    case 22:
        w->type = TFL_UINT8;
        return true;
    case 23:
        w->allocation_type = TFL_ARENA_RW;
        return true;
    case 24:
        w->sparsity = &no_order;
        return true;
    case 25:
        b->dims->data[0]--;
        return true;
    case 26:
        b->type = TFL_UINT8;
        return true;
    case 27:
        x->type = TFL_FLOAT16;
        return true;
    case 28:
        x->dims->size = 0;
        return true;
    case 29:
        x->dims->data[1] = -1;
        return true;
    case 30:
        x->dims->data[1] = x->dims->data[2] = INT32_MAX;
        return true;
    case 31:
        x->dims->data[3]++;
        return true;
    case 32:
        w->dims->size = 0;
        return true;
    case 33:
        free(x->dims);
        x->dims = NULL;
        return true;
    default:
        return false;
    }
}

// Damaged nodes stay with TFLite and take no other with them. Returns the kinds of damage.
static int run_damaged(void) {
    int kind = 0;
    for (;; kind++) {
        struct interpreter *self = interpreter_new(1);
        if (!damage(self, kind)) {
            interpreter_free(self);
            return kind;
        }
        struct tfl_delegate *delegate = tflite_plugin_create_delegate(NULL, NULL, 0, NULL);
        CHECK(delegate && delegate->Prepare(&self->context, delegate) == TFL_OK);
        for (int i = 0; i < layer_count; i++) {
            CHECK((self->nodes[self->conv_nodes[i]].node.delegate != NULL) == (i > 0));
        }
        interpreter_free(self);
        tflite_plugin_destroy_delegate(delegate);
    }
}

int main(int argc, char **argv) {
    CHECK(argc >= 6 && argc <= 8);
    read_layers(argv[1]);
    int threads = atoi(argv[3]), interpreters = atoi(argv[4]);
    place_at_end = strcmp(argv[5], "end") == 0;
    as_one_node = argc > 6 && strcmp(argv[6], "one_node") == 0;
    bool harm = strcmp(argv[argc - 1], "harm") == 0;
    bool was_network = false;
    int claimed = scenario(argv[2], threads, interpreters, &was_network);
    CHECK(claimed >= 0);
    printf("claimed %d of %d%s\n", claimed, layer_count, was_network ? " as one node" : "");
    int count = atomic_load(&allocations);
    for (failing = 0; harm && failing < count; failing++) {
        atomic_store(&allocations, 0);
        scenario(argv[2], threads, interpreters, &was_network);
    }
    if (harm) {
        failing = -1;
        printf("survived %d failing allocations\n", count);
        printf("left %d kinds of damaged nodes\n", run_damaged());
    }
    for (int i = 0; i < layer_count; i++) {
        free(layers[i].weights);
        free(layers[i].bias);
        free(layers[i].bounds);
    }
    free(layers);
    return 0;
}
