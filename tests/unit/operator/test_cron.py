"""A schedule is read as CronJobs read it. The expected times are those of robfig/cron 3.0.1, its parser."""

import json
import re
from datetime import UTC, datetime
from functools import cache
from itertools import islice

import pytest
from cronsim import CronSim
from hypothesis import given
from hypothesis import strategies as st

from pantala_operator.resources import cron
from tests.support.crds import schema

AT = datetime(2026, 1, 30, 22, 58, tzinfo=UTC)
REFUSED = (
    *("60 * * * *", "* 24 * * *", "* * 0 * *", "* * 32 * *", "* * * 13 *", "* * * 0 *", "* * * * 7", "* * * * 1-7"),
    *("5-1 * * * *", "* * * dec-jan *", "*/0 * * * *", "* * * * foo", "jan * * * *", "* * * mon *"),
)
"""They have the form, but a value is wrong."""
MALFORMED = (
    *("", "* * * *", "* * * * * *", "0 0 L * *", "0 0 LW * *", "0 0 15W * *", "0 0 * * 5L", "0 0 * * 5#2", "a b c d e"),
    *("@reboot", "@every 10s", "@Hourly", "@hourly ", "TZ=UTC 0 0 * * *", "CRON_TZ=UTC 0 0 * * *", "1--2 * * * *"),
    *("-1 * * * *", "1/2/3 * * * *", "0\n0 1 1 0", "0 0 1 1 0\n", "٣ * * * *", "H * * * *"),
)


@cache
def rule() -> str:
    """The CRD's pattern."""
    field = schema("imageprefetches")["properties"]["spec"]["properties"]["schedule"]["properties"]["cron"]
    match = re.fullmatch(r"self\.matches\(r'(.*)'\)", field["x-kubernetes-validations"][0]["rule"])
    assert match is not None
    return match[1]


@pytest.mark.parametrize(
    ("text", "due"),
    [
        ("0 0 ? * *", ["01-31T00:00", "02-01T00:00", "02-02T00:00"]),
        ("0 0 * * ?", ["01-31T00:00", "02-01T00:00", "02-02T00:00"]),
        ("? ? ? ? ?", ["01-30T22:59", "01-30T23:00", "01-30T23:01"]),
        ("?/20 * * * *", ["01-30T23:00", "01-30T23:20", "01-30T23:40"]),
        ("0 0 ? * MON", ["02-02T00:00", "02-09T00:00", "02-16T00:00"]),
        ("0 0 13 * ?", ["02-13T00:00", "03-13T00:00", "04-13T00:00"]),
        ("0 0 13 * fri", ["02-06T00:00", "02-13T00:00", "02-20T00:00"]),
        ("0 0 */10 * fri", ["01-31T00:00", "02-01T00:00", "02-06T00:00"]),
        ("0 0 1,*/1 * fri", ["02-06T00:00", "02-13T00:00", "02-20T00:00"]),
        ("50/5 23 * * *", ["01-30T23:50", "01-30T23:55", "01-31T23:50"]),
        ("10-20/5,40 1 * * *", ["01-31T01:10", "01-31T01:15", "01-31T01:20"]),
        ("0 0 1 Jan-MAR *", ["02-01T00:00", "03-01T00:00", "01-01T00:00"]),
        ("0 12 * 2 sun,Sat", ["02-01T12:00", "02-07T12:00", "02-08T12:00"]),
        ("5-5/2 0 * * *", ["01-31T00:05", "02-01T00:05", "02-02T00:05"]),
        (" 0\t0  1 1 0 ", ["01-01T00:00", "01-03T00:00", "01-10T00:00"]),
        ("@hourly", ["01-30T23:00", "01-31T00:00", "01-31T01:00"]),
        ("@daily", ["01-31T00:00", "02-01T00:00", "02-02T00:00"]),
        ("@midnight", ["01-31T00:00", "02-01T00:00", "02-02T00:00"]),
        ("@weekly", ["02-01T00:00", "02-08T00:00", "02-15T00:00"]),
        ("@monthly", ["02-01T00:00", "03-01T00:00", "04-01T00:00"]),
        ("@yearly", ["01-01T00:00"] * 3),
        ("@annually", ["01-01T00:00"] * 3),
    ],
)
def test_a_schedule_is_due_when_a_cronjob_would_be(text: str, due: list[str]) -> None:
    assert re.search(rule(), text)
    assert due == [f"{at:%m-%dT%H:%M}" for at in islice(CronSim(cron.standard(text), AT), 3)]


@pytest.mark.parametrize("text", REFUSED)
def test_a_wrong_value_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"^the "):
        cron.standard(text)


@pytest.mark.parametrize("text", MALFORMED)
def test_another_form_is_refused_here_and_by_the_api_server(text: str) -> None:
    assert not re.search(rule(), text.replace("\n", "\v"))  # RE2 ends at the end, not before a line break
    with pytest.raises(ValueError, match="form of a CronJob's schedule"):
        cron.standard(text)


def test_a_time_zone_in_the_schedule_is_refused_with_the_way_out() -> None:
    with pytest.raises(ValueError, match="into timeZone"):
        cron.standard("TZ=UTC 0 0 * * *")


@given(st.text("0123456789*?,-/ @LWTZ=janmodec", max_size=20))
def test_the_crd_takes_what_the_operator_reads(text: str) -> None:
    try:
        cron.standard(text)
    except ValueError:
        return
    assert re.search(rule(), text), json.dumps(text)
