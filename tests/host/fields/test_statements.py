"""What a row does to uploads is in the transaction of the very statement that writes the row."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import IntegrityError, connection, transaction
from django.test.utils import CaptureQueriesContext

from s3direct_uploads.exceptions import AlreadyAttached
from s3direct_uploads.fields import UploadFileField
from tests.conftest import Bucket
from tests.field_models import Album, Portrait, Snap
from tests.host.fields.test_fields import held, made

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def there_is_s3(s3: Bucket) -> None:
    pass


def statements(queries: CaptureQueriesContext) -> list[str]:
    return [each["sql"].split()[0] for each in queries]


def test_nothing_stays_on_the_connection() -> None:
    Snap.objects.create(title="1", image=made())
    assert connection.execute_wrappers == []
    with pytest.raises(IntegrityError):
        Snap.objects.create(title="1", image=made())
    assert connection.execute_wrappers == []


def test_a_statement_that_is_never_sent_claims_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    upload = made()
    snap = Snap(title="1", image=upload, album_id=1)
    field: Any = Snap._meta.get_field("album")
    with monkeypatch.context() as patch:
        patch.setattr(field, "get_db_prep_save", lambda *_, **__: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            snap.save()
    assert held(upload) == ""
    del snap
    assert Snap.objects.count() == 0
    assert connection.execute_wrappers == []


def test_statements_that_other_fields_need_meanwhile_do_no_harm(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    upload, album = made(), Album.objects.create(title="x")
    field: Any = Snap._meta.get_field("album")
    prepare = field.get_db_prep_save

    def ask_first(value: Any, connection: Any) -> Any:
        assert Album.objects.filter(pk=album.pk).exists()
        return prepare(value, connection)

    monkeypatch.setattr(field, "get_db_prep_save", ask_first)
    Snap.objects.create(title="1", image=upload, album=album)
    assert held(upload) == "tests.Snap.image"


def test_a_wrapper_of_the_host_is_left_as_it_is() -> None:
    seen: list[str] = []

    def log(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        seen.append(sql.split()[0])
        return execute(sql, params, many, context)

    upload = made()
    with connection.execute_wrapper(log):
        Snap.objects.create(title="1", image=upload)
    assert "INSERT" in seen
    assert (held(upload), connection.execute_wrappers) == ("tests.Snap.image", [])


def test_a_row_without_a_file_costs_its_one_statement() -> None:
    with CaptureQueriesContext(connection) as queries:
        Snap.objects.create(title="1")
        Portrait.objects.create()
    assert statements(queries) == ["INSERT", "INSERT"]


def test_one_refused_upload_of_many_claims_none_of_them() -> None:
    used, free = made(), made()
    used.attach()
    snaps = [Snap(title="1", image=free), Snap(title="2", image=used)]
    with pytest.raises(AlreadyAttached):
        Snap.objects.bulk_create(snaps)
    assert (held(free), Snap.objects.count()) == ("", 0)
    snaps[1].image = made()
    created = Snap.objects.bulk_create(snaps)
    assert [each.pk for each in created] == list(Snap.objects.values_list("pk", flat=True))
    assert held(free) == "tests.Snap.image"


def test_many_rows_in_many_batches() -> None:
    uploads = [made() for _ in range(7)]
    snaps = [Snap(title=str(number), image=each) for number, each in enumerate(uploads)]
    Snap.objects.bulk_create(snaps, batch_size=3)
    assert {held(each) for each in uploads} == {"tests.Snap.image"}
    assert {each.image.name for each in Snap.objects.all()} == {each.name for each in uploads}


def test_two_rows_that_share_one_file_object() -> None:
    upload = made()
    first = Snap(title="1", image=upload)
    second = Snap(title="2")
    second.image = first.image
    Snap.objects.bulk_create([first, second])
    assert set(Snap.objects.values_list("image", flat=True)) == {upload.name}
    first.delete()
    assert held(upload) == "tests.Snap.image"
    second.delete()
    assert held(upload) == ""


def test_a_row_with_a_key_of_its_own_is_updated_or_inserted() -> None:
    one, two, three = made(), made(), made()
    Snap(pk=7, title="1", image=one).save()
    assert held(one) == "tests.Snap.image"
    Snap(pk=7, title="1", image=two).save()
    assert (held(one), held(two)) == ("", "tests.Snap.image")
    Snap(pk=7, title="1").save()
    assert (held(two), two.status) == ("", "deleted")
    with pytest.raises(IntegrityError):
        Snap(pk=8, title="1", image=three).save()
    assert held(three) == "", "not even by the UPDATE that found no row"


def test_what_is_logged_has_the_name(settings: Any) -> None:
    settings.DEBUG = True
    upload = made()
    with CaptureQueriesContext(connection) as queries:
        Snap.objects.bulk_create([Snap(title="1", image=upload), Snap(title="2")])
    [insert] = [each["sql"] for each in queries if "INTO" in each["sql"]]
    assert upload.name in insert


def test_a_transaction_around_it_is_used_as_it_is() -> None:
    upload = made()
    with transaction.atomic(), CaptureQueriesContext(connection) as queries:
        Snap.objects.create(title="1", image=upload)
    assert "SAVEPOINT" not in statements(queries)
    assert "BEGIN" not in statements(queries)
    assert isinstance(Snap._meta.get_field("image"), UploadFileField)
