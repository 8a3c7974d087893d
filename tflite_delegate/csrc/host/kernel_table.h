// SPDX-License-Identifier: Apache-2.0
//
// The compiled kernels of one model: the interface between the generated kernel_table.c, the
// kernels' object files and the delegate.

#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// Processor features that kernels may need.
#define LC_CPU_AVX2 (1u << 0)
#define LC_CPU_FMA (1u << 1)
#define LC_CPU_F16C (1u << 2)
#define LC_CPU_AVX512F (1u << 3)
#define LC_CPU_AVX512BW (1u << 4)
#define LC_CPU_AVX512CD (1u << 5)
#define LC_CPU_AVX512DQ (1u << 6)
#define LC_CPU_AVX512VL (1u << 7)
#define LC_CPU_NEON (1u << 8)
#define LC_CPU_DOTPROD (1u << 9)
#define LC_CPU_FULLFP16 (1u << 10)
#define LC_CPU_AVX512VNNI (1u << 11)
#define LC_CPU_AVX512VBMI (1u << 12)
#define LC_CPU_I8MM (1u << 13)
#define LC_CPU_AVXVNNI (1u << 14)

// Activations beside TFLite's enum tfl_activation.
enum { LC_ACTIVATION_HARD_SWISH = 64, LC_ACTIVATION_SWISH = 65 };

// Whose arithmetic quantised numbers follow, to the last bit: what TFLite computes by default, with
// XNNPACK where that takes a node and its own kernels elsewhere; its own kernels for the processor;
// or those that are the same on every processor.
enum lc_rounding { LC_ROUNDING_XNNPACK = 0, LC_ROUNDING_BUILTIN = 1, LC_ROUNDING_REFERENCE = 2 };

// Elements of input and output, and of sums of floats. Kernels of float16 serve layers of float32,
// whose tensors are copied where they are not float16 (run/copies). Of int8 and uint8, weights are
// of that type too, sums int32, and a layer's numbers are data: kernels read them behind the bias
// (see kernels/quantised/quantised.h).
enum lc_element { LC_FLOAT32 = 0, LC_INT8 = 1, LC_UINT8 = 2, LC_FLOAT16 = 3 };

// How the sums of a quantised layer become elements again: schedules/layer/rounding.py.
enum lc_rule {
    LC_NO_RULE = 0,
    LC_XNN_FP32,
    LC_XNN_RNDNU,
    LC_XNN_RNDNU_WRAPPING,
    LC_XNN_RNDNU16,
    LC_DOUBLE,
    LC_DOUBLE_UP,
    LC_DEPTHWISE_INT8,
    LC_SINGLE,
    LC_REAL64
};

// The layers that go by a rule, unless one before does for them: see tflite_delegate/rules.py.
enum lc_kind { LC_CONV = 0, LC_DEPTHWISE = 1, LC_DENSE = 2, LC_TRANSPOSED = 3 };
struct lc_rule_case {
    int32_t kind, element;
    int32_t rule;                       // enum lc_rule
    int32_t most_taps, most_multiplier; // output channels for each input channel
    int32_t most_pixels;                // of the output, of all images
    int32_t least_outputs, least_depth; // output channels, products of a sum
    int32_t is_fast; // 1: only what TFLite's depthwise kernel of 3x3 taps for Arm computes
};

// How a float image is quantised by its range, to be multiplied by int8 weights, and what becomes
// of the sums; see schedules/kernel/hybrid/rules.py.
enum lc_dynamic {
    LC_NOT_DYNAMIC,
    LC_XNN_QD8_FUSED,
    LC_XNN_QD8_FUSED_ROWS,
    LC_XNN_QD8,
    LC_XNN_QP8,
    LC_BUILTIN_DEPTHWISE,
    LC_BUILTIN_ASYMMETRIC,
    LC_BUILTIN_SYMMETRIC,
    LC_BUILTIN_ASYMMETRIC_ROWS,
    LC_BUILTIN_SYMMETRIC_ROWS,
    LC_BUILTIN_ASYMMETRIC_ROWS_FUSED,
    LC_BUILTIN_SYMMETRIC_ROWS_FUSED,
    LC_REFERENCE_ASYMMETRIC
};

