// SPDX-License-Identifier: Apache-2.0

#include "host/options.h"

#include <stdio.h>
#include <string.h>

#include "host/kernel_table.h"

struct problem {
    char *text;
    size_t size;
};

// A decimal number of at most four digits.
static bool parse_number(const char *text, int32_t *number) {
    size_t length = strlen(text);
    if (length < 1 || length > 4) {
        return false;
    }
    *number = 0;
    for (; *text; text++) {
        if (*text < '0' || *text > '9') {
            return false;
        }
        *number = *number * 10 + (*text - '0');
    }
    return true;
}

static bool read_number(int32_t *option, const char *key, const char *value, int32_t least,
                        int32_t most, struct problem problem) {
    int32_t number;
    if (parse_number(value, &number) && number >= least && number <= most) {
        *option = number;
        return true;
    }
    snprintf(problem.text, problem.size,
             "leanconv: option %s: '%.40s' is not a number from %d to %d", key, value, (int)least,
             (int)most);
    return false;
}

// A decimal number of bytes, at least 1 and below 2^63, that may end in K or M.
static bool parse_bytes(const char *text, uint64_t *bytes) {
    const uint64_t most = INT64_MAX;
    uint64_t number = 0;
    const char *c = text;
    for (; *c >= '0' && *c <= '9'; c++) {
        uint64_t digit = (uint64_t)(*c - '0');
        if (number > (most - digit) / 10) {
            return false;
        }
        number = number * 10 + digit;
    }
    uint64_t unit = *c == 'K' ? UINT64_C(1) << 10 : *c == 'M' ? UINT64_C(1) << 20 : 1;
    c += unit > 1;
    *bytes = number * unit;
    return *c == '\0' && number >= 1 && number <= most / unit;
}

static bool read_bytes(uint64_t *option, const char *key, const char *value,
                       struct problem problem) {
    if (parse_bytes(value, option)) {
        return true;
    }
    snprintf(problem.text, problem.size,
             "leanconv: option %s: '%.40s' is not a number of bytes, like 65536, 64K or 2M", key,
             value);
    return false;
}

static bool read_algorithm(const char **option, const char *value, struct problem problem) {
    for (size_t i = 0; i < lc_library.algorithm_count; i++) {
        if (strcmp(value, lc_library.algorithms[i]) == 0) {
            *option = lc_library.algorithms[i];
            return true;
        }
    }
    int written = snprintf(problem.text, problem.size,
                           "leanconv: option algorithm: '%.40s' is not compiled in; known:", value);
    for (size_t i = 0; i < lc_library.algorithm_count; i++) {
        if (written < 0 || (size_t)written >= problem.size) {
            break;
        }
        written += snprintf(problem.text + written, problem.size - (size_t)written, "%s %s",
                            i ? "," : "", lc_library.algorithms[i]);
    }
    return false;
}

bool lc_options_read(struct lc_options *options, char **keys, char **values, size_t count,
                     char *problem_text, size_t problem_size) {
    struct problem problem = {problem_text, problem_size};
    *options = (struct lc_options){0};
    for (size_t i = 0; i < count; i++) {
        const char *key = keys && keys[i] ? keys[i] : "";
        const char *value = values && values[i] ? values[i] : "";
        bool good;
        if (strcmp(key, "num_threads") == 0) {
            good = read_number(&options->num_threads, key, value, 1, LC_MAX_THREADS, problem);
        } else if (strcmp(key, "verbose") == 0) {
            good = read_number(&options->verbose, key, value, 0, 2, problem);
        } else if (strcmp(key, "one_node") == 0) {
            good = read_number(&options->one_node, key, value, 0, 1, problem);
        } else if (strcmp(key, "verify") == 0) {
            good = read_number(&options->verify, key, value, 0, 1, problem);
        } else if (strcmp(key, "memory_limit") == 0) {
            good = read_bytes(&options->memory_limit, key, value, problem);
        } else if (strcmp(key, "algorithm") == 0) {
            good = read_algorithm(&options->algorithm, value, problem);
        } else {
            snprintf(problem.text, problem.size,
                     "leanconv: unknown option '%.40s' (value '%.40s'); known: num_threads, "
                     "verbose, one_node, verify, memory_limit, algorithm",
                     key, value);
            good = false;
        }
        if (!good) {
            return false;
        }
    }
    return true;
}
