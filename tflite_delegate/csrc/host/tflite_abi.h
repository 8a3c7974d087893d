// SPDX-License-Identifier: Apache-2.0
//
// The binary interface between TensorFlow Lite and a delegate, as far as this delegate uses it.
//
// These are facts about an interface that has been frozen since TensorFlow 2.14: the order and type
// of every field. Names of fields are TFLite's, so that its documentation applies.

#pragma once

#include <assert.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum tfl_status { TFL_OK = 0, TFL_ERROR = 1, TFL_DELEGATE_ERROR = 2 };

enum tfl_type {
    TFL_FLOAT32 = 1,
    TFL_INT32 = 2,
    TFL_UINT8 = 3,
    TFL_INT64 = 4,
    TFL_INT8 = 9,
    TFL_FLOAT16 = 10
};

enum tfl_quantization_type { TFL_NO_QUANTIZATION = 0, TFL_AFFINE_QUANTIZATION = 1 };

enum tfl_allocation {
    TFL_MMAP_RO = 1,      // a constant inside the model file
    TFL_ARENA_RW = 2,     // planned by TFLite, shared with other tensors over time
    TFL_PERSISTENT_RO = 5 // a constant that TFLite computed while it prepared the graph
};

enum tfl_padding { TFL_PADDING_SAME = 1, TFL_PADDING_VALID = 2 };

enum tfl_activation {
    TFL_ACTIVATION_NONE = 0,
    TFL_ACTIVATION_RELU = 1,
    TFL_ACTIVATION_RELU_N1_TO_1 = 2,
    TFL_ACTIVATION_RELU6 = 3
};

enum tfl_builtin {
    TFL_BUILTIN_ADD = 0,
    TFL_BUILTIN_AVERAGE_POOL_2D = 1,
    TFL_BUILTIN_CONCATENATION = 2,
    TFL_BUILTIN_CONV_2D = 3,
    TFL_BUILTIN_DEPTHWISE_CONV_2D = 4,
    TFL_BUILTIN_DEPTH_TO_SPACE = 5,
    TFL_BUILTIN_DEQUANTIZE = 6,
    TFL_BUILTIN_FULLY_CONNECTED = 9,
    TFL_BUILTIN_LOGISTIC = 14,
    TFL_BUILTIN_MAX_POOL_2D = 17,
    TFL_BUILTIN_MUL = 18,
    TFL_BUILTIN_RELU = 19,
    TFL_BUILTIN_RELU_N1_TO_1 = 20,
    TFL_BUILTIN_RELU6 = 21,
    TFL_BUILTIN_RESHAPE = 22,
    TFL_BUILTIN_RESIZE_BILINEAR = 23,
    TFL_BUILTIN_SOFTMAX = 25,
    TFL_BUILTIN_SPACE_TO_DEPTH = 26,
    TFL_BUILTIN_TANH = 28,
    TFL_BUILTIN_CUSTOM = 32,
    TFL_BUILTIN_PAD = 34,
    TFL_BUILTIN_TRANSPOSE = 39,
    TFL_BUILTIN_MEAN = 40,
    TFL_BUILTIN_SUB = 41,
    TFL_BUILTIN_DIV = 42,
    TFL_BUILTIN_SQUEEZE = 43,
    TFL_BUILTIN_STRIDED_SLICE = 45,
    TFL_BUILTIN_EXP = 47,
    TFL_BUILTIN_SPLIT = 49,
    TFL_BUILTIN_PRELU = 54,
    TFL_BUILTIN_MAXIMUM = 55,
    TFL_BUILTIN_MINIMUM = 57,
    TFL_BUILTIN_NEG = 59,
    TFL_BUILTIN_PADV2 = 60,
    TFL_BUILTIN_SLICE = 65,
    TFL_BUILTIN_TRANSPOSE_CONV = 67,
    TFL_BUILTIN_EXPAND_DIMS = 70,
    TFL_BUILTIN_SUM = 74,
    TFL_BUILTIN_SQRT = 75,
    TFL_BUILTIN_RSQRT = 76,
    TFL_BUILTIN_PACK = 83,
    TFL_BUILTIN_UNPACK = 88,
    TFL_BUILTIN_SQUARE = 92,
    TFL_BUILTIN_RESIZE_NEAREST_NEIGHBOR = 97,
    TFL_BUILTIN_LEAKY_RELU = 98,
    TFL_BUILTIN_SQUARED_DIFFERENCE = 99,
    TFL_BUILTIN_MIRROR_PAD = 100,
    TFL_BUILTIN_ABS = 101,
    TFL_BUILTIN_SPLIT_V = 102,
    TFL_BUILTIN_QUANTIZE = 114,
    TFL_BUILTIN_HARD_SWISH = 117,
    TFL_BUILTIN_DENSIFY = 124,
    TFL_BUILTIN_BATCH_MATMUL = 126,
    TFL_BUILTIN_CONV_3D = 132
};

