"""Which problems the page of a VM shows."""

from vmwatch.panel.api.problems import about
from vmwatch.panel.problems import Kind, Level, Phase, Problem

UUID, OTHER = (f"{number}0000000-0000-4000-8000-000000000000" for number in (1, 2))


def problem(number: int, kind: str, subject: str, text: str = "", phase: str = Phase.OPEN) -> Problem:
    return Problem(number, kind, subject, Level.ERROR, text, 1.0, 1.0, phase=phase)


BY_NAME = problem(3, Kind.DUPLICATE, "name web", f"2 VMs have one name: web ({UUID}) on a, web ({OTHER}) on b")


def test_a_vm_has_the_open_problems_whose_object_it_is_in_their_order() -> None:
    own, second = problem(1, Kind.INSTALL_FAILED, UUID), problem(2, Kind.DUPLICATE, UUID, phase=Phase.FAILED)
    assert about([second, problem(4, Kind.INSTALL_FAILED, OTHER), own], UUID) == [own, second]


def test_each_vm_of_a_duplicate_by_name_has_that_problem() -> None:
    assert about([BY_NAME], UUID) == about([BY_NAME], OTHER) == [BY_NAME]


def test_a_vm_has_no_solved_problem_and_none_of_another_type_that_mentions_it() -> None:
    solved = problem(1, Kind.INSTALL_FAILED, UUID, phase=Phase.SOLVED)
    assert about([solved, problem(2, Kind.REFUSED, "kvm-01", f"({UUID})")], UUID) == []
