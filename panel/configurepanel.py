"""How the master's workers reach this panel: the account that is theirs, and the panel's address. Blocks."""

import secrets
from collections.abc import Mapping
from urllib.parse import urlsplit

from vmwatch.panel.accounts import Accounts, Role
from vmwatch.panel.configureplan import Values
from vmwatch.panel.settings import PanelSettings

ACCOUNT_NAMES = ("vmwatch", "vmwatch-workers", "vmwatch-master")
"""The first that is not somebody's: an account of another role is never taken over."""
PASSWORD_BYTES = 24
PATH = "/vmmgr"


def panel_values(settings: PanelSettings, accounts: Accounts, present: Mapping[str, str]) -> Values:
    """What the master's file says of the panel. Makes the account, or a new password, where that does not fit."""
    user, password = _account(accounts, present.get("panel_user", ACCOUNT_NAMES[0]), present.get("panel_password", ""))
    return {"panel_user": user, "panel_password": password, **_address(settings, present)}


def _account(accounts: Accounts, user: str, password: str) -> tuple[str, str]:
    """(name, password). One that works is left as it is."""
    if password and accounts.verify(user, password) is not None:
        return user, password
    roles = {account.name: account.role for account in accounts.all()}
    names = (user, *ACCOUNT_NAMES, f"vmwatch-{secrets.token_hex(4)}")
    name = next(name for name in names if roles.get(name, Role.SERVICE) is Role.SERVICE)
    made = secrets.token_urlsafe(PASSWORD_BYTES)
    accounts.save(name, Role.SERVICE, made)
    return name, made


def _address(settings: PanelSettings, present: Mapping[str, str]) -> Values:
    """Without TLS the panel's own address. With TLS the certificate's name is known to who wrote the file: one that
    fits the port stays; else the address, with the certificate itself as the authority."""
    listen = settings.panel_listen
    host = listen.host if not listen.address.is_unspecified else ("::1" if ":" in listen.host else "127.0.0.1")
    shown = f"[{host}]" if ":" in host else host
    if not settings.tls:
        return {"panel_url": f"http://{shown}:{listen.port}{PATH}"}
    told = urlsplit(present.get("panel_url", ""))
    if told.scheme == "https" and (told.port or 443) == listen.port:
        return {"panel_url": present["panel_url"]}
    url = f"https://{shown}:{listen.port}{PATH}"
    return {"panel_url": url, "panel_ca": present.get("panel_ca") or str(settings.panel_certificate)}