// Bits of `inplace_operator`: which inputs the first output may share its memory with. A delegate's
// node has its inputs in the order of their indices, each once.
enum tfl_inplace {
    TFL_INPLACE_DATA_UNMODIFIED = 1, // the memory is left as it is
    TFL_INPLACE_INPUT_0 = 4,
    TFL_INPLACE_INPUT_1 = 8
};

enum tfl_dim_format { TFL_DIM_DENSE = 0, TFL_DIM_SPARSE_CSR = 1 };

enum { TFL_OPTIONAL_TENSOR = -1 };

enum tfl_delegate_flags { TFL_DELEGATE_ALLOW_DYNAMIC_TENSORS = 1 };

struct tfl_context;
struct tfl_delegate;
struct tfl_node;

struct tfl_ints {
    int size;
    int data[];
};

struct tfl_floats {
    int size;
    float data[];
};

// What numbers the codes of a tensor stand for: (code - zero_point) * scale.
struct tfl_affine_quantization {
    struct tfl_floats *scale;    // one, or one for each position along quantized_dimension
    struct tfl_ints *zero_point; // as many, or one
    int32_t quantized_dimension;
};

// One level of a sparse tensor, see sparsity.h.
struct tfl_dim_metadata {
    int format; // enum tfl_dim_format
    int dense_size;
    struct tfl_ints *array_segments, *array_indices;
};

struct tfl_sparsity {
    struct tfl_ints *traversal_order;
    struct tfl_ints *block_map;
    struct tfl_dim_metadata *dim_metadata;
    int dim_metadata_size;
};

struct tfl_tensor {
    int type;
    void *data;
    struct tfl_ints *dims;
    struct {
        float scale;
        int32_t zero_point;
    } params;
    int allocation_type;
    size_t bytes;
    const void *allocation;
    const char *name;
    struct tfl_delegate *delegate;
    int buffer_handle;
    bool data_is_stale;
    bool is_variable;
    struct {
        int type; // enum tfl_quantization_type
        void *params;
    } quantization;
    struct tfl_sparsity *sparsity; // NULL: the tensor is dense
    const struct tfl_ints *dims_signature;
};

struct tfl_node {
    struct tfl_ints *inputs;
    struct tfl_ints *outputs;
    struct tfl_ints *intermediates;
    struct tfl_ints *temporaries;
    void *user_data;
    void *builtin_data;
    const void *custom_initial_data;
    int custom_initial_data_size;
    struct tfl_delegate *delegate;
    bool might_have_side_effect;
};

struct tfl_registration {
    void *(*init)(struct tfl_context *context, const char *buffer, size_t length);
    void (*free)(struct tfl_context *context, void *user_data);
    int (*prepare)(struct tfl_context *context, struct tfl_node *node);
    int (*invoke)(struct tfl_context *context, struct tfl_node *node);
    const char *(*profiling_string)(const struct tfl_context *context, const struct tfl_node *node);
    int32_t builtin_code;
    const char *custom_name;
    int version;
    void *registration_external;
    void *async_kernel;
    uint64_t inplace_operator;
};

// What TFLite receives by value. A host whose structure has grown reads zeros behind ours.
struct tfl_registration_argument {
    struct tfl_registration registration;
    uint64_t zeros[8];
};

// What `init` of a delegate's node receives as `buffer`.
struct tfl_delegate_params {
    struct tfl_delegate *delegate;
    struct tfl_ints *nodes_to_replace;
    struct tfl_ints *input_tensors;
    struct tfl_ints *output_tensors;
};

struct tfl_delegate {
    void *data_;
    int (*Prepare)(struct tfl_context *context, struct tfl_delegate *delegate);
    int (*CopyFromBufferHandle)(struct tfl_context *context, struct tfl_delegate *delegate,
                                int buffer_handle, struct tfl_tensor *tensor);
    int (*CopyToBufferHandle)(struct tfl_context *context, struct tfl_delegate *delegate,
                              int buffer_handle, struct tfl_tensor *tensor);
    void (*FreeBufferHandle)(struct tfl_context *context, struct tfl_delegate *delegate,
                             int *buffer_handle);
    int64_t flags;
    void *opaque_delegate_builder;
};

