"""Where a node is for SSH: what is understood, what is refused, and that nothing of it becomes an option."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmwatch.panel.ssh import SSH_ADDRESS, Ssh, SshError, Target
from vmwatch.shared.paths import Paths


@pytest.mark.parametrize(
    ("ssh", "address", "target"),
    [
        ("", "192.0.2.7", Target("root", "192.0.2.7", 22)),
        ("", "2001:db8::7", Target("root", "2001:db8::7", 22)),
        ("kvm-01.example", "", Target("root", "kvm-01.example", 22)),
        ("ops@kvm-01:2222", "192.0.2.7", Target("ops", "kvm-01", 2222)),
        ("ops@[2001:db8::7]:2222", "", Target("ops", "2001:db8::7", 2222)),
    ],
)
def test_user_host_and_port_are_read(ssh: str, address: str, target: Target) -> None:
    found = Target.of(ssh, address)
    assert found == target
    assert Target.of(str(found), "") == target


@pytest.mark.parametrize("ssh", ["-oProxyCommand=x", "a b", "root@", "a@-x", "host:99999", "host:0", "a@b@c", "h;id"])
def test_anything_else_is_refused(ssh: str) -> None:
    with pytest.raises(SshError):
        Target.of(ssh, "")


@given(st.from_regex(SSH_ADDRESS, fullmatch=True))
def test_no_part_of_an_address_can_be_taken_for_an_option(text: str) -> None:
    try:
        target = Target.of(text, "")
    except SshError:
        return
    assert not target.host.startswith("-")
    assert not target.user.startswith("-")
    command = Ssh(Paths.of("vmwatch-panel", "/nowhere")).command(target)
    assert command[-3:] == ["--", target.host, "vmwatch-nodectl"]
