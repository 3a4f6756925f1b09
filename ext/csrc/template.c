#define _GNU_SOURCE
#include "template.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "process.h"
#include "status.h"

/* As in ringwalk.workers.messages: a byte and two numbers, packed; then text. */
enum { SPAWN = 1, QUIT = 2, SPAWNED = 3, EXITED = 4, REFUSED = 5 };
enum { HEAD = 17, TEXT = 128 };

enum { CONTROL, OWNER, FIRST }; /* places in what is polled; the worker of slot i is FIRST + i */
enum { QUIT_GRACE_MS = 1000 };  /* idle workers leave within microseconds; others are killed */

/* Another process may end, or give memory back, meanwhile; a limit that is reached for good is not
 * worth more than a moment. */
static const long PAUSES_NS[] = {10000000, 50000000, 200000000};

struct template {
    int workers;
    pid_t pid;
    pid_t *pids;           /* of slots, where polled has a descriptor */
    struct pollfd *polled; /* -1 for a vacant slot, which poll passes over */
};

static void kill_all(struct template *self) {
    for (int slot = 0; slot < self->workers; slot++)
        if (self->polled[FIRST + slot].fd >= 0)
            (void)kill(self->pids[slot], SIGKILL); /* not reaped yet, so the number is its own */
    for (int slot = 0; slot < self->workers; slot++)
        if (self->polled[FIRST + slot].fd >= 0)
            (void)waitpid(self->pids[slot], NULL, 0);
}

static _Noreturn void end(struct template *self, int code) {
    kill_all(self);
    _exit(code);
}

static void tell(struct template *self, uint8_t kind, int64_t slot, int64_t number, int fd,
                 const char *text) {
    char data[HEAD + TEXT];
    data[0] = (char)kind;
    memcpy(data + 1, &slot, sizeof slot);
    memcpy(data + 9, &number, sizeof number);
    size_t length = strnlen(text, TEXT);
    memcpy(data + HEAD, text, length);
    struct iovec part = {data, HEAD + length};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
    union {
        struct cmsghdr head;
        char room[CMSG_SPACE(sizeof(int))];
    } rights;
    if (fd >= 0) {
        memset(&rights, 0, sizeof rights);
        rights.head.cmsg_level = SOL_SOCKET;
        rights.head.cmsg_type = SCM_RIGHTS;
        rights.head.cmsg_len = CMSG_LEN(sizeof fd);
        memcpy(CMSG_DATA(&rights.head), &fd, sizeof fd);
        message.msg_control = &rights;
        message.msg_controllen = sizeof rights.room;
    }
    while (sendmsg(self->polled[CONTROL].fd, &message, MSG_NOSIGNAL) < 0) {
        if (errno == EINTR)
            continue;
        /* An owner that is gone is noticed, and answered to, by the loop. One that cannot be told
         * of a worker must not have it. */
        if (errno != EPIPE && errno != ECONNRESET)
            end(self, 1);
        return;
    }
}

static void refuse(struct template *self, int slot, const char *what, int error) {
    char text[TEXT];
    (void)snprintf(text, sizeof text, "%s failed: %s", what, strerror(error));
    tell(self, REFUSED, slot, 0, -1, text);
}

static pid_t fork_patiently(void) {
    for (size_t i = 0; i < sizeof PAUSES_NS / sizeof *PAUSES_NS; i++) {
        pid_t pid = fork();
        if (pid >= 0 || (errno != EAGAIN && errno != ENOMEM))
            return pid;
        struct timespec pause = {0, PAUSES_NS[i]};
        (void)nanosleep(&pause, NULL);
    }
    return fork();
}

static int bury(struct template *self, int slot, int *status) {
    if (waitpid(self->pids[slot], status, WNOHANG) != self->pids[slot])
        return 0;
    (void)close(self->polled[FIRST + slot].fd);
    self->polled[FIRST + slot].fd = -1;
    return 1;
}

static void reap(struct template *self, int slot) {
    int status;
    if (bury(self, slot, &status))
        tell(self, EXITED, slot, status, -1, "");
}

