"""Everything that comes into the packages has one version, whoever builds them and when."""

import re
import subprocess

import pytest

from tests.packages.conftest import Packages
from tests.testbed.cleanroot import ROOT

PINS = dict(re.findall(r"^([a-z0-9-]+)==(\S+)$", (ROOT / "packaging" / "pins.txt").read_text(), re.MULTILINE))


@pytest.mark.parametrize("name", ["master", "node"])
def test_what_is_in_a_package_is_what_is_pinned(packages: Packages, name: str) -> None:
    listed = subprocess.run(["dpkg-deb", "--contents", str(getattr(packages, name))], check=True, capture_output=True)
    found = set(re.findall(r"/site-packages/([\w.]+)-([\w.]+)\.dist-info/$", listed.stdout.decode(), re.MULTILINE))
    versions = {re.sub(r"[-_.]+", "-", distribution).lower(): version for distribution, version in found}
    assert versions.pop("vmwatch")
    assert "msgspec" in versions
    assert versions == {distribution: PINS.get(distribution) for distribution in versions}
