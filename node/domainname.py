"""A domain's name as text."""

from typing import Any


def name_of(domain: Any) -> str:  # noqa: ANN401 - libvirt-python has no types
    """Its UUID where its name is no UTF-8, which libvirt-python cannot read; `virsh domrename` makes such names from a
    terminal with another encoding. Raises libvirtError."""
    try:
        return str(domain.name())
    except UnicodeDecodeError:
        return str(domain.UUIDString()).lower()
