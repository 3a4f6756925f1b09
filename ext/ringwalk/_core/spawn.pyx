"""Programs started without a copy of this process. See csrc/spawn.h."""

cimport cython
from cpython.ref cimport Py_INCREF
from libc.errno cimport errno
from libc.stdint cimport uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport strcmp, strcpy, strlen
from posix.resource cimport rusage
from posix.unistd cimport close as c_close

import os

from ringwalk._core.status cimport RW_OK

cdef extern from "<unistd.h>" nogil:
    char **c_environ "environ"

cdef extern from "spawn.h" nogil:
    enum:
        RW_SPAWN_STREAMS
        RW_SPAWN_FOLDER
        RW_SPAWN_STREAM
        RW_SPAWN_EXEC
    struct rw_spawn:
        char **paths
        char **argv
        char **envp
        const char *folder
        const char *files[3]
        int fds[3]
        uint64_t handled
        int error
        int step
    uint64_t rw_spawn_handled()
    int rw_spawn_start(rw_spawn *spawn, bint wait, int *pid, int *pidfd)
    bint rw_spawn_left(const rw_spawn *spawn)
    int rw_spawn_reap(int pid, int *status, rusage *used)


cdef char *text(bytes string) except NULL:
    if b"\0" in string:
        raise ValueError(f"{string!r} has a NUL character in it, which no program can be given")
    return string


def snapshot(list known=None):
    """This process's environment as it is now, ``NAME=value`` each: ``known``, if it is that."""
    cdef Py_ssize_t count = 0
    if known is not None and is_environment(known):
        return known
    entries = []
    while c_environ != NULL and c_environ[count] != NULL:
        entries.append(<bytes>c_environ[count])
        count += 1
    return entries


cdef bint is_environment(list entries) except -1:
    cdef Py_ssize_t count = 0
    if c_environ == NULL:
        return not entries
    for entry in entries:
        if c_environ[count] == NULL or strcmp(c_environ[count], <bytes>entry) != 0:
            return False
        count += 1
    return c_environ[count] == NULL


def handled_signals():
    """What a ``Child`` has to reset, for one who starts many and whose handlers do not change."""
    return rw_spawn_handled()


def reap(int pid):
    """The wait status of a child that has ended, and what it used: user and system seconds, KiB.

    What is left of its process group is killed. Raises ChildProcessError if there is no such child.
    """
    cdef int status
    cdef rusage used
    if rw_spawn_reap(pid, &status, &used) != RW_OK:
        raise OSError(errno, os.strerror(errno))
    user = used.ru_utime.tv_sec + used.ru_utime.tv_usec * 1e-6
    system = used.ru_stime.tv_sec + used.ru_stime.tv_usec * 1e-6
    return status, (user, system, used.ru_maxrss)


cdef bint same_name(const char *one, const char *other) noexcept:
    """Whether two strings ``NAME=value`` are of one variable."""
    while one[0] == other[0] and one[0] != 61 and one[0] != 0:
        one += 1
        other += 1
    return one[0] == other[0] == 61  # '='


@cython.final
cdef class Strings:
    """Byte strings as the kernel takes them: arguments, an environment. Prepared once."""

    cdef tuple kept
    cdef Py_ssize_t count
    cdef char **array

    def __cinit__(self, strings):
        self.kept = tuple(strings)
        self.count = len(self.kept)
        self.array = <char **>malloc((self.count + 1) * sizeof(char *))
        if self.array == NULL:
            raise MemoryError()
        for i in range(self.count):
            self.array[i] = text(self.kept[i])
        self.array[self.count] = NULL

    def __dealloc__(self):
        free(self.array)


