"""docs/troubleshooting.md has every reason once. tests/chart/test_security.py proves that the file is current."""

from collections import Counter

from charts.troubleshooting import FAULTS, SYMPTOMS, page
from pantala_protocol.reasons import Reason


def test_each_reason_has_one_symptom_and_a_meaning() -> None:
    found = Counter(reason for symptom in SYMPTOMS for reason in symptom.meanings)
    assert dict.fromkeys(Reason, 1) == found


def test_the_page_has_each_next_step() -> None:
    text = page()
    assert [] == [reason for reason in Reason if f"### {reason}\n" not in text or reason.action not in text]


def test_each_fault_links_to_its_reason() -> None:
    text = page()
    assert len(FAULTS) == len({reason for _, reason in FAULTS}) >= 15
    assert all(f"| {fault} | [`{reason}`](#{reason.lower()}) |" in text for fault, reason in FAULTS)