// Products of int8 that the processor multiplies by itself, for which XNNPACK has other kernels:
// none, dot products, or products of matrices.
enum lc_dot_kernels { LC_NO_DOTS, LC_DOTS, LC_MATRIX_DOTS };

// What is made of the pixels of a window of a layer's output: nothing, the largest of each channel,
// or the average of those that are in the image.
enum lc_pool { LC_NO_POOL, LC_LARGEST, LC_AVERAGE };

// One convolution over one image: activation(convolution + bias), and with a residual
// output_activation(that + residual). A fully-connected layer is a 1x1 convolution of an image of
// one row, a volume a stack of images. Only int32_t fields: compared as memory.
struct lc_geometry {
    int32_t in_height, in_width, in_channels;
    int32_t out_channels, kernel_height, kernel_width;
    int32_t stride_height, stride_width;
    int32_t dilation_height, dilation_width;
    int32_t pad_top, pad_bottom, pad_left, pad_right;
    int32_t groups;     // divides the input and the output channels
    int32_t activation; // enum tfl_activation or LC_ACTIVATION_*
    int32_t residual;   // 1 if there is one
    int32_t output_activation;
    int32_t element;      // enum lc_element
    int32_t rule;         // enum lc_rule
    int32_t dynamic;      // enum lc_dynamic: of float elements and int8 weights
    int32_t half_weights; // of a model's layer: 1 if its weights are float16; of a kernel's: 1 if
                          // it reads them so, 0 if it takes float32, which float16 is packed into
    int32_t pairs;        // of a layer of int8: 1 if products of its weights may be added in pairs
                          // in 16 bits; of a kernel: 1 if it adds these. In pairs go those eight
                          // apart in a word of 16, or of taps 2 i and 2 i + 1 of a depthwise layer
    int32_t byte_weights; // likewise, int8 with scales, which are multiplied as floats
    // Of a layer of volumes, which are stacks of images, along the stack; of images, zeros.
    int32_t in_depth, kernel_depth;
    int32_t stride_depth, dilation_depth;
    int32_t pad_front, pad_back;
    // Of weights in Winograd's domain the m of F(m, r), and 1 if the transformed image passes a
    // ReLU; else zeros.
    int32_t domain, domain_relu;
    // Of a layer whose output is pooled; else zeros. Borders are rows and columns that windows
    // reach into beyond it.
    int32_t pool; // enum lc_pool
    int32_t pool_height, pool_width;
    int32_t pool_stride_height, pool_stride_width;
    int32_t pool_top, pool_bottom, pool_left, pool_right;
    int32_t pool_activation; // enum tfl_activation
};

// Computes work items [begin, end) of one stage of a kernel.
//
// x, y: NHWC images, from the first channel of the group that is computed. r: the residual of
// y's shape, or NULL. w, b: the packed weights of every layer, each on a cache line of its own
// behind the one before, and likewise every bias; of a grouped layer, those of one group.
// workspace: 64-byte aligned, shared_bytes + threads * thread_bytes; `thread` selects the slice of
// the calling thread. Returns 0.
typedef int32_t lc_stage_function(const void *x, const void *r, const void *w, const void *b,
                                  void *y, uint8_t *workspace, int32_t thread, int32_t begin,
                                  int32_t end);

struct lc_stage {
    lc_stage_function *function;
    int32_t extent; // work items; any split of [0, extent) over threads is valid
    bool whole;     // whether a thread had better compute its share in one call
};

// Matrices that take the weights of one input and one output channel, g, to a domain of `rows` by
// `columns` points: height g width^T, computed in double precision and rounded once.
struct lc_transform {
    int32_t rows, columns;
    const double *height; // [rows][K_h]
    const double *width;  // [columns][K_w]
};

