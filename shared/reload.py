"""SIGHUP: a service's NAME=VALUE file again, while the service runs (design 04, *Commands*)."""

import logging
from collections.abc import Callable, Collection
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Generic, TypeVar

from vmwatch.shared.conffile import Loaded
from vmwatch.shared.errors import ConfigurationError
from vmwatch.shared.program import ServiceSettings

log = logging.getLogger(__name__)

_S = TypeVar("_S", bound=ServiceSettings)


@dataclass(frozen=True)
class Reload(Generic[_S]):
    """Where the settings came from. `changeable`: names of those that can change while the service runs."""

    path: Path
    load: Callable[[Path], Loaded[_S]]
    changeable: Collection[str]

    def again(self, current: _S) -> _S | None:
        """What applies from now on: `current` with what has changed and can change; None if the file is wrong.

        Then nothing changes at all. The log says which of it happened, and names what waits for the next start;
        no value is logged, since some are secrets.
        """
        try:
            loaded = self.load(self.path)
        except (ConfigurationError, OSError) as error:
            log.error("the configuration is wrong and changes nothing: %s", error)
            return None
        for warning in loaded.warnings + [f"{self.path}: {text}" for text in loaded.settings.warnings()]:
            log.warning("%s", warning)
        changes: dict[str, Any] = {}
        differing = [name for name in _names(current) if getattr(loaded.settings, name) != getattr(current, name)]
        for name in differing:
            if name in self.changeable:
                changes[name] = getattr(loaded.settings, name)
                log.info("%s has changed", name)
            else:
                log.warning("%s has changed; it takes effect at the next start", name)
        log.info("%s was read again; %d settings change", self.path, len(changes))
        applied: _S = replace(current, **changes)  # type: ignore[type-var]
        return applied


def _names(settings: Any) -> list[str]:  # noqa: ANN401 - a dataclass, which has no type of its own
    return [field.name for field in fields(settings)]
