"""The panel client against a real HTTP server that answers well, badly, slowly, or not at all."""

import json
import logging
import shutil
import ssl
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import msgspec
import pytest
from msgspec import Raw

from tests.testbed.scriptedpanel import (
    PASSWORD,
    USER,
    Reply,
    Request,
    ScriptedPanel,
    doc_error,
    half_an_answer,
    trickle,
)
from tests.testbed.waiting import free_port
from vmwatch.shared.handover import StreamLabel, WorkerSettings
from vmwatch.shared.messages import MAX_BATCH_BYTES, place_payload
from vmwatch.shared.report import ReportEntry, Verdict, encode_answer
from vmwatch.workers import transport, vmevent
from vmwatch.workers.batcher import Job, Outcome
from vmwatch.workers.client import Delivery, PanelFault
from vmwatch.workers.vmmgr import VmmgrClient

TIMEOUT_S = 1.5
UUID = "00000000-0000-0000-0000-00000000000a"
DELIVERED, RETRY, REFUSED = Outcome.DELIVERED, Outcome.RETRY, Outcome.REFUSED


def job(seq: int, node: str = "n1", epoch: int = 1, raw: bytes = b"") -> Job:
    payload = b'{"time":1.0,"type":"event","vm":{"uuid":"%b","name":"web"},"event":"started","detail":"booted"}'
    raw = raw or place_payload(payload % UUID.encode(), seq, seq - 1)
    return Job(seq, StreamLabel(node, epoch, 1, "t/1", 10.0), seq, f"vm {UUID}", raw)


def settings(url: str, **changes: object) -> WorkerSettings:
    made = WorkerSettings(
        generation=1,
        tasks="",
        results="",
        master="m1",
        batch_max=500,
        panel_url=url,
        panel_user=USER,
        panel_password=PASSWORD,
        panel_ca="",
        panel_timeout=TIMEOUT_S,
        log_file="-",
        log_level="info",
        log_format="text",
    )
    return msgspec.structs.replace(made, **changes)


@pytest.fixture
def panel() -> Iterator[ScriptedPanel]:
    with ScriptedPanel() as panel:
        yield panel


@pytest.fixture
def client(panel: ScriptedPanel) -> Iterator[VmmgrClient]:
    client = VmmgrClient(settings(panel.url))
    yield client
    client.close()


def reports_are_answered(reply: Reply | Callable[[Request], Reply]) -> Callable[[Request], Reply | None]:
    """A script: sign-in is honest, every report gets `reply`."""

    def script(request: Request) -> Reply | None:
        if request.func != "vmwatch.report":
            return None
        return reply if isinstance(reply, Reply) else reply(request)

    return script


def fault_of(delivery: Delivery) -> PanelFault:
    assert delivery.fault is not None
    return delivery.fault


class TestReports:
    def test_an_applied_message_is_delivered(self, panel: ScriptedPanel, client: VmmgrClient) -> None:
        delivery = client.deliver([job(1), job(2)])
        assert delivery.result.outcomes == [DELIVERED, DELIVERED]
        assert delivery.fault is None
        assert [(verdict.node, verdict.applied) for verdict in delivery.verdicts] == [("n1", 2)]
        assert panel.registered == [("n1", 1, 1), ("n1", 1, 2)]

    def test_a_known_message_is_delivered(self, panel: ScriptedPanel, client: VmmgrClient) -> None:
        client.deliver([job(1)])
        assert client.deliver([job(1)]).result.outcomes == [DELIVERED]
        assert panel.registered == [("n1", 1, 1)]

    def test_a_refused_message_is_refused_with_its_reason(self, panel: ScriptedPanel, client: VmmgrClient) -> None:
        panel.refuse = lambda key: key[2] == 2
        delivery = client.deliver([job(1), job(2), job(3)])
        assert delivery.result.outcomes == [DELIVERED, REFUSED, DELIVERED]
        assert delivery.result.refusals[1].msg == "no such state"

    def test_each_node_and_epoch_is_judged_by_its_own_verdict(self, panel: ScriptedPanel, client: VmmgrClient) -> None:
        def one_is_missing(request: Request) -> Reply:
            return Reply(encode_answer([Verdict("n1", 1, 1, 0), Verdict("n2", 7, 1, 0)]))

        panel.script = reports_are_answered(one_is_missing)
        jobs = [job(1, "n1"), job(1, "n2", epoch=7), job(1, "n2", epoch=8)]
        delivery = client.deliver(jobs)
        assert delivery.result.outcomes == [DELIVERED, DELIVERED, RETRY]
        assert "does not say what became" in str(fault_of(delivery))

    def test_messages_are_sent_as_their_node_wrote_them(self, panel: ScriptedPanel, client: VmmgrClient) -> None:
        raw = b'{"seq":1,"prev":0,"type":"from the future","x":[1.50,"\xc3\xa4"]}'
        client.deliver([job(1, raw=raw)])
        assert raw in panel.calls("vmwatch.report")[0].body

    def test_one_session_serves_all_calls(self, panel: ScriptedPanel, client: VmmgrClient) -> None:
        for seq in range(1, 4):
            client.deliver([job(seq)])
        assert len(panel.calls("auth")) == 1
        assert {call.headers["Cookie"] for call in panel.calls("vmwatch.report")} == {"vmmgrses5=session1"}

    def test_the_password_is_in_no_address(self, panel: ScriptedPanel, client: VmmgrClient) -> None:
        client.deliver([job(1)])
        (sign_in,) = panel.calls("auth")
        assert PASSWORD.replace(" ", "+").encode() in sign_in.body
        assert [request.query for request in panel.requests] == ["", "func=vmwatch.report&out=json"]


