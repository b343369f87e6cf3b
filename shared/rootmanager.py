"""The service manager as root may trust it, where the services' users can write files that say which it is."""

import os

from vmwatch.shared.paths import Paths
from vmwatch.shared.services import ServiceError, ServiceManager, find_manager
from vmwatch.shared.serviceuser import name_of, service_user
from vmwatch.shared.supervisord import Supervisord


def trusted_manager(paths: Paths, choice: str) -> ServiceManager:
    """As `find_manager`. Root signals the process that the manager names: a socket that is not root's is not asked.

    Raises ServiceError.
    """
    manager = find_manager(paths, choice)
    if os.geteuid() == 0 and service_user(paths) is not None and isinstance(manager, Supervisord):
        try:
            owner = manager.path.stat().st_uid
        except OSError as error:
            raise ServiceError(f"{manager.path}: {error.strerror}") from None
        if owner != 0:
            raise ServiceError(f"{manager.path}: belongs to {name_of(owner)}; only root's supervisord is asked by root")
    return manager
