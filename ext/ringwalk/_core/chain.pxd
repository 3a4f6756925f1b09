cdef class Chain:
    cdef object func
    cdef object element
    cdef object run(self, task)