class TestSessions:
    @pytest.mark.parametrize("status", [200, 401])
    def test_a_session_that_is_over_is_replaced_within_the_call(
        self, panel: ScriptedPanel, client: VmmgrClient, status: int
    ) -> None:
        client.deliver([job(1)])
        over = Reply(doc_error("auth", "session").body, status=status)
        panel.script = lambda request: over if request.headers.get("Cookie") == "vmmgrses5=session1" else None
        assert client.deliver([job(2)]).result.outcomes == [DELIVERED]
        assert panel.sessions == 2

    @pytest.mark.parametrize("status", [200, 401])
    def test_a_panel_that_never_takes_its_own_session_is_asked_once_more_and_not_for_ever(
        self, panel: ScriptedPanel, client: VmmgrClient, status: int
    ) -> None:
        client.deliver([job(1)])
        panel.script = reports_are_answered(Reply(doc_error("auth", "session").body, status=status))
        delivery = client.deliver([job(2)])
        assert delivery.result.outcomes == [RETRY]
        assert fault_of(delivery).needs_person
        assert len(panel.calls("auth")) == 2

    def test_a_wrong_password_settles_nothing_and_needs_a_person(self, panel: ScriptedPanel) -> None:
        client = VmmgrClient(settings(panel.url, panel_password="wrong"))
        delivery = client.deliver([job(1)])
        assert delivery.result.outcomes == [RETRY]
        assert delivery.result.blameless
        assert fault_of(delivery).needs_person
        assert f"signing in as '{USER}' is refused" in str(fault_of(delivery))
        assert "wrong password" not in str(fault_of(delivery))
        assert panel.registered == []
        client.close()

    def test_a_wrong_password_is_not_tried_at_each_call(self, panel: ScriptedPanel) -> None:
        client = VmmgrClient(settings(panel.url, panel_password="wrong"))
        for _ in range(20):
            assert fault_of(client.deliver([job(1)])).needs_person
        assert len(panel.calls("auth")) <= 2
        client.close()

    def test_an_answer_to_auth_without_a_session_settles_nothing(
        self, panel: ScriptedPanel, client: VmmgrClient
    ) -> None:
        panel.script = lambda request: Reply(b'{"doc":{"ok":{}}}') if request.func == "auth" else None
        assert client.deliver([job(1)]).result.outcomes == [RETRY]


