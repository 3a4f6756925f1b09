"""Fork, adoption, parent-death signal, hardening. See csrc/process.h and csrc/template.h."""

cimport cython
from cpython.exc cimport PyErr_CheckSignals
from cpython.pythread cimport PyThread_get_thread_ident

# Beneath the signal module, whose functions look each number up in an enum: in a fresh fork that
# costs 40 page faults, 0.2 ms.
import _signal
import os
import signal
import sys
import threading
from time import monotonic

from libc.errno cimport errno
from libc.string cimport memset
from posix.time cimport CLOCK_MONOTONIC, clock_gettime, nanosleep, timespec
from posix.unistd cimport fork as c_fork
from posix.unistd cimport getpid

from ringwalk._core.leash cimport leave_others_leashes
from ringwalk._core.status cimport RW_STALE, check

from ringwalk.errors import WorkerInitError

cdef extern from "Python.h":
    void PyOS_BeforeFork()
    void PyOS_AfterFork_Parent()
    void PyOS_AfterFork_Child()
    ctypedef struct PyInterpreterState:
        pass
    ctypedef struct PyThreadState:
        unsigned long native_thread_id
    PyInterpreterState *PyInterpreterState_Get()
    PyInterpreterState *PyInterpreterState_Main()
    PyThreadState *PyInterpreterState_ThreadHead(PyInterpreterState *)
    PyThreadState *PyThreadState_Next(PyThreadState *)
    PyThreadState *PyThreadState_Get()

ctypedef void (*handler_t)(int) noexcept nogil

cdef extern from "<signal.h>" nogil:
    ctypedef struct c_sigaction "struct sigaction":
        handler_t sa_handler
    enum:
        SIGALRM
        SIGCHLD
        SIGHUP
        SIGINT
        SIGTERM
    handler_t SIG_DFL
    handler_t SIG_IGN
    int sigaction(int number, const c_sigaction *new, c_sigaction *old)
    int c_raise "raise"(int number)

cdef extern from "process.h" nogil:
    int rw_process_die_with_parent(int signum, int expected_parent)
    void rw_process_resume_without_parent()
    bint rw_process_thread_runs(int tid)
    bint rw_process_others_rest()
    int rw_process_harden()
    bint rw_process_is_elevated()
    int rw_process_adopt_orphans()
    unsigned long long rw_process_libraries_loaded()
    void rw_process_prefer_as_victim()
    void rw_process_keep_freed_memory()

cdef extern from "template.h":
    int rw_template_run(int control, int owner, int workers)

# How long a fork waits for other threads to leave what they compute outside Python, every thread
# of Python standing still, or what the guard is over; and how often it looks.
cdef int PATIENCE_MS = 1000
cdef long LOOK_NS = 1_000_000


# Of a block of Undisturbed; main thread only.
cdef bint inside = False  # the main thread is in one
cdef int came = 0  # signals that came in it, as bits
cdef long came_at = 0  # seconds, when the first of them did
cdef handler_t handle = NULL  # what the interpreter has for those that are held back

# A block that holds a signal back for longer waits for something that nobody foresaw, a lock in
# somebody's fork hook say. The user who presses Ctrl-C once more gets through.
cdef long HELD_BACK_S = 5
cdef unsigned long main_thread = threading.main_thread().ident


def _forked():
    """In the child. A block that it was forked in ends in the parent, not here."""
    global came, inside, main_thread
    came, inside = 0, False
    if threading is not None:  # else this module was cleared already
        main_thread = threading.main_thread().ident


os.register_at_fork(after_in_child=_forked)


cdef int running_thread() noexcept:
    """A thread of Python other than this one that runs although this one has the GIL; 0: none."""
    cdef PyThreadState *own = PyThreadState_Get()
    cdef PyThreadState *other = PyInterpreterState_ThreadHead(PyInterpreterState_Get())
    while other != NULL:
        if other != own and rw_process_thread_runs(<int>other.native_thread_id):
            return <int>other.native_thread_id
        other = PyThreadState_Next(other)
    return 0


cdef bint alone() noexcept:
    """Whether Python knows no other thread than this one."""
    cdef PyThreadState *first = PyInterpreterState_ThreadHead(PyInterpreterState_Get())
    return first == PyThreadState_Get() and PyThreadState_Next(first) == NULL


cdef void rest() noexcept nogil:
    cdef timespec pause
    pause.tv_sec = 0
    pause.tv_nsec = LOOK_NS
    nanosleep(&pause, NULL)


