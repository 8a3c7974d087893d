// SPDX-License-Identifier: Apache-2.0
//
// What machine this is, and which of its cores measure.

#define _GNU_SOURCE

#include "measure.h"

#include <inttypes.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>

// Kinds of cores that one machine has, at most.
#define MOST_PARTS 8

// Arm's main part numbers, which /proc/cpuinfo has instead of a name.
static const struct {
    unsigned part;
    const char *name;
} arm_parts[] = {
    {0xd03, "Cortex-A53"},  {0xd04, "Cortex-A35"},  {0xd05, "Cortex-A55"},  {0xd07, "Cortex-A57"},
    {0xd08, "Cortex-A72"},  {0xd09, "Cortex-A73"},  {0xd0a, "Cortex-A75"},  {0xd0b, "Cortex-A76"},
    {0xd0c, "Neoverse-N1"}, {0xd0d, "Cortex-A77"},  {0xd40, "Neoverse-V1"}, {0xd41, "Cortex-A78"},
    {0xd44, "Cortex-X1"},   {0xd46, "Cortex-A510"}, {0xd47, "Cortex-A710"}, {0xd48, "Cortex-X2"},
    {0xd49, "Neoverse-N2"}, {0xd4d, "Cortex-A715"}, {0xd4e, "Cortex-X3"},   {0xd4f, "Neoverse-V2"},
    {0xd80, "Cortex-A520"}, {0xd81, "Cortex-A720"}, {0xd82, "Cortex-X4"},
};

struct cpuinfo {
    char model[128];
    unsigned implementer, parts[MOST_PARTS];
    int part_count;
    char *features; // of the first core, with spaces in between; allocated
};

// The value of a line "name : value" of /proc/cpuinfo; NULL if it is another line.
static char *value_of(char *line, const char *name) {
    char *colon = strchr(line, ':');
    size_t length = strlen(name);
    if (!colon || strncmp(line, name, length) != 0 || strspn(line + length, " \t:") == 0) {
        return NULL;
    }
    return colon + 1 + strspn(colon + 1, " \t");
}

static void add_part(struct cpuinfo *info, unsigned part) {
    for (int i = 0; i < info->part_count; i++) {
        if (info->parts[i] == part) {
            return;
        }
    }
    if (info->part_count < MOST_PARTS) {
        info->parts[info->part_count++] = part;
    }
}

static void read_cpuinfo(struct cpuinfo *info) {
    char *line = NULL, *value;
    size_t size = 0;
    FILE *file = fopen("/proc/cpuinfo", "r");
    while (file && getline(&line, &size, file) > 0) {
        line[strcspn(line, "\n")] = 0;
        if ((value = value_of(line, "model name"))) {
            snprintf(info->model, sizeof info->model, "%s", value);
        } else if ((value = value_of(line, "CPU implementer"))) {
            info->implementer = (unsigned)strtoul(value, NULL, 0);
        } else if ((value = value_of(line, "CPU part"))) {
            add_part(info, (unsigned)strtoul(value, NULL, 0));
        } else if (!info->features &&
                   ((value = value_of(line, "flags")) || (value = value_of(line, "Features")))) {
            info->features = strdup(value);
        }
    }
    free(line);
    if (file) {
        fclose(file);
    }
}

static void print_string(const char *text) {
    putchar('"');
    for (; *text; text++) {
        if (*text == '"' || *text == '\\') {
            putchar('\\');
        }
        putchar((unsigned char)*text < ' ' ? ' ' : *text);
    }
    putchar('"');
}

static const char *arm_name(unsigned part) {
    for (size_t i = 0; i < sizeof arm_parts / sizeof arm_parts[0]; i++) {
        if (arm_parts[i].part == part) {
            return arm_parts[i].name;
        }
    }
    return NULL;
}

// The model's name or, on Arm, those of all kinds of cores.
static void print_model(const struct cpuinfo *info) {
    char text[512] = "";
    for (int i = 0; i < info->part_count; i++) {
        const char *name = info->implementer == 0x41 ? arm_name(info->parts[i]) : NULL;
        size_t length = strlen(text);
        snprintf(text + length, sizeof text - length, "%s", length ? " + " : "");
        length = strlen(text);
        if (name) {
            snprintf(text + length, sizeof text - length, "%s", name);
        } else {
            snprintf(text + length, sizeof text - length, "implementer %#x part %#x",
                     info->implementer, info->parts[i]);
        }
    }
    print_string(info->part_count ? text : info->model);
}

static void print_features(char *features) {
    const char *comma = "";
    char *place = NULL;
    for (char *word = features ? strtok_r(features, " ", &place) : NULL; word;
         word = strtok_r(NULL, " ", &place)) {
        printf("%s", comma);
        print_string(word);
        comma = ", ";
    }
}

static uint64_t memory_bytes(void) {
    uint64_t kib = 0;
    char line[128];
    FILE *file = fopen("/proc/meminfo", "r");
    while (file && fgets(line, sizeof line, file)) {
        if (sscanf(line, "MemTotal: %" SCNu64 " kB", &kib) == 1) {
            break;
        }
    }
    if (file) {
        fclose(file);
    }
    return kib * 1024;
}

void print_board(void) {
    struct cpuinfo info = {0};
    struct utsname system;
    cpu_set_t cores;
    char os[sizeof system.sysname + sizeof system.release + 1] = "";
    bool is_known = uname(&system) == 0;
    if (is_known) {
        snprintf(os, sizeof os, "%s %s", system.sysname, system.release);
    }
    read_cpuinfo(&info);
    printf("{\"board\": {\"cpu\": ");
    print_model(&info);
    printf(", \"arch\": ");
    print_string(is_known ? system.machine : "");
    printf(", \"features\": [");
    print_features(info.features);
    printf("], \"cores\": %d, \"os\": ",
           sched_getaffinity(0, sizeof cores, &cores) == 0 ? CPU_COUNT(&cores) : 1);
    print_string(os);
    printf(", \"memory_bytes\": %" PRIu64 "}}\n", memory_bytes());
    free(info.features);
}

// What Linux thinks a core can do, of 1024; 0 if all are alike.
static unsigned capacity(int core) {
    char path[64];
    unsigned value = 0;
    snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu%d/cpu_capacity", core);
    FILE *file = fopen(path, "r");
    if (file) {
        value = fscanf(file, "%u", &value) == 1 ? value : 0;
        fclose(file);
    }
    return value;
}

void use_largest_cores(void) {
    cpu_set_t cores, largest;
    unsigned most = 0;
    if (sched_getaffinity(0, sizeof cores, &cores) != 0) {
        return;
    }
    CPU_ZERO(&largest);
    for (int core = 0; core < CPU_SETSIZE; core++) {
        if (!CPU_ISSET(core, &cores)) {
            continue;
        }
        unsigned own = capacity(core);
        if (own > most) {
            CPU_ZERO(&largest);
            most = own;
        }
        if (own == most) {
            CPU_SET(core, &largest);
        }
    }
    sched_setaffinity(0, sizeof largest, &largest); // at worst, all cores measure
}
