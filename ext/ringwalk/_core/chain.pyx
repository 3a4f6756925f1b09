"""The commonest call of a segment: with one argument, which is made of the task's number."""

cimport cython

cdef extern from "Python.h":
    object PyObject_CallOneArg(object call, object argument)


@cython.final
cdef class Chain:
    """``Chain(func, element)(task)`` is ``func(element(task))``, without a Python frame for it."""

    def __init__(self, func, element):
        self.func = func
        self.element = element

    def __call__(self, task):
        return self.run(task)

    cdef object run(self, task):
        return PyObject_CallOneArg(self.func, PyObject_CallOneArg(self.element, task))
