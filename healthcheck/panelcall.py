"""One call of the panel, as the account in `vmwatch-master.conf` (design 03, *Calling convention*)."""

from pathlib import Path
from typing import Any

import requests

from vmwatch.shared.conffile import load
from vmwatch.shared.errors import VmwatchError
from vmwatch.shared.paths import Paths
from vmwatch.shared.settings import MasterSettings

MASTER = "vmwatch-master"


class CallFailed(VmwatchError):
    """The panel said no. `kind`: of its error; empty if it is no panel, or a fault of the transport."""

    def __init__(self, text: str, kind: str = "") -> None:
        super().__init__(text)
        self.kind = kind


class Unreachable(CallFailed):
    """No answer came, or one of a panel that cannot answer now: the same call may succeed later."""


class PanelAccount:
    """Where the panel is and who calls it, read afresh for each call: both may change."""

    def __init__(self, prefix: Path) -> None:
        self._config = Paths(prefix, MASTER).config

    def call(self, func: str, timeout_s: float, **parameters: str) -> dict[str, Any]:
        """`doc` of the answer to a POST. Raises CallFailed, or ConfigurationError for the master's file."""
        settings = load(self._config, MasterSettings).settings
        proof = f"{settings.panel_user}:{settings.panel_password}"
        form = {"func": func, "out": "json", "authinfo": proof, **parameters}
        with requests.Session() as session:
            # The machine's proxy is for the internet, and its .netrc is not for us: the panel is called directly.
            session.trust_env = False
            session.verify = settings.panel_ca or True
            try:
                answer = session.post(settings.panel_url, data=form, timeout=timeout_s, allow_redirects=False)
            except (requests.ConnectionError, requests.Timeout) as error:
                raise Unreachable(f"{settings.panel_url} cannot be reached: {type(error).__name__}") from None
            except (requests.RequestException, ValueError) as error:  # ValueError: an address that is none
                raise CallFailed(f"{settings.panel_url}: {error}") from None
        return _doc(settings.panel_url, answer)


def _doc(url: str, answer: requests.Response) -> dict[str, Any]:
    try:
        body = answer.json()
    except ValueError:
        body = None
    doc = body.get("doc") if isinstance(body, dict) else None
    busy = answer.status_code >= 500 or answer.status_code == 429
    if not isinstance(doc, dict):
        text = f"{url} does not answer as a panel does: HTTP status {answer.status_code}"
        raise Unreachable(text) if busy else CallFailed(text)
    error = doc.get("error")
    if error is None:
        return doc
    kind = str(error.get("$type", "")) if isinstance(error, dict) else ""
    message = error.get("msg", "") if isinstance(error, dict) else error
    text = f"{url} says: {message.get('$', '') if isinstance(message, dict) else message}"
    raise Unreachable(text, kind) if busy else CallFailed(text, kind)
