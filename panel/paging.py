"""Pages of lists: `p_num`, `p_cnt`."""

from dataclasses import dataclass

from vmwatch.panel.convention import Listing, Params

DEFAULT_SIZE = 50
MAX_SIZE = 1000
MAX_PAGE = 10**9


@dataclass(frozen=True)
class Page:
    """`number` from 1, None if the call names none; `size` in rows."""

    number: int | None
    size: int

    @classmethod
    def of(cls, params: Params) -> "Page":
        """Raises ApiError for numbers that are not allowed."""
        return cls(params.whole("p_num", 1, MAX_PAGE), params.whole("p_cnt", 1, MAX_SIZE) or DEFAULT_SIZE)

    def cut(self, rows: list[dict[str, str]]) -> Listing:
        """This page of a list that is in memory."""
        number = self.number or 1
        first = (number - 1) * self.size
        return Listing(rows[first : first + self.size], len(rows), number, self.size)
