"""An inquiry: nodes are asked to list, and all of them must have answered. A core without I/O."""

from collections.abc import Iterable

from vmwatch.panel.knowledge import Draft


class Inquiry:
    """Asks each node once, and again where the wish was lost before its answer came (its transaction failed)."""

    def __init__(self) -> None:
        self._asked: dict[str, int] = {}
        """By node, the token's number."""

    def is_answered(self, draft: Draft, names: Iterable[str]) -> bool:
        """Ask these nodes, unless that was done; whether all have listed since, and their word counts.

        One that never gave a sign of life speaks another protocol, and is not waited for.
        """
        answered = True
        for name in names:
            node = draft.node(name)
            if node is None or not node.seen:
                continue
            asked = self._asked.get(name)
            if asked is None or (node.answered < asked and not node.wanted):
                asked = self._asked[name] = draft.want_inventory(name)
            answered = answered and not node.doubted and node.answered >= asked
        return answered