@cython.final
cdef class Child:
    """A started program. ``fileno`` is a pidfd, readable when it has ended; somebody must reap it.

    Args:
        paths: tried in turn.
        environment: ``NAME=value`` each; None for what this process has now.
        extra: variables on top, in the same form.
        folder: to run in, or None for this process's.
        streams: for standard input, output and error a descriptor, a path to write to, or None
            for what is there.
        wait: raise what goes wrong here; else ``failure`` tells once it has ended, and the program
            is killed when the calling thread ends.
        handled: from ``handled_signals``; None: as it is now.

    Raises:
        OSError: it could not be started; nothing was.
        ValueError: a string has a NUL character in it.
    """

    cdef readonly int pid
    cdef int fd
    cdef bint begun
    cdef rw_spawn *launch
    cdef tuple kept

    def __cinit__(self, Strings paths not None, Strings argv not None, Strings environment,
                  list extra not None, bytes folder, tuple streams not None, bint wait,
                  handled=None):
        cdef int status, number
        self.fd = -1
        self.kept = (paths, argv, environment, tuple(extra), folder, streams)
        cdef char **envp = self.allocate(environment, self.kept[3])
        self.launch.paths = paths.array
        self.launch.argv = argv.array
        self.launch.envp = envp
        self.launch.folder = NULL if folder is None else text(folder)
        for i in range(RW_SPAWN_STREAMS):
            stream = streams[i]
            self.launch.files[i] = text(stream) if isinstance(stream, bytes) else NULL
            self.launch.fds[i] = stream if isinstance(stream, int) else -1
        self.launch.handled = rw_spawn_handled() if handled is None else handled
        with nogil:
            status = rw_spawn_start(self.launch, wait, &self.pid, &self.fd)
            number = errno
        if status != RW_OK:
            self.fd = -1
            raise self.describe(number)
        self.begun = True

    cdef char **allocate(self, Strings environment, tuple extra) except NULL:
        """Make room for the launch and its environment behind it, since both live as long.

        Of this process's environment the strings are copied: they may change meanwhile.
        """
        cdef char **base = c_environ if environment is None else environment.array
        cdef Py_ssize_t i, count = 0, used = 0, size = 0
        while base != NULL and base[count] != NULL:
            if environment is None:
                size += strlen(base[count]) + 1
            count += 1
        cdef Py_ssize_t entries = count + len(extra) + 1
        self.launch = <rw_spawn *>malloc(sizeof(rw_spawn) + entries * sizeof(char *) + size)
        if self.launch == NULL:
            raise MemoryError()
        cdef char **envp = <char **>(self.launch + 1)
        cdef char *room = <char *>(envp + entries)
        cdef char *entry
        for i in range(count):
            for own in extra:
                if same_name(base[i], own):
                    break
            else:
                entry = base[i]
                if environment is None:
                    entry = strcpy(room, entry)
                    room += strlen(room) + 1
                envp[used] = entry
                used += 1
        for own in extra:
            envp[used] = text(own)
            used += 1
        envp[used] = NULL
        return envp

    def __dealloc__(self):
        self.close()
        if not self.begun or rw_spawn_left(self.launch):
            free(self.launch)
        else:
            # It stands before its program, for its file system perhaps. To give up some memory
            # is better than to wait for it, or to take from it what it uses.
            Py_INCREF(self.kept)

    cdef object describe(self, int number):
        named = None
        if self.launch.step == RW_SPAWN_FOLDER:
            named = self.kept[4]
        elif self.launch.step == RW_SPAWN_EXEC:
            named = (<Strings>self.kept[1]).kept[0]
        elif self.launch.step != 0:
            named = self.kept[5][self.launch.step - RW_SPAWN_STREAM]
        if isinstance(named, bytes):
            return OSError(number, os.strerror(number), os.fsdecode(named))
        return OSError(number, os.strerror(number))

    def fileno(self):
        return self.fd

    def failure(self):
        """Why the program was not begun; None if it was, or as long as nothing is known."""
        if self.launch.error == 0 or not rw_spawn_left(self.launch):
            return None
        return self.describe(self.launch.error)

    cpdef close(self):
        """Close the pidfd. Idempotent."""
        if self.fd >= 0:
            c_close(self.fd)
            self.fd = -1
