"""Where files live below the prefix (design 04, *Files*)."""

import os
from dataclasses import dataclass
from pathlib import Path

from vmwatch.shared import hostfile
from vmwatch.shared.hostfile import DEFAULT_PREFIX as DEFAULT_PREFIX

PREFIX_VARIABLE = "VMWATCH_PREFIX"
STANDARD = Path("/")
"""As a prefix: not `/etc` and `/var` themselves, but the folders that the system's conventions give a program."""
STANDARD_ETC, STANDARD_VAR = Path("/etc/vmwatch"), Path("/var/lib/vmwatch")


@dataclass(frozen=True)
class Paths:
    """The files of one program, such as `vmwatch-node`, below one prefix."""

    prefix: Path
    program: str

    @classmethod
    def of(cls, program: str, prefix: str | None = None) -> "Paths":
        """`prefix`, or VMWATCH_PREFIX, or what the machine's file says, or /usr/local/mgr5.

        Raises ConfigurationError where the machine's file (`shared.hostfile`) is wrong.
        """
        chosen = prefix or os.environ.get(PREFIX_VARIABLE) or hostfile.load().prefix
        return cls(Path(chosen).absolute(), program)

    @property
    def etc(self) -> Path:
        return STANDARD_ETC if self.prefix == STANDARD else self.prefix / "etc"

    @property
    def var(self) -> Path:
        return STANDARD_VAR if self.prefix == STANDARD else self.prefix / "var"

    @property
    def conf_d(self) -> Path:
        """supervisord's program files."""
        return self.etc / "conf.d" if self.prefix == STANDARD else self.prefix / "conf.d"

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
