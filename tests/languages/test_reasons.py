"""A reason is stored in English, and read in any language."""

from __future__ import annotations

import re

import pytest
from django.utils.functional import lazystr
from django.utils.translation import gettext_lazy, override

from s3direct_uploads.exceptions import IS_NOW, NotPending, ObjectMismatch
from s3direct_uploads.models import Upload
from s3direct_uploads.reasons import Reason, localized, read
from tests.languages.conftest import assert_korean

# Values that look like the text around them.
VALUES = ["1", "image/png", "video/webm;codecs=vp8", "a was sent.", "%(sent)s", "x\ny", "100%"]


def params_of(reason: Reason, value: str) -> dict[str, str]:
    return dict.fromkeys(re.findall(r"%\((\w+)\)s", reason), value)


@pytest.mark.parametrize("reason", Reason)
@pytest.mark.parametrize("value", VALUES)
def test_each_of_our_reasons_is_read_again_as_what_it_was(reason: Reason, value: str) -> None:
    error = ObjectMismatch(reason, params_of(reason, value))
    stored = str(error)
    again, params = read(stored)
    assert (again % params if params else again) == stored
    if value != "a was sent.":
        assert (again, params) == (reason, params_of(reason, value))
    with override("ko"):
        assert error.detail == localized(stored) or value == "a was sent."
        assert_korean(error.detail, [value])
        assert str(error) == stored  # for logs


def test_a_hosts_own_reason_is_told_as_it_was_written() -> None:
    with override("ko"):
        for written in ("It has a virus: 100% sure.", "바이러스입니다.", "%(x)s", "", "%"):
            assert localized(written) == written


def test_a_hosts_lazy_reason_is_stored_in_english_and_told_in_the_readers_language() -> None:
    error = ObjectMismatch(gettext_lazy("This field is required."))
    with override("ko"):
        assert str(error) == "This field is required."
        assert error.detail == localized(str(error)) == "이 필드는 필수 항목입니다."
    assert ObjectMismatch(lazystr("No.")).detail == "No."


def test_a_reason_that_was_cut_off_is_told_as_it_is() -> None:
    whole = str(ObjectMismatch(Reason.OTHER_TYPE, {"declared": "a" * 250, "sent": "b" * 250}))
    with override("ko"):
        assert localized(whole[:255]) == whole[:255]


def test_each_status_has_a_sentence() -> None:
    assert set(IS_NOW) == {str(each) for each in Upload.Status}
    for status in Upload.Status:
        error = NotPending(IS_NOW[status])
        assert str(error) == f"This upload is {status}."
        with override("ko"):
            assert_korean(error.detail)
            assert_korean(str(status.label))
