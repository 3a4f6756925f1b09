"""The commonest call of a segment: with one argument, which is made of the task's number."""

cimport cython
from libc.stdint cimport int64_t

from ringwalk._core.rows cimport RowMover

cdef extern from "Python.h":
    object PyObject_CallOneArg(object call, object argument)


@cython.final
cdef class Chain:
    """``Chain(func, element)(task)`` is ``func(element(task))``, without a Python frame for it."""

    def __init__(self, func, element):
        self.func = func
        self.element = element
        owner = getattr(element, "__self__", None)
        # Its one method, ``begin``, is called in C.
        self.mover = owner if type(owner) is RowMover else None

    def __call__(self, task):
        return self.run(task)

    cdef object run(self, int64_t task):
        argument = (PyObject_CallOneArg(self.element, task) if self.mover is None
                    else self.mover.moved(task))
        return PyObject_CallOneArg(self.func, argument)
