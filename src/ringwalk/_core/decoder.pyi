from typing import Any, final

NOT_PLAIN: object

@final
class Decoder:
    def whole(self, payload: bytes | memoryview) -> Any: ...
    def loads(self, payload: bytes | memoryview, start: int, buffers: list[Any]) -> Any: ...