cdef int wait_for_others() noexcept:
    """Keep the GIL until every other thread of Python waits for it, or for something else.

    None is in the middle of a BLAS call or an allocation then. A fork would take away OpenBLAS's
    threads beneath such a call, which then waits for ever; its child would find locks taken. A
    thread may also sleep in such a call while the library's own threads compute, or be held up
    there by the kernel, so these are waited for as well; but a library whose threads never rest,
    or a thread that the disk keeps waiting, is no reason to refuse.
    Returns the thread that would not leave, or 0.
    """
    cdef int _look, thread = 0, quiet = 0
    if alone():
        return 0
    for _look in range(PATIENCE_MS):
        thread = running_thread()
        if thread == 0 and rw_process_others_rest():
            # Twice: what the last to leave woke up had been seen asleep before, the first time.
            quiet += 1
            if quiet == 2:
                return 0
        else:
            quiet = 0
            rest()
    return thread


def fork(guard=None):
    """Fork this process; 0 in the child, the child's pid in the parent. Raises OSError.

    Runs the interpreter's own fork hooks, like ``os.fork``. It does not warn about other
    threads, as CPython 3.12+ does by their number: it waits until none of those that Python
    knows computes. The guard is held meanwhile, see ``begin_fork``; it stays so in the child.
    Raises WorkerInitError when one of them cannot be had within a second.
    """
    begin_fork(guard)
    cdef int pid = c_fork()
    if pid == 0:
        PyOS_AfterFork_Child()
        return 0
    return end_fork(pid, guard)


def fork_template(int control, int workers, guard=None):
    """Fork a template, which forks workers; see csrc/template.h. Raises as ``fork`` does.

    Returns (its pid, -1) here, and (0, slot) in each worker.
    """
    cdef int slot, owner = getpid()
    begin_fork(guard)
    cdef int pid = c_fork()
    if pid == 0:
        leave_others_leashes()  # a template runs no hooks
        slot = rw_template_run(control, owner, workers)
        PyOS_AfterFork_Child()
        return 0, slot
    return end_fork(pid, guard), -1


def become_template(int control, int owner, int workers):
    """Turn this process into a template for good. Returns in each worker: its slot."""
    begin_fork(None)
    cdef int slot = rw_template_run(control, owner, workers)
    PyOS_AfterFork_Child()
    return slot


cdef int begin_fork(guard) except -1:
    """What must come before a fork. No Python code may run between the two.

    The guard is a lock over what no other thread may be in the middle of. It comes after the
    hooks, which wait for locks of all kinds as long as it takes: whoever holds one of those may
    want what the guard holds. And while the hooks' locks are held, it may only try.
    """
    if sys is None or sys.is_finalizing():  # None: this module was cleared already
        raise RuntimeError("the interpreter is shutting down: no process can be forked now")
    PyOS_BeforeFork()
    cdef double deadline = monotonic() + PATIENCE_MS / 1000
    while not guarded(guard):
        if monotonic() > deadline:
            raise WorkerInitError(
                f"another thread has been inside {guard} for {PATIENCE_MS / 1000:g} s: a fork now "
                "could leave the new process hanging there. Map when it is done, or use "
                "WorkerMapper(start_method='spawn')"
            )
        with nogil:
            rest()  # who is inside may want what the hooks held
        PyOS_BeforeFork()
    # No Python code between here and the fork: it could let another thread have the GIL.
    cdef int busy = wait_for_others()
    if busy != 0:
        end_fork(0, guard)
        raise WorkerInitError(
            f"thread {busy} of this process has been computing outside Python for "
            f"{PATIENCE_MS / 1000:g} s, in a BLAS call perhaps: a fork now could hang it and the "
            "new process. Map when it is done, make a WorkerMapper before it starts, or use "
            "WorkerMapper(start_method='spawn')"
        )
    return 0


cdef bint guarded(guard) except -1:
    """Whether the guard could be had; if not, all that the hooks hold is let go as well."""
    cdef bint held = False
    try:
        held = guard is None or guard.acquire()
    finally:
        if not held:
            PyOS_AfterFork_Parent()
    return held


cdef int end_fork(int pid, guard) except -1:
    """What must come after a fork, in the parent."""
    # errno must be read before anything runs Python code.
    cdef int saved = errno
    try:
        if guard is not None:
            guard.release()
    finally:
        PyOS_AfterFork_Parent()
    if pid < 0:
        raise OSError(saved, f"fork failed: {os.strerror(saved)}")
    return pid


