"""The mark of a service in maintenance."""

from pathlib import Path

import pytest

from vmwatch.shared.errors import ConfigurationError
from vmwatch.shared.maintenance import Maintenance, read_maintenance, write_maintenance


def test_no_mark_is_no_maintenance(tmp_path: Path) -> None:
    assert read_maintenance(tmp_path / "x.maintenance", 1000.0) is None


def test_a_mark_counts_until_its_end(tmp_path: Path) -> None:
    path = tmp_path / "run" / "x.maintenance"
    mark = Maintenance(2000.0, "anna", "new disk")
    write_maintenance(path, mark)
    assert read_maintenance(path, 1999.0) == mark
    assert read_maintenance(path, 2000.0) is None


def test_line_breaks_do_not_break_the_file(tmp_path: Path) -> None:
    write_maintenance(tmp_path / "x", Maintenance(2000.0, "", "two\nlines"))
    assert read_maintenance(tmp_path / "x", 1.0) == Maintenance(2000.0, "", "two lines")


@pytest.mark.parametrize("text", ["", "until=soon\n", "until=nan\n", "until=-1\n", "nonsense\n"])
def test_a_mark_that_is_not_understood_is_an_error_that_names_the_file(tmp_path: Path, text: str) -> None:
    path = tmp_path / "x.maintenance"
    path.write_text(text)
    with pytest.raises(ConfigurationError, match=r"x\.maintenance"):
        read_maintenance(path, 1.0)