// F(m, r) of Winograd's algorithm, for tiles of n = m + r - 1 by n pixels.
struct lc_domain {
    int32_t outputs, taps; // m and r
    const double *image;   // B^T [n][n]
    const double *output;  // A^T [m][n]
};

// The n of such a tile at most.
enum { LC_MAX_INPUTS = 10 };

// How packed weights are laid out; see schedules/kernel/packing.py.
enum lc_layout {
    LC_PANELS = 0, // [ceil(M / panel)][K_h K_w C][panel], the last panel filled up with zeros; with
                   // a transform [rows columns][ceil(M / panel)][C][panel]
    LC_ROWS = 1,   // [M][K_h K_w C], as a CONV_2D or FULLY_CONNECTED node has them
    LC_TAPS = 2,   // [K_h][K_w][M], as a DEPTHWISE_CONV_2D node has them
    LC_WORDS = 4,  // [ceil(M / panel)][words][panel][word] of int8, filled up like LC_PANELS: runs
                   // of weights, in the order of LC_ROWS, each filled up with zeros to whole words
    LC_VOLUME = 5, // [K_d][K_h][K_w][C][M], as a CONV_3D node has them; no kernel's
    LC_POINTS = 6, // [n n][C][M], as the model has weights of Winograd's domain; no kernel's
    LC_BLOCKS = 7, // those of them, or of LC_ROWS, that are not zero: see
                   // schedules/kernel/sparse/blocks.py
    LC_CHANNELS = 3 // [ceil(M / panel)][C][K_h K_w][panel], filled up like LC_PANELS
};

// The packed weights of one layer, and of a grouped layer those of one group with M and C channels.
// They are float32, float16 or int8, as the geometry says; transformed, float32. In LC_ROWS and
// LC_TAPS nothing is filled up: weights and bias may be read where the model has them.
struct lc_part {
    int32_t layout;                       // enum lc_layout
    int32_t panel;                        // output channels side by side; 1 if nothing is filled up
    const struct lc_transform *transform; // NULL: weights as they are; one address for equal ones
    int32_t run;                          // of LC_WORDS: weights in a row that are filled up; of
                                          // LC_BLOCKS without a domain: those of a row
    int32_t word;                         // of LC_WORDS: weights side by side: 1, 4, 8, 16
    int32_t rows;                         // of LC_BLOCKS: as many of different lengths, or 0
    int32_t capacity;                     // of LC_BLOCKS: blocks
    size_t packed_bytes;                  // of the weights
    size_t bias_elements;                 // M, rounded up to whole panels if they are filled up
};

enum { LC_MAX_LAYERS = 16 };

// One layer of a chain that is computed row by row: the rows of its input that are kept, and where
// its weights, its bias and its residual are.
struct lc_row_window {
    int32_t rows;         // 0: read where the chain's input is
    int32_t source;       // of the residual: the layer whose input it is, or -1
    uint64_t offset;      // of the rows, in a thread's workspace
    size_t weights, bias; // offsets in the packed weights, and from the first bias on
    size_t zero;          // likewise, of the byte that rows beyond the image are full of; 0: of 0
};

// What computes a row of one layer in one strip of columns, of as many rows of its input as it
// reads. Rows beyond the image are zeros there; both have nothing but these columns.
struct lc_row_kernel {
    const struct lc_stage *stages; // without workspace
    int32_t stage_count;
    int32_t in_begin, in_end; // columns
    int32_t out_begin, out_end;
};

// How a chain is computed row by row. `residual` of its layers is an input of one of them.
struct lc_walk {
    const struct lc_row_window *windows; // of each layer
    const struct lc_row_kernel *kernels; // of each layer, for one strip after the other
    int32_t strips;
    uint64_t halo; // where a thread's workspace has, if the output lies in the input's place, what
                   // two of them read on both sides of the boundary between their rows
};

// In whose place the output may lie, which has as many bytes: of what is written when it is read no
// more. A residual is none if it is the input too.
enum lc_overwrites { LC_NOTHING, LC_INPUT, LC_RESIDUAL };