def die_with_parent(int expected_parent, int signum=signal.SIGKILL):
    """Be killed when the thread that forked this process ends. False: it is gone already."""
    cdef int status = rw_process_die_with_parent(signum, expected_parent)
    if status == RW_STALE:
        return False
    check(status)
    return True


def resume_without_parent():
    """Be resumed, if stopped, when the thread that started this process ends; see process.h."""
    rw_process_resume_without_parent()


def libraries_loaded():
    """Objects loaded since the process began, those unloaded again included."""
    return rw_process_libraries_loaded()


def reset_signals():
    """Leave Ctrl-C to the parent, take SIGTERM as any program does, drop inherited handlers."""
    _signal.set_wakeup_fd(-1)
    _signal.signal(SIGINT, _signal.SIG_IGN)
    for number in (SIGTERM, SIGHUP, SIGALRM, SIGCHLD):
        _signal.signal(number, _signal.SIG_DFL)
    _signal.setitimer(_signal.ITIMER_REAL, 0)
    _signal.pthread_sigmask(_signal.SIG_SETMASK, ())


def prefer_as_victim():
    """Have the kernel kill this process, not its parent, when memory runs out."""
    rw_process_prefer_as_victim()


def keep_freed_memory():
    """Have malloc keep what a segment frees for the next one, up to 512 MiB a process.

    A walker's array of megabytes would else come on fresh pages every time, and a page fault costs
    as much as copying the page three times (half of a copied 10 MB argument's time).
    """
    rw_process_keep_freed_memory()


def harden():
    """Shut out the user's other processes, for good, from this one and those it forks.

    They can no longer open its memory or descriptors; core dumps and debuggers are out with them.
    """
    check(rw_process_harden())


def is_elevated():
    """Whether this program runs with rights that its caller has not (set-user-ID, capabilities)."""
    return rw_process_is_elevated()


def in_main_interpreter():
    """Whether this is its process's main interpreter: no other may go on after a fork."""
    return PyInterpreterState_Get() == PyInterpreterState_Main()


def adopt_orphans():
    """Become the parent of descendants whose own parent ends. The caller has to reap them."""
    check(rw_process_adopt_orphans())


cdef void note_signal(int number) noexcept nogil:
    global came, came_at
    cdef timespec now
    clock_gettime(CLOCK_MONOTONIC, &now)
    if came == 0:
        came_at = now.tv_sec
    elif now.tv_sec - came_at > HELD_BACK_S:
        handle(number)
    came |= 1 << number


@cython.final
cdef class Undisturbed:
    """A block that Ctrl-C and SIGTERM come before or after, not in, unless it takes long.

    Not by a signal mask: another thread, say of BLAS, would take the signal, and Python would
    raise in the main thread all the same. The handlers are exchanged, in C: two system calls for
    each that is set, one for each that is not. Other threads run no Python handlers, so the block
    does nothing there, nor within another one.
    """

    cdef c_sigaction before_int
    cdef c_sigaction before_term
    cdef bint outermost
    cdef bint had_int
    cdef bint had_term

    def __enter__(self):
        global inside
        self.outermost = not inside and PyThread_get_thread_ident() == main_thread
        if not self.outermost:
            return
        inside = True
        self.had_int = exchange(SIGINT, &self.before_int)
        self.had_term = exchange(SIGTERM, &self.before_term)
        try:
            PyErr_CheckSignals()  # what came before the block
        except BaseException:
            self.restore()
            raise

    def __exit__(self, *exception):
        if self.outermost:
            self.restore()
        return False

    cdef void restore(self) noexcept:
        global came, inside
        inside = False
        if self.had_int:
            sigaction(SIGINT, &self.before_int, NULL)
        if self.had_term:
            sigaction(SIGTERM, &self.before_term, NULL)
        cdef int late = came
        came = 0
        if late & 1 << SIGTERM:
            c_raise(SIGTERM)
        if late & 1 << SIGINT:
            c_raise(SIGINT)


cdef bint exchange(int number, c_sigaction *before) noexcept:
    """Have a signal noted only. False: it is ignored or ends the process at once, and still is."""
    global handle
    cdef c_sigaction ours
    sigaction(number, NULL, before)
    if before.sa_handler == SIG_DFL or before.sa_handler == SIG_IGN:
        return False
    handle = before.sa_handler
    memset(&ours, 0, sizeof(ours))
    ours.sa_handler = note_signal
    sigaction(number, &ours, NULL)
    return True