BAD_ANSWERS: dict[str, tuple[Reply, str, bool]] = {
    "access error": (doc_error("access", "vmwatch.report"), "access", True),
    "value error": (doc_error("value", "messages"), "value messages", False),
    "403": (Reply(status=403), "HTTP 403", True),
    "404": (Reply(b"<h1>Not Found</h1>", status=404), "HTTP 404", True),
    "500": (Reply(b"oops", status=500), "HTTP 500", False),
    "502": (Reply(b"<html>bad gateway</html>", status=502), "HTTP 502", False),
    "204": (Reply(status=204), "HTTP 204", False),
    "redirect": (
        Reply(status=302, headers={"Location": "https://elsewhere/"}),
        "redirect to 'https://elsewhere/'",
        True,
    ),
    "html with 200": (Reply(b"<html>Welcome</html>", headers={"Content-Type": "text/html"}), "text/html", True),
    "empty body": (Reply(b""), "not its answer", True),
    "other json": (Reply(b'{"status":"ok"}'), "not its answer", True),
    "json that says ok alone": (Reply(b'{"doc":{"ok":{}}}'), "not understood", True),
    "another function's answer": (Reply(b'{"doc":{"$func":"vm","ok":{},"report":[]}}'), "not understood", True),
    "invalid utf-8": (Reply(b'{"doc":{"$func":"\xff"}}'), "not its answer", True),
    "deeply nested": (Reply(b"[" * 100_000), "not its answer", True),
    "half an answer": (Reply(raw=half_an_answer), "the connection broke", False),
    "no answer at all": (Reply(raw=lambda connection: None), "the connection broke", False),
    "not http": (Reply(raw=lambda connection: connection.sendall(b"SSH-2.0-x\r\n")), "the connection broke", False),
    "no verdict": (Reply(encode_answer([])), "does not say what became", False),
    "too few": (Reply(encode_answer([Verdict("n1", 1, 1, 0)])), "does not say what became", False),
    "too many": (Reply(encode_answer([Verdict("n1", 1, 2, 1)])), "does not say what became", False),
    "twice": (Reply(encode_answer([Verdict("n1", 1, 2, 0)] * 2)), "does not say what became", False),
    "another epoch": (Reply(encode_answer([Verdict("n1", 2, 2, 0)])), "does not say what became", False),
    "negative": (
        Reply(encode_answer([Verdict("n1", 1, 2, 0)]).replace(b'"known":0', b'"known":-1')),
        "understood",
        True,
    ),
}


