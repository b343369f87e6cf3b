"""The account of the master's workers, and where they find the panel."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from vmwatch.panel.accounts import Accounts, Role
from vmwatch.panel.configurepanel import panel_values
from vmwatch.panel.settings import PanelSettings
from vmwatch.panel.store import Store
from vmwatch.shared.endpoints import Endpoint


@pytest.fixture
def accounts(tmp_path: Path) -> Iterator[Accounts]:
    store = Store(f"sqlite:///{tmp_path}/panel.db")
    store.open()
    yield Accounts(store)
    store.close()


def test_an_account_is_made_once_and_kept_while_its_password_fits(accounts: Accounts) -> None:
    first = panel_values(PanelSettings(), accounts, {})
    assert first["panel_user"] == "vmwatch"
    assert [(account.name, account.role) for account in accounts.all()] == [("vmwatch", Role.SERVICE)]
    present = {name: value for name, value in first.items() if value}
    assert panel_values(PanelSettings(), accounts, present) == first


def test_a_password_that_does_not_fit_is_replaced(accounts: Accounts) -> None:
    accounts.save("robot", Role.SERVICE, "somebody changed it")
    made = panel_values(PanelSettings(), accounts, {"panel_user": "robot", "panel_password": "old"})
    assert made["panel_user"] == "robot"
    assert accounts.verify("robot", str(made["panel_password"])) is not None


def test_an_account_of_another_role_is_never_taken_over(accounts: Accounts) -> None:
    accounts.save("vmwatch", Role.ADMIN, "a person's password")
    made = panel_values(PanelSettings(), accounts, {"panel_user": "vmwatch", "panel_password": "old"})
    assert made["panel_user"] == "vmwatch-workers"
    person = accounts.verify("vmwatch", "a person's password")
    assert person is not None
    assert person.role is Role.ADMIN


def settings(host: str, certificate: Path | None = None) -> PanelSettings:
    return PanelSettings(
        panel_listen=Endpoint(host, 8443), panel_certificate=certificate, panel_key=certificate, allow_plain_http=True
    )


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("192.0.2.1", "http://192.0.2.1:8443/vmmgr"),
        ("0.0.0.0", "http://127.0.0.1:8443/vmmgr"),
        ("::", "http://[::1]:8443/vmmgr"),
        ("2001:db8::1", "http://[2001:db8::1]:8443/vmmgr"),
    ],
)
def test_the_panel_is_found_where_it_listens(accounts: Accounts, host: str, url: str) -> None:
    made = panel_values(settings(host), accounts, {"panel_url": "http://127.0.0.1:1500/vmmgr"})
    assert made["panel_url"] == url
    assert "panel_ca" not in made


def test_with_tls_a_name_that_fits_the_certificate_stays_and_else_the_certificate_is_the_authority(
    accounts: Accounts, tmp_path: Path
) -> None:
    certificate = tmp_path / "panel.pem"
    named = {"panel_url": "https://panel.example:8443/vmmgr"}
    made = panel_values(settings("0.0.0.0", certificate), accounts, named)
    assert made["panel_url"] == named["panel_url"]
    assert "panel_ca" not in made
    made = panel_values(settings("0.0.0.0", certificate), accounts, {"panel_url": "https://panel.example:443/vmmgr"})
    assert (made["panel_url"], made["panel_ca"]) == ("https://127.0.0.1:8443/vmmgr", str(certificate))
