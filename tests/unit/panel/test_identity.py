"""Accounts, sessions, remembered passwords, and what slows down a guesser."""

import asyncio
import base64
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.panel.clock import FakeClock
from vmwatch.panel import accounts as accounts_module
from vmwatch.panel.accounts import Account, Accounts, Role, hash_password, password_fits
from vmwatch.panel.convention import ApiError, Kind, TransportError
from vmwatch.panel.identity import Brought, Identity, basic, is_forged
from vmwatch.panel.sessions import IDLE_S, MOST_SESSIONS, REMEMBERED_S, Remembered, Sessions
from vmwatch.panel.store import Store
from vmwatch.panel.throttle import ACCOUNT_LIMIT, ADDRESS_LIMIT, MOST_DELAY_S, WINDOW_S, Throttle, delay_s

ANNA = Account("anna", Role.ADMIN, "hash-1")


@pytest.fixture
def accounts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Accounts]:
    monkeypatch.setattr(accounts_module, "LOG2_N", 4)  # the cost is no part of what is tested here
    monkeypatch.setattr(accounts_module, "ROLES_KEPT_S", 0.0)
    store = Store(f"sqlite:///{tmp_path}/panel.db")
    store.open()
    yield Accounts(store)
    store.close()


def test_a_password_fits_only_its_own_hash_and_no_hash_is_like_another() -> None:
    first, second = hash_password("correct horse"), hash_password("correct horse")
    assert first != second
    assert password_fits("correct horse", first)
    assert not password_fits("correct horsf", first)
    assert not password_fits("correct horse", "not a hash")
    assert "correct" not in first


@pytest.mark.parametrize("password", ["", "a\nb", "x" * 1025])
def test_an_empty_or_unprintable_or_endless_password_is_refused(password: str) -> None:
    with pytest.raises(ValueError, match="1 to 1024 bytes"):
        hash_password(password)


@pytest.mark.parametrize("name", ["", "a:b", "a b", "x" * 65, "ä"])
def test_an_account_name_that_could_not_be_told_from_its_password_is_refused(accounts: Accounts, name: str) -> None:
    with pytest.raises(ValueError, match="A-Z a-z 0-9"):
        accounts.save(name, Role.VIEWER, "pw")


def test_accounts_are_made_changed_listed_and_deleted(accounts: Accounts) -> None:
    accounts.save("anna", Role.VIEWER, "one")
    accounts.save("anna", Role.ADMIN, "two")
    assert [(account.name, account.role) for account in accounts.all()] == [("anna", Role.ADMIN)]
    assert accounts.verify("anna", "one") is None
    assert accounts.verify("anna", "two") is not None
    assert accounts.delete("anna")
    assert not accounts.delete("anna")
    assert accounts.verify("anna", "two") is None


def test_a_session_ends_when_it_was_idle_for_too_long_and_not_before() -> None:
    clock = FakeClock()
    sessions = Sessions(clock)
    name = sessions.begin(ANNA)
    for _ in range(3):
        clock.now += IDLE_S - 1
        assert sessions.use(name) is not None
    clock.now += IDLE_S + 1
    assert sessions.use(name) is None


def test_when_there_are_too_many_sessions_the_longest_unused_one_goes() -> None:
    sessions = Sessions(FakeClock())
    names = [sessions.begin(ANNA) for _ in range(MOST_SESSIONS)]
    assert sessions.use(names[0]) is not None
    sessions.begin(ANNA)
    assert len(sessions) == MOST_SESSIONS
    assert sessions.use(names[1]) is None
    assert sessions.use(names[0]) is not None


def test_a_password_is_remembered_for_a_minute_and_for_its_own_hash_only() -> None:
    clock = FakeClock()
    remembered = Remembered(clock)
    remembered.add(ANNA, "pw")
    assert remembered.fits(ANNA, "pw")
    assert not remembered.fits(ANNA, "pv")
    assert not remembered.fits(Account("anna", Role.ADMIN, "hash-2"), "pw")
    clock.now += REMEMBERED_S + 1
    assert not remembered.fits(ANNA, "pw")


def test_failures_slow_an_address_down_and_past_the_limit_it_is_refused_for_the_rest_of_the_window() -> None:
    clock = FakeClock()
    throttle = Throttle(clock)
    waits = [throttle.begin("10.0.0.1", f"name-{number}") for number in range(ADDRESS_LIMIT)]
    assert waits[0] == (0.0, 0.0)
    assert waits[-1][0] == MOST_DELAY_S
    assert throttle.begin("10.0.0.1", "another") == (0.0, WINDOW_S)
    assert throttle.begin("10.0.0.2", "another") == (0.0, 0.0)
    clock.now += WINDOW_S
    assert throttle.begin("10.0.0.1", "another") == (0.0, 0.0)


