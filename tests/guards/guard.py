"""What a guard is: a few words of a core that keep the panel's picture right, and what becomes of them without it."""

from dataclasses import dataclass


class GuardError(ValueError):
    """The table does not fit the code any more; the text says where."""


@dataclass(frozen=True, slots=True)
class Guard:
    """`text` of `file` and its `replacement`, which takes the guard away.

    `keeps`: what it guards, after the number of the rule of design 03 (*Rules for the state of VMs*), or of the
    section that it is from.
    """

    name: str
    file: str
    text: str
    replacement: str
    keeps: str

    def removed_from(self, source: str) -> str:
        """The file without the guard. Raises GuardError unless its text is there exactly once."""
        found = source.count(self.text)
        if found != 1:
            raise GuardError(f"guard {self.name}: its text is {found} times in {self.file}, not once: {self.text!r}")
        return source.replace(self.text, self.replacement)