// The host's structure goes on behind the last field; nothing there is used.
struct tfl_context {
    size_t tensors_size;
    int (*GetExecutionPlan)(struct tfl_context *context, struct tfl_ints **plan);
    struct tfl_tensor *tensors;
    void *impl_;
    // Takes ownership of `dims`, which must come from malloc.
    int (*ResizeTensor)(struct tfl_context *context, struct tfl_tensor *tensor,
                        struct tfl_ints *dims);
    void (*ReportError)(struct tfl_context *context, const char *format, ...);
    int (*AddTensors)(struct tfl_context *context, int count, int *first_index);
    int (*GetNodeAndRegistration)(struct tfl_context *context, int node_index,
                                  struct tfl_node **node, struct tfl_registration **registration);
    int (*ReplaceNodeSubsetsWithDelegateKernels)(struct tfl_context *context,
                                                 struct tfl_registration_argument registration,
                                                 const struct tfl_ints *nodes_to_replace,
                                                 struct tfl_delegate *delegate);
    int recommended_num_threads;
    void *(*GetExternalContext)(struct tfl_context *context, int type);
    void (*SetExternalContext)(struct tfl_context *context, int type, void *external);
    bool allow_fp32_relax_to_fp16;
    void *profiler;
    void *only_in_micro_runtime[4];
    void *ResizeTensorExplicit;
    int (*PreviewDelegatePartitioning)(struct tfl_context *context,
                                       const struct tfl_ints *nodes_to_replace,
                                       struct tfl_delegate_params **partitions, int *count);
};

// `builtin_data` of a CONV_2D node; newer hosts append fields.
struct tfl_conv_params {
    int padding;
    int stride_width;
    int stride_height;
    int activation;
    int dilation_width_factor;
    int dilation_height_factor;
};

// Of a CONV_3D node.
struct tfl_conv_3d_params {
    int padding;
    int stride_width;
    int stride_height;
    int stride_depth;
    int dilation_width_factor;
    int dilation_height_factor;
    int dilation_depth_factor;
    int activation;
};

// Of a DEPTHWISE_CONV_2D node. TFLite tells the multiplier from the shapes.
struct tfl_depthwise_params {
    int padding;
    int stride_width;
    int stride_height;
    int depth_multiplier;
    int activation;
    int dilation_width_factor;
    int dilation_height_factor;
};

// Of a TRANSPOSE_CONV node; newer hosts append fields.
struct tfl_transpose_conv_params {
    int padding;
    int stride_width;
    int stride_height;
    int activation;
};

// Of a FULLY_CONNECTED node.
struct tfl_dense_params {
    int activation;
    int weights_format; // 0: [units][depth]
    bool keep_num_dims;
    bool asymmetric_quantize_inputs;
};

// Of a BATCH_MATMUL node: whether rows and columns of each operand are exchanged.
struct tfl_batch_matmul_params {
    bool adj_x;
    bool adj_y;
    bool asymmetric_quantize_inputs;
};

// Of ADD, SUB, MUL and DIV nodes; those of ADD and SUB go on.
struct tfl_arithmetic_params {
    int activation;
};

// Of MAX_POOL_2D and AVERAGE_POOL_2D; what follows is for TFLite's own kernels.
struct tfl_pool_params {
    int padding;
    int stride_width;
    int stride_height;
    int filter_width;
    int filter_height;
    int activation;
};

// Of MEAN and SUM.
struct tfl_reducer_params {
    bool keep_dims;
};

struct tfl_softmax_params {
    float beta;
};

struct tfl_leaky_relu_params {
    float alpha;
};

struct tfl_concatenation_params {
    int axis;
    int activation;
};

// Of DEPTH_TO_SPACE and SPACE_TO_DEPTH.
struct tfl_block_params {
    int block_size;
};

// Of RESIZE_BILINEAR and RESIZE_NEAREST_NEIGHBOR.
struct tfl_resize_params {
    bool align_corners;
    bool half_pixel_centers;
};

enum tfl_mirror { TFL_MIRROR_REFLECT = 1, TFL_MIRROR_SYMMETRIC = 2 };

struct tfl_mirror_pad_params {
    int mode;
};

struct tfl_pack_params {
    int values_count;
    int axis;
};

struct tfl_unpack_params {
    int num;
    int axis;
};

struct tfl_strided_slice_params {
    int begin_mask;
    int end_mask;
    int ellipsis_mask;
    int new_axis_mask;
    int shrink_axis_mask;
    bool offset; // the ends are relative to the begins
};

struct tfl_reshape_params {
    int shape[8];
    int num_dimensions;
};

struct tfl_squeeze_params {
    int squeeze_dims[8];
    int num_squeeze_dims;
};

#if UINTPTR_MAX == UINT64_MAX
_Static_assert(sizeof(struct tfl_tensor) == 112, "TfLiteTensor");
_Static_assert(sizeof(struct tfl_node) == 80, "TfLiteNode");
_Static_assert(sizeof(struct tfl_registration) == 88, "TfLiteRegistration");
_Static_assert(sizeof(struct tfl_delegate) == 56, "TfLiteDelegate");
_Static_assert(sizeof(struct tfl_delegate_params) == 32, "TfLiteDelegateParams");
_Static_assert(offsetof(struct tfl_context, PreviewDelegatePartitioning) == 152, "TfLiteContext");
#else
#error "only 64-bit hosts are supported"
#endif
