"""What a `with` block starts, and ends whatever happens."""

from types import TracebackType
from typing import Self


class WithBlock:
    """`begin` and `close` are the subclass's. A start that fails is closed as well: it may have opened half of it."""

    def begin(self) -> None:
        raise NotImplementedError

    def close(self) -> None:
        """Must do after any part of `begin`, and twice."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        try:
            self.begin()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
