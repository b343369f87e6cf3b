"""Where files live below the prefix (design 04, *Files*)."""

import os
from dataclasses import dataclass
from pathlib import Path

DEFAULT_PREFIX = "/usr/local/mgr5"
PREFIX_VARIABLE = "VMWATCH_PREFIX"


@dataclass(frozen=True)
class Paths:
    """The files of one program, such as `vmwatch-node`, below one prefix."""

    prefix: Path
    program: str

    @classmethod
    def of(cls, program: str, prefix: str | None = None) -> "Paths":
        """`prefix`, or VMWATCH_PREFIX, or /usr/local/mgr5."""
        return cls(Path(prefix or os.environ.get(PREFIX_VARIABLE) or DEFAULT_PREFIX).absolute(), program)

    @property
    def etc(self) -> Path:
        return self.prefix / "etc"

    @property
    def var(self) -> Path:
        return self.prefix / "var"

    @property
    def run(self) -> Path:
        return self.var / "run"

    @property
    def config(self) -> Path:
        return self.etc / f"{self.program}.conf"

    @property
    def log(self) -> Path:
        return self.var / f"{self.program}.log"

    @property
    def pid(self) -> Path:
        return self.run / f"{self.program}.pid"

    @property
    def socket(self) -> Path:
        return self.run / f"{self.program}.sock"

    @property
    def ping(self) -> Path:
        """Who connects there has a canary sent (`vmwatch-node`)."""
        return self.run / f"{self.program}.ping"

    @property
    def maintenance(self) -> Path:
        return self.run / f"{self.program}.maintenance"

    @property
    def database(self) -> Path:
        return self.var / f"{self.program}.db"

    @property
    def dead_letters(self) -> Path:
        return self.var / f"{self.program}.dead"

    @property
    def returned_letters(self) -> Path:
        """Dead letters that a person sends again, until they are settled."""
        return self.var / f"{self.program}.returned"

    @property
    def discarded_letters(self) -> Path:
        """What a person discarded of the dead letters: when, who and what."""
        return self.var / f"{self.program}.discarded"
