cdef void leave_others_leashes() noexcept
