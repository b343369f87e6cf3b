"""All functions of the API, by name."""

from vmwatch.panel.api import (
    auth,
    configure,
    event,
    eventlog,
    maintenance,
    periodic,
    policy,
    problems,
    problemsclose,
    report,
    vm,
    vmhostnode,
    vminstall,
    vmstat,
)
from vmwatch.panel.functions import Function

_MODULES = (
    auth,
    configure,
    event,
    eventlog,
    maintenance,
    periodic,
    policy,
    problems,
    problemsclose,
    report,
    vm,
    vmhostnode,
    vminstall,
    vmstat,
)

FUNCTIONS: dict[str, Function] = {function.name: function for module in _MODULES for function in module.FUNCTIONS}
