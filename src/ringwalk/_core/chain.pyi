from collections.abc import Callable
from typing import Any, final

@final
class Chain:
    def __init__(self, func: Callable[[Any], Any], element: Callable[[int], Any]) -> None: ...
    def __call__(self, task: int) -> Any: ...