def test_many_addresses_that_guess_one_account_are_refused_while_its_worker_still_gets_in() -> None:
    throttle = Throttle(FakeClock())
    throttle.begin("10.0.0.1", "vmwatch")
    throttle.succeeded("10.0.0.1", "vmwatch")
    for number in range(ACCOUNT_LIMIT):
        throttle.begin(f"10.1.{number}.1", "vmwatch")
    assert throttle.begin("10.2.0.1", "vmwatch")[1] > 0
    assert throttle.begin("10.0.0.1", "vmwatch") == (0.0, 0.0)


def test_a_trusted_address_that_guesses_is_refused_too() -> None:
    throttle = Throttle(FakeClock())
    throttle.begin("10.0.0.1", "anna")
    throttle.succeeded("10.0.0.1", "anna")
    for _ in range(ADDRESS_LIMIT):
        throttle.begin("10.0.0.1", "anna")
    assert throttle.begin("10.0.0.1", "anna")[1] > 0


def test_the_delay_doubles_up_to_its_limit() -> None:
    assert [delay_s(failures) for failures in (0, 2, 3, 4, 5, 99)] == [0.0, 0.0, 0.25, 0.5, 1.0, MOST_DELAY_S]


def test_the_first_proof_counts_and_a_wrong_one_is_an_error_of_its_kind(accounts: Accounts) -> None:
    accounts.save("anna", Role.ADMIN, "pw")
    right = "Basic " + base64.b64encode(b"anna:pw").decode()
    wrong = "Basic " + base64.b64encode(b"anna:pv").decode()

    async def scenario() -> None:
        identity = Identity(accounts, FakeClock())
        assert await identity.caller(Brought("a")) is None
        by_info = await identity.caller(Brought("a", authinfo="anna:pw"))
        assert by_info is not None
        assert not by_info.ambient
        by_basic = await identity.caller(Brought("a", authorization=right))
        assert by_basic is not None
        assert by_basic.ambient
        for brought in (Brought("a", authinfo="anna:pv"), Brought("a", session="00"), Brought("a", cookie="00")):
            with pytest.raises(ApiError) as error:
                await identity.caller(brought)
            assert error.value.kind is Kind.AUTH
        for authorization in (wrong, "Bearer x", "Basic !", "Basic " + base64.b64encode(b"nocolon").decode()):
            with pytest.raises(TransportError) as fault:
                await identity.caller(Brought("a", authorization=authorization))
            assert fault.value.status == 401
            assert "WWW-Authenticate" in fault.value.headers

    asyncio.run(scenario())


def test_a_session_is_over_when_its_password_changes_or_its_account_goes(accounts: Accounts) -> None:
    async def scenario() -> None:
        identity = Identity(accounts, FakeClock())
        for change in (lambda: accounts.save("anna", Role.ADMIN, "new"), lambda: accounts.delete("anna")):
            accounts.save("anna", Role.ADMIN, "pw")
            session, _ = await identity.sign_in("a", "anna", "pw")
            caller = await identity.caller(Brought("a", session=session))
            assert caller is not None
            assert identity.is_valid(caller)
            change()
            assert not identity.is_valid(caller)
            with pytest.raises(ApiError):
                await identity.caller(Brought("a", session=session))

    asyncio.run(scenario())


def test_a_guesser_is_answered_429_with_the_time_to_wait(accounts: Accounts, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vmwatch.panel.throttle.MOST_DELAY_S", 0.0)

    async def scenario() -> None:
        identity = Identity(accounts, FakeClock())
        for _ in range(ADDRESS_LIMIT):
            with pytest.raises(ApiError):
                await identity.check("a", "anna", "wrong")
        with pytest.raises(TransportError) as error:
            await identity.check("a", "anna", "wrong")
        assert error.value.status == 429
        assert int(error.value.headers["Retry-After"]) > 0

    asyncio.run(scenario())


def test_a_password_with_a_colon_survives_http_basic() -> None:
    assert basic("basic " + base64.b64encode("anna:p:w ü".encode()).decode()) == ("anna", "p:w ü")


@pytest.mark.parametrize(
    ("method", "headers", "forged"),
    [
        ("GET", {"sec-fetch-site": "same-origin"}, True),
        ("POST", {"sec-fetch-site": "same-origin"}, False),
        ("POST", {"sec-fetch-site": "none"}, False),
        ("POST", {"sec-fetch-site": "same-site"}, True),
        ("POST", {"sec-fetch-site": "cross-site"}, True),
        ("POST", {"origin": "http://panel:1500", "host": "panel:1500"}, False),
        ("POST", {"origin": "http://panel:1501", "host": "panel:1500"}, True),
        ("POST", {"origin": "null", "host": "panel:1500"}, True),
        ("POST", {"host": "panel:1500"}, False),
    ],
)
def test_a_call_from_another_site_is_told_from_one_of_our_own(
    method: str, headers: dict[str, str], forged: bool
) -> None:
    assert is_forged(method, headers) is forged
