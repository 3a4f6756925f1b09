/* Injector: makes the k-th call of one function fail, in a chosen part of a process tree.
 *
 * A library for LD_PRELOAD. A program arms it by inject_arm; from then on the calls of that one
 * function are counted over all processes that were forked since, and call number `first` (with
 * `lasting`, all from there on) fails with `error` before the kernel sees it. The count and the
 * verdict live in a shared page, so a forked process goes on with them.
 *
 * Interposed is what Ringwalk's own code and the parts of the interpreter and of libc that it uses
 * call to get memory, mappings, descriptors and processes. malloc fails only for Ringwalk's
 * extensions: an interpreter without memory is not what is under test here.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

enum where { PARENT, DESCENDANTS };

struct order {
    char function[32];
    int error, lasting, where;
    long first;
    pid_t parent;
    atomic_long calls, failed;
};

static struct order *order;

static void *next(const char *name) {
    return dlsym(RTLD_NEXT, name);
}

int inject_arm(const char *function, int error, long first, int lasting, int where) {
    if (order == NULL) {
        void *page =
            mmap(NULL, sizeof *order, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        if (page == MAP_FAILED)
            return -1;
        order = page;
    }
    memset(order, 0, sizeof *order);
    order->error = error;
    order->lasting = lasting;
    order->where = where;
    order->first = first;
    order->parent = getpid();
    snprintf(order->function, sizeof order->function, "%s", function);
    return 0;
}

/* Ends the injection; how many calls failed. */
long inject_disarm(void) {
    order->function[0] = '\0';
    return atomic_load(&order->failed);
}

/* True, with errno set, if this call is to fail. */
static int fails(const char *function) {
    if (order == NULL || strcmp(order->function, function) != 0)
        return 0;
    if ((getpid() == order->parent) != (order->where == PARENT))
        return 0;
    long call = atomic_fetch_add(&order->calls, 1);
    if (call < order->first || (call > order->first && !order->lasting))
        return 0;
    atomic_fetch_add(&order->failed, 1);
    errno = order->error;
    return 1;
}

#define FAILING(result, name, parameters, arguments)                                               \
    result name parameters {                                                                       \
        if (fails(#name))                                                                          \
            return (result) - 1;                                                                   \
        return ((result(*) parameters)next(#name))arguments;                                       \
    }

/* Two names of one function: with 32-bit and with 64-bit offsets, which are the same here. */
#define FAILING_TWICE(result, name, parameters, arguments)                                         \
    FAILING(result, name, parameters, arguments)                                                   \
    result name##64 parameters {                                                                   \
        return name arguments;                                                                     \
    }

FAILING_TWICE(void *, mmap, (void *at, size_t n, int prot, int flags, int fd, off_t offset),
              (at, n, prot, flags, fd, offset))
FAILING_TWICE(int, fallocate, (int fd, int mode, off_t at, off_t n), (fd, mode, at, n))
FAILING_TWICE(int, ftruncate, (int fd, off_t n), (fd, n))
FAILING(int, memfd_create, (const char *name, unsigned flags), (name, flags))
FAILING(int, fchmod, (int fd, mode_t mode), (fd, mode))
FAILING(int, eventfd, (unsigned count, int flags), (count, flags))
FAILING(int, pipe2, (int ends[2], int flags), (ends, flags))
FAILING(int, socketpair, (int family, int type, int protocol, int ends[2]),
        (family, type, protocol, ends))
FAILING(pid_t, fork, (void), ())
FAILING(ssize_t, sendmsg, (int fd, const struct msghdr *message, int flags), (fd, message, flags))
FAILING(int, poll, (struct pollfd * fds, nfds_t n, int timeout), (fds, n, timeout))
FAILING(int, shm_open, (const char *name, int flags, mode_t mode), (name, flags, mode))
FAILING(int, link, (const char *from, const char *to), (from, to))

int posix_fallocate(int fd, off_t at, off_t n) { /* answers the error instead of setting it */
    if (fails("posix_fallocate"))
        return errno;
    return ((int (*)(int, off_t, off_t))next("posix_fallocate"))(fd, at, n);
}

int posix_fallocate64(int fd, off_t at, off_t n) {
    return posix_fallocate(fd, at, n);
}

/* With EMFILE as the kernel does it: the message arrives, its descriptors do not. */
ssize_t recvmsg(int fd, struct msghdr *message, int flags) {
    ssize_t (*real)(int, struct msghdr *, int) = next("recvmsg");
    if (!fails("recvmsg"))
        return real(fd, message, flags);
    if (errno != EMFILE)
        return -1;
    ssize_t n = real(fd, message, flags);
    for (struct cmsghdr *c = CMSG_FIRSTHDR(message); n >= 0 && c; c = CMSG_NXTHDR(message, c)) {
        int received;
        memcpy(&received, CMSG_DATA(c), sizeof received);
        close(received);
        message->msg_flags |= MSG_CTRUNC;
    }
    message->msg_controllen = 0;
    return n;
}

int open(const char *path, int flags, ...) {
    va_list rest;
    va_start(rest, flags);
    mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(rest, mode_t) : 0;
    va_end(rest);
    if (fails("open"))
        return -1;
    return ((int (*)(const char *, int, ...))next("open"))(path, flags, mode);
}

int open64(const char *path, int flags, ...) {
    va_list rest;
    va_start(rest, flags);
    mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(rest, mode_t) : 0;
    va_end(rest);
    return open(path, flags, mode);
}

FILE *fopen(const char *path, const char *mode) {
    if (fails("open"))
        return NULL;
    return ((FILE * (*)(const char *, const char *)) next("fopen"))(path, mode);
}

/* Only what makes something: a duplicate, a seal. */
int fcntl(int fd, int command, ...) {
    va_list rest;
    va_start(rest, command);
    void *argument = va_arg(rest, void *);
    va_end(rest);
    if (command == F_DUPFD_CLOEXEC && fails("dup"))
        return -1;
    if (command == F_ADD_SEALS && fails("seal"))
        return -1;
    return ((int (*)(int, int, ...))next("fcntl"))(fd, command, argument);
}

int fcntl64(int fd, int command, ...) {
    va_list rest;
    va_start(rest, command);
    void *argument = va_arg(rest, void *);
    va_end(rest);
    return fcntl(fd, command, argument);
}

long syscall(long number, ...) {
    va_list rest;
    va_start(rest, number);
    long a = va_arg(rest, long), b = va_arg(rest, long), c = va_arg(rest, long);
    long d = va_arg(rest, long), e = va_arg(rest, long), f = va_arg(rest, long);
    va_end(rest);
    if (number == SYS_pidfd_open && fails("pidfd_open"))
        return -1;
    return ((long (*)(long, ...))next("syscall"))(number, a, b, c, d, e, f);
}

extern void *__libc_malloc(size_t n);

void *malloc(size_t n) {
    Dl_info caller;
    if (order == NULL || strcmp(order->function, "malloc") != 0 ||
        !dladdr(__builtin_return_address(0), &caller) ||
        strstr(caller.dli_fname, "ringwalk/_core") == NULL || !fails("malloc"))
        return __libc_malloc(n);
    return NULL;
}
