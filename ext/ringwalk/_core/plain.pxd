cdef enum:
    DEEPEST = 64  # containers in containers
    READONLY = 1  # flags of an array
    FORTRAN = 2