class TestBadAnswers:
    @pytest.mark.parametrize("name", BAD_ANSWERS)
    def test_nothing_is_settled(self, panel: ScriptedPanel, client: VmmgrClient, name: str) -> None:
        reply, text, needs_person = BAD_ANSWERS[name]
        panel.script = reports_are_answered(reply)
        delivery = client.deliver([job(1), job(2)])
        assert delivery.result.outcomes == [RETRY, RETRY]
        assert text in str(fault_of(delivery))
        assert fault_of(delivery).needs_person == needs_person
        panel.script = lambda request: None
        assert client.deliver([job(1), job(2)]).result.outcomes == [DELIVERED, DELIVERED]

    @pytest.mark.parametrize("seqs", [[2, 2], [2, 9]])
    def test_refusals_that_repeat_or_name_strangers_settle_nothing(
        self, panel: ScriptedPanel, client: VmmgrClient, seqs: list[int]
    ) -> None:
        refused = [{"seq": seq, "type": "value", "object": "x", "msg": "y"} for seq in seqs]
        answer = {"node": "n1", "epoch": 1, "applied": 0, "known": 0, "newest_epoch": 1, "refused": refused}
        doc = {"doc": {"$func": "vmwatch.report", "ok": {}, "report": [answer]}}
        panel.script = reports_are_answered(Reply(json.dumps(doc).encode()))
        assert client.deliver([job(1), job(2)]).result.outcomes == [RETRY, RETRY]

    def test_a_redirect_is_not_followed(self, panel: ScriptedPanel, client: VmmgrClient) -> None:
        with ScriptedPanel() as elsewhere:
            panel.script = reports_are_answered(Reply(status=307, headers={"Location": elsewhere.url}))
            client.deliver([job(1)])
            assert elsewhere.requests == []

    def test_413_asks_for_less_at_once(self, panel: ScriptedPanel, client: VmmgrClient) -> None:
        panel.script = reports_are_answered(Reply(status=413))
        assert client.deliver([job(1)]).result.too_large

    @pytest.mark.parametrize("status", [429, 503])
    def test_retry_after_is_heeded(self, panel: ScriptedPanel, client: VmmgrClient, status: int) -> None:
        panel.script = reports_are_answered(Reply(status=status, headers={"Retry-After": "17"}))
        assert client.deliver([job(1)]).result.wait_s == 17.0

    @pytest.mark.parametrize(
        ("text", "least", "most"),
        [
            ("1000000", 300, 300),
            ("-5", 0, 0),
            ("soon", 0, 0),
            ("Fri, 31 Dec 9999 23:59:59 GMT", 300, 300),
            ("Thu, 01 Jan 1970 00:00:00 GMT", 0, 0),
        ],
    )
    def test_a_strange_retry_after_is_bounded(
        self, panel: ScriptedPanel, client: VmmgrClient, text: str, least: float, most: float
    ) -> None:
        panel.script = reports_are_answered(Reply(status=503, headers={"Retry-After": text}))
        assert least <= client.deliver([job(1)]).result.wait_s <= most

    def test_no_listener_is_no_messages_fault(self) -> None:
        client = VmmgrClient(settings(f"http://127.0.0.1:{free_port()}/vmmgr"))
        delivery = client.deliver([job(1)])
        assert delivery.result.outcomes == [RETRY]
        assert delivery.result.blameless
        assert "no connection: " in str(fault_of(delivery))
        assert "Connection refused" in str(fault_of(delivery))

    def test_a_proxy_of_the_environment_is_not_used(
        self, panel: ScriptedPanel, client: VmmgrClient, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{free_port()}")
        assert client.deliver([job(1)]).result.outcomes == [DELIVERED]


class TestLimits:
    @pytest.mark.parametrize(
        "head",
        [
            pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n", id="body"),
            pytest.param(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n", id="body without a length"),
            pytest.param(b"HTTP/1.1 200 OK\r\nX-Endless: ", id="head"),
        ],
    )
    def test_a_trickling_answer_ends_with_the_calls_time(
        self, panel: ScriptedPanel, client: VmmgrClient, head: bytes
    ) -> None:
        panel.script = reports_are_answered(Reply(raw=trickle(head, b"x")))
        begin = time.monotonic()
        delivery = client.deliver([job(1)])
        assert delivery.result.outcomes == [RETRY]
        assert str(fault_of(delivery)) == f"no complete answer within {TIMEOUT_S:g} s"
        assert time.monotonic() - begin < 20 * TIMEOUT_S

    def test_a_trickle_of_whole_chunks_ends_too(self, panel: ScriptedPanel, client: VmmgrClient) -> None:
        head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
        panel.script = reports_are_answered(Reply(raw=trickle(head, b"1\r\nx\r\n")))
        assert "no complete answer" in str(fault_of(client.deliver([job(1)])))

    def test_a_panel_that_says_nothing_is_left_in_time(self, panel: ScriptedPanel, client: VmmgrClient) -> None:
        panel.script = reports_are_answered(Reply(raw=lambda connection: time.sleep(30)))
        assert "no complete answer" in str(fault_of(client.deliver([job(1)])))

    def test_signing_in_counts_into_the_calls_time(self, panel: ScriptedPanel, client: VmmgrClient) -> None:
        panel.script = lambda request: time.sleep(2 * TIMEOUT_S) if request.func == "auth" else None
        assert "no complete answer" in str(fault_of(client.deliver([job(1)])))
        assert panel.calls("vmwatch.report") == []

    def test_an_endless_answer_is_cut(
        self, panel: ScriptedPanel, client: VmmgrClient, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(transport, "MAX_ANSWER_BYTES", 100_000)
        panel.script = reports_are_answered(Reply(b" " * 1_000_000))
        assert "larger than 100000 bytes" in str(fault_of(client.deliver([job(1)])))


class TestPresence:
    def entry(self, node: str, status: bytes = b'{"rows":1}') -> ReportEntry:
        return ReportEntry(node, 1, 1, live=True, status=Raw(status))

    def test_signs_of_life_are_told_and_answered(self, panel: ScriptedPanel, client: VmmgrClient) -> None:
        panel.want_inventory = "t-1"
        (verdict,) = client.tell_presence([self.entry("n1")])
        assert verdict.want_inventory == "t-1"
        (told,) = panel.calls("vmwatch.report")[0].report.nodes
        assert (told.node, told.live, bytes(told.status)) == ("n1", True, b'{"rows":1}')

    def test_no_node_at_all_is_told_too(self, panel: ScriptedPanel, client: VmmgrClient) -> None:
        assert client.tell_presence([]) == []
        assert panel.calls("vmwatch.report")[0].report.nodes == []

    def test_more_than_a_call_holds_is_told_in_several(self, panel: ScriptedPanel, client: VmmgrClient) -> None:
        status = json.dumps("x" * (MAX_BATCH_BYTES // 4)).encode()
        verdicts = client.tell_presence([self.entry(f"n{number}", status) for number in range(6)])
        assert [verdict.node for verdict in verdicts] == [f"n{number}" for number in range(6)]
        sizes = [len(call.body) for call in panel.calls("vmwatch.report")]
        assert len(sizes) == 2
        assert max(sizes) < MAX_BATCH_BYTES

    def test_a_failure_is_raised_after_one_attempt(self, panel: ScriptedPanel, client: VmmgrClient) -> None:
        panel.script = reports_are_answered(Reply(status=500))
        with pytest.raises(PanelFault, match="HTTP 500"):
            client.tell_presence([])
        assert len(panel.calls("vmwatch.report")) == 1


def without_reports(
    events: Callable[[Request], Reply | None] = lambda request: None,
) -> Callable[[Request], Reply | None]:
    """A panel that does not know vmwatch.report."""

    def script(request: Request) -> Reply | None:
        if request.func == "vmwatch.report":
            return doc_error("missed", "func", "there is no such function", "vmwatch.report")
        return events(request) if request.func == "vm.event" else None

    return script


class TestFallback:
    INVENTORY = b'{"seq":2,"prev":1,"type":"inventory","time":1.0,"as_of":0,"domains":[]}'

    def test_each_event_is_sent_by_itself_and_the_rest_counts_as_delivered(
        self, panel: ScriptedPanel, client: VmmgrClient
    ) -> None:
        panel.script = without_reports()
        delivery = client.deliver([job(1), job(2, raw=self.INVENTORY), job(3)])
        assert delivery.result.outcomes == [DELIVERED] * 3
        sent = [dict(call.params) for call in panel.calls("vm.event")]
        assert [call["seq"] for call in sent] == ["1", "3"]
        del sent[0]["auth"]
        assert sent[0] == {
            "func": "vm.event",
            "out": "json",
            "hostnode": "n1",
            "name": "web",
            "event": "started",
            "detail": "booted",
            "uuid": UUID,
            "epoch": "1",
            "seq": "1",
        }

    def test_signs_of_life_count_as_told(self, panel: ScriptedPanel, client: VmmgrClient) -> None:
        panel.script = without_reports()
        assert client.tell_presence([]) == []

    def test_reports_are_not_tried_each_time_and_it_is_said_once(
        self, panel: ScriptedPanel, client: VmmgrClient, caplog: pytest.LogCaptureFixture
    ) -> None:
        panel.script = without_reports()
        with caplog.at_level(logging.WARNING):
            for seq in range(1, 4):
                client.deliver([job(seq)])
        assert len(panel.calls("vmwatch.report")) == 1
        assert len(caplog.records) == 1

    def test_reports_are_tried_again_after_a_while(
        self, panel: ScriptedPanel, client: VmmgrClient, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(vmevent, "REPORT_AGAIN_S", 0.0)
        panel.script = without_reports()
        client.deliver([job(1)])
        panel.script = lambda request: None
        client.deliver([job(2)])
        assert panel.registered == [("n1", 1, 2)]

    def test_reports_are_tried_again_in_a_new_session(self, panel: ScriptedPanel, client: VmmgrClient) -> None:
        panel.script = without_reports()
        client.deliver([job(1)])
        panel.script = lambda request: None
        panel.sessions += 1  # what a restart of the panel does: the client's session is over
        client.deliver([job(2)])
        client.deliver([job(3)])
        assert panel.registered == [("n1", 1, 3)]

    def test_a_refused_event_is_refused_and_the_next_one_is_sent(
        self, panel: ScriptedPanel, client: VmmgrClient
    ) -> None:
        panel.script = without_reports(
            lambda request: doc_error("missed", "vm", "no such VM") if request.params["seq"] == "1" else None
        )
        delivery = client.deliver([job(1), job(2)])
        assert delivery.result.outcomes == [REFUSED, DELIVERED]
        assert delivery.result.refusals[0].msg == "no such VM"

    def test_a_message_that_is_not_understood_is_refused(self, panel: ScriptedPanel, client: VmmgrClient) -> None:
        panel.script = without_reports()
        delivery = client.deliver([job(1, raw=b'{"seq":1,"prev":0,"type":"?"}'), job(2)])
        assert delivery.result.outcomes == [REFUSED, DELIVERED]

    def test_after_a_failure_nothing_later_is_sent(self, panel: ScriptedPanel, client: VmmgrClient) -> None:
        panel.script = without_reports(lambda request: Reply(status=500) if request.params["seq"] == "2" else None)
        delivery = client.deliver([job(1), job(2), job(3)])
        assert delivery.result.outcomes == [DELIVERED, RETRY, RETRY]
        assert len(panel.calls("vm.event")) == 2

    @pytest.mark.parametrize(
        "reply",
        [
            Reply(b'{"doc":{}}'),
            Reply(b"<html>ok</html>"),
            doc_error("access", "vm.event"),
            doc_error("missed", "func", value="vm.event"),
        ],
        ids=["no ok", "html", "access", "unknown function"],
    )
    def test_an_answer_that_does_not_say_ok_settles_nothing(
        self, panel: ScriptedPanel, client: VmmgrClient, reply: Reply
    ) -> None:
        panel.script = without_reports(lambda request: reply)
        assert client.deliver([job(1)]).result.outcomes == [RETRY]

    @pytest.mark.parametrize(
        "reply",
        [
            Reply(b"no such function", status=404),
            doc_error("missed", "vm"),
            doc_error("missed", "func", value="vm.event"),
            doc_error("value", "func", value="vmwatch.report"),
            doc_error("access", "vmwatch.report"),
            Reply(status=501),
        ],
        ids=["404", "missed vm", "another function", "value", "access", "501"],
    )
    def test_nothing_less_explicit_is_taken_for_an_unknown_function(
        self, panel: ScriptedPanel, client: VmmgrClient, reply: Reply
    ) -> None:
        panel.script = reports_are_answered(reply)
        assert client.deliver([job(1)]).result.outcomes == [RETRY]
        assert panel.calls("vm.event") == []


@pytest.mark.skipif(not shutil.which("openssl"), reason="openssl makes the certificate")
class TestTls:
    @pytest.fixture
    def certificate(self, tmp_path: Path) -> Path:
        made = tmp_path / "panel.pem"
        command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=panel"
        subprocess.run(
            [*command.split(), "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", made, "-out", tmp_path / "crt"],
            check=True,
            capture_output=True,
            timeout=60,
        )
        made.write_bytes(made.read_bytes() + (tmp_path / "crt").read_bytes())
        return made

    @pytest.fixture
    def tls_panel(self, certificate: Path) -> Iterator[ScriptedPanel]:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        with ScriptedPanel(tls=context) as panel:
            yield panel

    def deliver(self, panel: ScriptedPanel, authority: str, jobs: Sequence[Job]) -> Delivery:
        client = VmmgrClient(settings(panel.url, panel_ca=authority))
        delivery = client.deliver(jobs)
        client.close()
        return delivery

    def test_a_certificate_of_the_given_authority_is_trusted(self, tls_panel: ScriptedPanel, certificate: Path) -> None:
        assert self.deliver(tls_panel, str(certificate), [job(1)]).result.outcomes == [DELIVERED]

    def test_any_other_certificate_settles_nothing_and_needs_a_person(self, tls_panel: ScriptedPanel) -> None:
        delivery = self.deliver(tls_panel, "", [job(1)])
        assert delivery.result.outcomes == [RETRY]
        assert fault_of(delivery).needs_person
        assert "certificate verify failed" in str(fault_of(delivery))
        assert tls_panel.requests == []

    def test_a_trickling_answer_ends_with_the_calls_time(self, tls_panel: ScriptedPanel, certificate: Path) -> None:
        tls_panel.script = reports_are_answered(Reply(raw=trickle(b"HTTP/1.1 200 OK\r\nX-Endless: ", b"x")))
        delivery = self.deliver(tls_panel, str(certificate), [job(1)])
        assert "no complete answer" in str(fault_of(delivery))
