"""For proFit's ``include:``: ringwalk in the place of ``fork``, ``local`` and ``memmap``."""

from ringwalk.adapters.profit import replace

replace()
