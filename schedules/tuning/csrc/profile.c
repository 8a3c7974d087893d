// SPDX-License-Identifier: Apache-2.0
//
// Times what TVM's virtual machine calls, here or inside of an RPC session, where no Python can
// look on. `instrument` is for the machine; `profile_size` says how many bytes `read_profile`
// writes into the tensor that it is given: a line for each function, in the order of their first
// calls, with its calls, its nanoseconds without what it called itself, and its name. The functions
// follow the C ABI of tvm-ffi and need nothing of TVM.

#define _GNU_SOURCE
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define EXPORT __attribute__((visibility("default")))

// Of tvm-ffi's ABI: a value on the stack, and a string and a tensor on the heap.
typedef struct {
    int32_t type_index;
    uint32_t small_length;
    union {
        int64_t v_int64;
        const void *v_pointer;
        char v_bytes[8];
    };
} TVMFFIAny;
enum {
    kTVMFFIInt = 1,
    kTVMFFIDLTensorPtr = 7,
    kTVMFFIRawStr = 8,
    kTVMFFISmallStr = 11,
    kTVMFFIStr = 65,
    kTVMFFITensor = 70
};
typedef struct {
    char header[24];
    const char *data;
    size_t size;
} StringObject;
// The rest of a tensor is known to who made it.
typedef struct {
    void *data;
} DLTensor;
typedef struct {
    char header[24];
    DLTensor tensor;
} TensorObject;

enum { DEEPEST_CALL = 64, FIRST_CAPACITY = 64, NAMED_ARGUMENTS = 3 };

typedef struct {
    char *name;
    size_t length;
    int64_t calls;
    int64_t nanoseconds;
} Function;

typedef struct {
    int64_t start;
    int64_t inside; // what it called itself
} Call;

// The machine runs on one thread.
static Function *functions;
static size_t function_count, function_capacity;
static Call stack[DEEPEST_CALL];
static int depth;

EXPORT int __tvm_ffi_instrument(void *self, const TVMFFIAny *arguments, int32_t argument_count,
                                TVMFFIAny *result);
EXPORT int __tvm_ffi_profile_size(void *self, const TVMFFIAny *arguments, int32_t argument_count,
                                  TVMFFIAny *result);
EXPORT int __tvm_ffi_read_profile(void *self, const TVMFFIAny *arguments, int32_t argument_count,
                                  TVMFFIAny *result);

static int64_t now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (int64_t)time.tv_sec * 1000000000 + time.tv_nsec;
}

static const char *text(const TVMFFIAny *value, size_t *length) {
    switch (value->type_index) {
    case kTVMFFISmallStr:
        *length = value->small_length;
        return value->v_bytes;
    case kTVMFFIRawStr:
        *length = strlen(value->v_pointer);
        return value->v_pointer;
    case kTVMFFIStr: {
        const StringObject *string = value->v_pointer;
        *length = string->size;
        return string->data;
    }
    default:
        *length = 0;
        return "";
    }
}

// The entry of a function, made at its first call; NULL if there is no memory.
static Function *function_named(const char *name, size_t length) {
    for (size_t i = 0; i < function_count; i++)
        if (functions[i].length == length && !memcmp(functions[i].name, name, length))
            return &functions[i];
    if (function_count == function_capacity) {
        const size_t capacity = function_capacity ? 2 * function_capacity : FIRST_CAPACITY;
        Function *larger = calloc(capacity, sizeof *larger);
        if (!larger)
            return NULL;
        if (function_count)
            memcpy(larger, functions, function_count * sizeof *larger);
        free(functions);
        functions = larger;
        function_capacity = capacity;
    }
    char *copy = malloc(length + 1);
    if (!copy)
        return NULL;
    memcpy(copy, name, length);
    copy[length] = 0;
    functions[function_count] = (Function){copy, length, 0, 0};
    return &functions[function_count++];
}

static void leave(const TVMFFIAny *name_value, int64_t end) {
    depth--;
    if (depth < 0 || depth >= DEEPEST_CALL)
        return;
    const int64_t elapsed = end - stack[depth].start;
    if (depth)
        stack[depth - 1].inside += elapsed;
    size_t length;
    const char *name = text(name_value, &length);
    Function *function = function_named(name, length);
    if (!function)
        return;
    function->calls++;
    function->nanoseconds += elapsed - stack[depth].inside;
}

// Called with the function, its name, whether it is about to be called, and more.
int __tvm_ffi_instrument(void *self, const TVMFFIAny *arguments, int32_t argument_count,
                         TVMFFIAny *result) {
    (void)self;
    const int64_t time = now();
    *result = (TVMFFIAny){.type_index = kTVMFFIInt}; // 0: go on
    if (argument_count < NAMED_ARGUMENTS)
        return 0;
    if (!arguments[2].v_int64) {
        leave(&arguments[1], time);
    } else {
        if (depth < DEEPEST_CALL)
            stack[depth] = (Call){now(), 0};
        depth++;
    }
    return 0;
}

// Writes the lines as far as `size` bytes go; returns the bytes that all of them take.
static size_t write_lines(char *buffer, size_t size) {
    size_t length = 1; // the last byte is 0
    for (size_t i = 0; i < function_count; i++) {
        const size_t left = size >= length ? size - length + 1 : 0;
        length += (size_t)snprintf(left ? buffer + length - 1 : NULL, left, "%lld %lld %s\n",
                                   (long long)functions[i].calls,
                                   (long long)functions[i].nanoseconds, functions[i].name);
    }
    return length;
}

int __tvm_ffi_profile_size(void *self, const TVMFFIAny *arguments, int32_t argument_count,
                           TVMFFIAny *result) {
    (void)self;
    (void)arguments;
    (void)argument_count;
    *result = (TVMFFIAny){.type_index = kTVMFFIInt, .v_int64 = (int64_t)write_lines(NULL, 0)};
    return 0;
}

// Its argument is a tensor of as many bytes as `profile_size` says.
int __tvm_ffi_read_profile(void *self, const TVMFFIAny *arguments, int32_t argument_count,
                           TVMFFIAny *result) {
    (void)self;
    *result = (TVMFFIAny){.type_index = kTVMFFIInt};
    void *data = NULL;
    if (argument_count == 1 && arguments[0].type_index == kTVMFFIDLTensorPtr)
        data = ((const DLTensor *)arguments[0].v_pointer)->data;
    else if (argument_count == 1 && arguments[0].type_index == kTVMFFITensor)
        data = ((const TensorObject *)arguments[0].v_pointer)->tensor.data;
    if (data)
        result->v_int64 = (int64_t)write_lines(data, write_lines(NULL, 0));
    return 0;
}