// Computes a chain of layers, each the input of the next; unless `walk` says more, only the last
// may have a residual, which is none of their inputs but the first.
struct lc_kernel {
    const char *algorithm;
    const char *type;                 // "leanconv/" and the algorithm
    const char *name;                 // type, a space, and the layers
    const struct lc_geometry *layers; // of all groups
    const struct lc_part *parts;      // one for each layer
    int32_t layer_count;              // 1 to LC_MAX_LAYERS
    int32_t calls;                    // 1, or the groups of the layer: one call computes one group
    int32_t images;                   // of a batch, one behind the other: one call computes all
    int32_t rows;                     // of a layer that is pooled: one call computes so many of it
                                      // without its borders above and below; else 0
    uint64_t strip_bytes;             // of these and more (run/strips), on whole cache lines
    uint64_t border_bytes;            // likewise, of the input for one call; 0 without a border
    size_t zero;                      // of codes that are pooled: as in struct lc_row_window
    uint64_t shared_bytes;            // of workspace
    uint64_t thread_bytes;            // of workspace, for each thread
    const struct lc_stage *stages;    // run in order, with a barrier between
    int32_t stage_count;
    int32_t overwrites;         // enum lc_overwrites
    const struct lc_walk *walk; // instead of stages; NULL: these compute it
    // What several threads had better run, unless this one's algorithm was asked for: for the same
    // layers, and it reads the same packed weights. NULL: this one.
    const struct lc_kernel *shared;
};

// What the library was compiled for: a kernel, and the first core of its chain in the model. Two
// chains of one geometry may have different kernels.
struct lc_place {
    int32_t graph_nodes; // of the graph that the core is in
    int32_t core;        // node index
    int32_t plan;        // which of several for the model, 0 if there is one
    const struct lc_kernel *kernel;
    // What lc_pack would make of the model's weights; NULL: that is to be done. And what tells that
    // a model has these weights: hashes of parts of them, and of all (see kernels/embedded).
    const unsigned char *packed;
    size_t packed_bytes;
    uint64_t sample_hash, whole_hash;
};

// All that is packed, read-only: defined by an object that has nothing else.
extern const unsigned char lc_embedded_weights[];

// What TFLite's arena takes with as many threads, or fewer that are more than those before.
struct lc_promised_arena {
    int32_t threads;
    uint64_t bytes;
};

// What the model that the library was compiled for will hold with one plan: its default kernels,
// or those of the places of that number. See schedules/select/promised.py.
struct lc_promise {
    int32_t graph_nodes;
    uint64_t edge_bytes;                    // of the graph's inputs that are read, and its outputs
    uint64_t packed_bytes;                  // weights on the heap
    uint64_t own_bytes;                     // of the delegate and its nodes, at most
    const struct lc_promised_arena *arenas; // threads rise; so do bytes, but that one may take more
    size_t arena_count;
};

struct lc_library {
    const char *version;
    const char *model;               // file name of the model it was compiled for
    const char *target;              // name of the processor it was compiled for
    uint32_t features;               // LC_CPU_*
    int32_t image_offset;            // what kernels add to every int8 before they multiply it
    int32_t unsigned_image_offset;   // and to every uint8, of words
    int32_t weight_offset;           // what is added to every uint8 weight in LC_WORDS
    int32_t rounding;                // enum lc_rounding
    int32_t dot_kernels;             // enum lc_dot_kernels
    const struct lc_domain *domains; // of layers with weights in Winograd's domain
    size_t domain_count;
    const struct lc_rule_case *rules; // of quantised layers; the first that fits
    size_t rule_count;
    const struct lc_kernel *kernels; // longer chains first; of equal ones, the first is the default
    size_t kernel_count;
    const struct lc_place *places;
    size_t place_count;
    const struct lc_promise
        *promises;                 // by the plan; the first is the default, later ones hold less
    size_t promise_count;          // 0: none, as of a model of several graphs
    const char *const *algorithms; // compiled in, each named once
    size_t algorithm_count;
};

extern const struct lc_library lc_library;
