#define _GNU_SOURCE
#include "headroom.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NO_NUMBER UINT64_MAX

struct cgroup {
    char folder[6144]; /* a mount point and a path in it */
    size_t outermost;  /* length of the mount point: where the way up ends */
    bool second;       /* version 2 */
};

/* The number after a key that begins a line; with key "" the file's only number. */
static uint64_t number_in(const char *folder, const char *file, const char *key) {
    char path[6200], line[256];
    unsigned long long number;
    uint64_t found = NO_NUMBER;
    size_t length = strlen(key);
    snprintf(path, sizeof path, "%s/%s", folder, file);
    FILE *f = fopen(path, "re");
    if (f == NULL)
        return NO_NUMBER;
    while (found == NO_NUMBER && fgets(line, sizeof line, f) != NULL)
        if (strncmp(line, key, length) == 0 && sscanf(line + length, "%llu", &number) == 1)
            found = number;
    fclose(f);
    return found;
}

/* This process's path in the hierarchy that has the memory controller, as in /proc/self/cgroup. */
static bool find_path(struct cgroup *group, char path[4096]) {
    bool found = false;
    char *line = NULL;
    size_t size = 0;
    FILE *f = fopen("/proc/self/cgroup", "re");
    if (f == NULL)
        return false;
    while (getline(&line, &size, f) > 0) {
        char *controllers = strchr(line, ':');
        char *rest = controllers ? strchr(controllers + 1, ':') : NULL;
        if (rest == NULL)
            continue;
        *rest++ = '\0';
        bool first = strstr(controllers, "memory") != NULL;
        if (!first && strcmp(controllers, ":") != 0)
            continue;
        rest[strcspn(rest, "\n")] = '\0';
        snprintf(path, 4096, "%s", rest);
        group->second = !first;
        found = true;
        if (first) /* a controller is in one hierarchy only */
            break;
    }
    free(line);
    fclose(f);
    return found;
}

/* Where that hierarchy is mounted, and the folder in it that is this process's own. */
static bool find_folder(struct cgroup *group, const char *path) {
    bool found = false;
    char *line = NULL;
    size_t size = 0;
    FILE *f = fopen("/proc/self/mountinfo", "re");
    if (f == NULL)
        return false;
    while (!found && getline(&line, &size, f) > 0) {
        char root[2048], mount[2048], type[32], options[1024];
        const char *rest = strstr(line, " - ");
        if (rest == NULL || sscanf(rest, " - %31s %*s %1023s", type, options) != 2 ||
            sscanf(line, "%*s %*s %*s %2047s %2047s", root, mount) != 2)
            continue;
        if (group->second ? strcmp(type, "cgroup2") != 0
                          : strcmp(type, "cgroup") != 0 || strstr(options, "memory") == NULL)
            continue;
        /* In a container what is mounted may be our own group, and the path one of the host. */
        size_t hidden = strcmp(root, "/") == 0 ? 0 : strlen(root);
        const char *below = strncmp(path, root, hidden) == 0 ? path + hidden : "";
        snprintf(group->folder, sizeof group->folder, "%s%s", mount,
                 strcmp(below, "/") == 0 ? "" : below);
        group->outermost = strlen(mount);
        found = true;
    }
    free(line);
    fclose(f);
    return found;
}

static bool find_cgroup(struct cgroup *group) {
    char path[4096];
    return find_path(group, path) && find_folder(group, path);
}

/* What the cgroup in this folder still allows. */
static uint64_t left_in(const char *folder, bool second) {
    uint64_t limit = number_in(folder, second ? "memory.max" : "memory.limit_in_bytes", "");
    uint64_t used = number_in(folder, second ? "memory.current" : "memory.usage_in_bytes", "");
    if (limit == NO_NUMBER || used == NO_NUMBER)
        return NO_NUMBER;
    const char *lists[] = {"inactive_file ", "active_file ", "total_inactive_file ",
                           "total_active_file "};
    for (int i = second ? 0 : 2, end = i + 2; i < end; i++) {
        uint64_t cache = number_in(folder, "memory.stat", lists[i]);
        used -= cache == NO_NUMBER ? 0 : cache < used ? cache : used;
    }
    return limit > used ? limit - used : 0;
}

void rw_headroom(struct rw_headroom *room) {
    struct cgroup group;
    uint64_t kib = number_in("/proc", "meminfo", "MemAvailable:");
    room->bytes = kib == NO_NUMBER ? NO_NUMBER : kib << 10;
    room->cgroup[0] = '\0';
    if (!find_cgroup(&group))
        return;
    for (;;) {
        uint64_t left = left_in(group.folder, group.second);
        if (left < room->bytes) {
            room->bytes = left;
            snprintf(room->cgroup, sizeof room->cgroup, "%s", group.folder);
        }
        char *slash = strrchr(group.folder, '/');
        if (slash == NULL || (size_t)(slash - group.folder) < group.outermost)
            return;
        *slash = '\0';
    }
}

uint64_t rw_headroom_kills(void) {
    struct cgroup group;
    uint64_t kills = NO_NUMBER;
    if (find_cgroup(&group))
        kills = number_in(group.folder, group.second ? "memory.events" : "memory.oom_control",
                          "oom_kill ");
    if (kills == NO_NUMBER)
        kills = number_in("/proc", "vmstat", "oom_kill ");
    return kills == NO_NUMBER ? 0 : kills;
}