static void settle_in(struct template *self) {
    if (rw_process_die_with_parent(SIGKILL, self->pid) != RW_OK)
        _exit(1);
    for (int i = OWNER; i < FIRST + self->workers; i++)
        if (self->polled[i].fd >= 0)
            (void)close(self->polled[i].fd);
    free(self->pids);
    free(self->polled);
}

/* True in the worker. */
static int spawn(struct template *self, int slot) {
    pid_t pid = fork_patiently();
    if (pid == 0) {
        settle_in(self);
        return 1;
    }
    if (pid < 0) {
        refuse(self, slot, "fork", errno);
        return 0;
    }
    int fd = (int)syscall(SYS_pidfd_open, pid, 0);
    if (fd < 0) { /* what cannot be watched must not run */
        int error = errno;
        (void)kill(pid, SIGKILL);
        (void)waitpid(pid, NULL, 0);
        refuse(self, slot, "pidfd_open", error);
        return 0;
    }
    self->pids[slot] = pid;
    self->polled[FIRST + slot].fd = fd;
    tell(self, SPAWNED, slot, pid, fd, "");
    return 0;
}

static _Noreturn void quit(struct template *self) {
    struct pollfd *workers = self->polled + FIRST;
    for (;;) {
        int left = 0;
        for (int slot = 0; slot < self->workers; slot++)
            left += workers[slot].fd >= 0;
        if (left == 0 || poll(workers, (nfds_t)self->workers, QUIT_GRACE_MS) <= 0)
            end(self, 0);
        for (int slot = 0; slot < self->workers; slot++)
            if (workers[slot].revents != 0) {
                int status; /* nobody listens any more */
                (void)bury(self, slot, &status);
            }
    }
}

/* The slot to fork a worker for, or -1. */
static int obey(struct template *self) {
    char data[HEAD];
    ssize_t length = recv(self->polled[CONTROL].fd, data, sizeof data, 0);
    if (length < 0 && errno == EINTR)
        return -1;
    if (length < HEAD) /* the owner is ending */
        end(self, length == 0 ? 0 : 1);
    if (data[0] == QUIT)
        quit(self);
    int64_t slot;
    memcpy(&slot, data + 1, sizeof slot);
    if (data[0] != SPAWN || slot < 0 || slot >= self->workers)
        end(self, 1);
    if (self->polled[FIRST + slot].fd >= 0)
        reap(self, (int)slot); /* its owner saw the end first */
    return self->polled[FIRST + slot].fd >= 0 ? -1 : (int)slot;
}

static void prepare(void) {
    /* Handlers are functions of the interpreter, which does not run here. */
    sigset_t all;
    (void)sigfillset(&all);
    (void)sigdelset(&all, SIGTERM);
    (void)sigprocmask(SIG_SETMASK, &all, NULL);
    (void)signal(SIGTERM, SIG_DFL);
    (void)signal(SIGCHLD, SIG_DFL); /* where it is ignored nobody can be waited for */
    rw_process_resume_without_parent();
    rw_process_prefer_as_victim();
    rw_process_keep_freed_memory();
}

int rw_template_run(int control, pid_t owner, int workers) {
    prepare();
    struct template self = {workers, getpid(), NULL, NULL};
    self.pids = calloc((size_t)workers, sizeof *self.pids);
    self.polled = calloc((size_t)(FIRST + workers), sizeof *self.polled);
    int watched = (int)syscall(SYS_pidfd_open, owner, 0);
    if (self.pids == NULL || self.polled == NULL || watched < 0)
        _exit(1);
    for (int i = 0; i < FIRST + workers; i++)
        self.polled[i] = (struct pollfd){-1, POLLIN, 0};
    self.polled[CONTROL].fd = control;
    self.polled[OWNER].fd = watched;
    for (;;) {
        if (poll(self.polled, (nfds_t)(FIRST + workers), -1) < 0) {
            if (errno == EINTR)
                continue;
            end(&self, 1);
        }
        if (self.polled[OWNER].revents != 0)
            end(&self, 0);
        for (int slot = 0; slot < workers; slot++)
            if (self.polled[FIRST + slot].fd >= 0 && self.polled[FIRST + slot].revents != 0)
                reap(&self, slot);
        if (self.polled[CONTROL].revents != 0) {
            int slot = obey(&self);
            if (slot >= 0 && spawn(&self, slot))
                return slot;
        }
    }
}
