# numpy's large arrays in a heap.

from ringwalk._core.heap import Heap

SERVED_FROM: int
MOST_SERVED: int
MOST_ZEROED: int

def copies_at_fork() -> bool: ...
def serve_numpy(heaps: list[Heap], heap: Heap) -> None: ...
