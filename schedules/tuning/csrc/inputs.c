// SPDX-License-Identifier: Apache-2.0
//
// The tensors of a batch in memory, which the processes that measure share.

#include "measure.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

// Copies of weights take so much more memory at most, unless the batch wants more.
#define MOST_COPIES_BYTES (4u << 20)

uint64_t free_bytes(void) {
    uint64_t kib = UINT64_MAX / 1024;
    char line[128];
    FILE *file = fopen("/proc/meminfo", "r");
    while (file && fgets(line, sizeof line, file)) {
        if (sscanf(line, "MemAvailable: %" SCNu64 " kB", &kib) == 1) {
            break;
        }
    }
    if (file) {
        fclose(file);
    }
    return kib * 1024;
}

static bool fail(const char *name, const char *reason) {
    printf("{\"error\": \"%s: %s\"}\n", name, reason);
    return false;
}

static bool map_file(const char *folder, const struct data_file *file, const uint8_t **content) {
    char path[4096];
    struct stat status;
    *content = NULL;
    if (!file->name) {
        return true;
    }
    if (snprintf(path, sizeof path, "%s/%s", folder, file->name) >= (int)sizeof path) {
        return fail(file->name, "its path is too long");
    }
    int descriptor = open(path, O_RDONLY | O_CLOEXEC);
    if (descriptor < 0 || fstat(descriptor, &status) != 0) {
        return fail(file->name, strerror(errno));
    }
    if ((uint64_t)status.st_size != file->bytes) {
        close(descriptor);
        return fail(file->name, "it is not complete");
    }
    void *memory = mmap(NULL, file->bytes, PROT_READ, MAP_PRIVATE | MAP_POPULATE, descriptor, 0);
    close(descriptor);
    if (memory == MAP_FAILED) {
        return fail(file->name, strerror(errno));
    }
    *content = memory;
    return true;
}

// As many copies as fill the cache twice, or what the batch says; the file itself if one does.
static bool copy_weights(const struct weights_file *file, struct weights *weights) {
    uint64_t bytes = file->file.bytes, stride = (bytes + CACHE_LINE - 1) / CACHE_LINE * CACHE_LINE;
    uint64_t wanted = batch.weights_bytes ? batch.weights_bytes : 2 * batch.l2_bytes;
    uint64_t count = (wanted + stride - 1) / stride;
    uint64_t most = 1 + (batch.weights_bytes ? wanted : MOST_COPIES_BYTES) / stride;
    weights->stride = stride;
    weights->count = count < most ? count : most;
    weights->bias_offset = file->bias_offset;
    if (weights->count == 1) {
        return true;
    }
    void *memory = NULL;
    if (posix_memalign(&memory, CACHE_LINE, weights->count * stride)) {
        return fail(file->file.name, "not enough memory");
    }
    for (uint64_t i = 0; i < weights->count; i++) {
        memcpy((uint8_t *)memory + i * stride, weights->first, bytes);
    }
    munmap((void *)(uintptr_t)weights->first, bytes);
    weights->first = memory;
    return true;
}

bool map_tensors(const char *folder, struct tensors *tensors) {
    tensors->weights = calloc(batch.weights_count + 1, sizeof *tensors->weights);
    if (!tensors->weights) {
        return fail("weights", "not enough memory");
    }
    bool mapped = map_file(folder, &batch.x, &tensors->x) &&
                  map_file(folder, &batch.r, &tensors->r) &&
                  map_file(folder, &batch.expected, &tensors->expected);
    for (uint32_t i = 0; mapped && i < batch.weights_count; i++) {
        mapped = map_file(folder, &batch.weights[i].file, &tensors->weights[i].first) &&
                 copy_weights(&batch.weights[i], &tensors->weights[i]);
    }
    return mapped;
}
