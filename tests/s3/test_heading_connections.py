"""Our HEADs use the connections of boto3: its proxies, its certificates, its pool."""

from __future__ import annotations

import os
import ssl
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import pytest
from botocore.client import Config
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from s3direct_uploads.exceptions import BucketUnavailable
from s3direct_uploads.s3 import Bucket, get_bucket
from tests.s3.conftest import KEY, Server, bucket_at, is_by_boto3, learned, serving

PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "AWS_CA_BUNDLE")


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in PROXIES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


@pytest.fixture
def proxy() -> Iterator[Server]:
    with serving() as proxy:
        yield proxy


def make_certificate(folder: Path) -> Path:
    """A key, and a certificate for this machine that it signed itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    names = [x509.DNSName("localhost"), x509.IPAddress(IPv4Address("127.0.0.1"))]
    now = datetime.now(UTC)
    signed = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    file = folder / "certificate.pem"
    pem = serialization.Encoding.PEM
    form, secrecy = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    file.write_bytes(key.private_bytes(pem, form, secrecy) + signed.public_bytes(pem))
    return file


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_certificate(tmp_path_factory.mktemp("tls"))


def showing(certificate: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    return context


@pytest.fixture
def tls(certificate: Path) -> Iterator[Server]:
    with serving(showing(certificate)) as server:
        yield server


def ours(bucket: Bucket) -> None:
    assert [is_by_boto3(bucket) for _ in range(3)] == [True, False, False]


# Connections.


def test_a_thousand_heads_use_one_connection(server: Server) -> None:
    bucket = learned(bucket_at(server.url))
    for _ in range(999):
        bucket.head(KEY)
    assert (len(server.asked), server.connections) == (1000, 1)


def test_sixteen_threads_use_sixteen_connections(server: Server) -> None:
    bucket, start = learned(bucket_at(server.url)), threading.Barrier(16)

    def heads(number: int) -> set[int]:
        start.wait()
        return {bucket.head(f"{KEY}{number}/{each}").size for each in range(20)}

    with ThreadPoolExecutor(16) as threads:
        assert list(threads.map(heads, range(16))) == [{5}] * 16
    assert len({path for path, _ in server.asked}) == 1 + 16 * 20
    assert server.connections <= 16


def test_threads_that_learn_together_all_find_it(server: Server) -> None:
    bucket, start = bucket_at(server.url), threading.Barrier(16)

    def heads(_: int) -> int:
        start.wait()
        return bucket.head(KEY).size

    with ThreadPoolExecutor(16) as threads:
        assert list(threads.map(heads, range(16))) == [5] * 16
    assert not is_by_boto3(bucket)


def test_a_connection_that_s3_closed_meanwhile_is_made_anew(server: Server) -> None:
    bucket = learned(bucket_at(server.url))
    server.headers["Connection"] = "close"
    for _ in range(3):
        assert not is_by_boto3(bucket)
    assert server.connections == 3


def test_a_forked_process_has_connections_of_its_own(server: Server, storage_options: Any) -> None:
    """As a worker of gunicorn, if the master has sent HEADs already."""
    storage_options(endpoint_url=server.url)
    ours(get_bucket("default"))
    assert server.connections == 1
    child = os.fork()
    if child == 0:  # pragma: no cover
        found = [get_bucket("default").head(KEY).size for _ in range(3)]
        os._exit(0 if found == [5, 5, 5] else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert server.connections == 2
    assert not is_by_boto3(get_bucket("default"))
    assert server.connections == 2


# Proxies.


@pytest.mark.parametrize("way", ["the environment", "botocore's config"])
def test_a_proxy_gets_every_head(proxy: Server, monkeypatch: pytest.MonkeyPatch, way: str) -> None:
    options = {}
    if way == "the environment":
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
    else:
        options["client_config"] = Config(proxies={"http": proxy.url})
    ours(bucket_at("http://s3.invalid:9000", **options))
    assert len(proxy.asked) == 3
    for path, headers in proxy.asked:
        assert path.startswith("http://s3.invalid:9000/media/site/")
        assert headers["host"] == "s3.invalid:9000"


def test_a_proxy_is_told_who_asks(proxy: Server) -> None:
    with_user = proxy.url.replace("//", "//user:secret@")
    config = Config(proxies={"http": with_user})
    ours(bucket_at("http://s3.invalid:9000", client_config=config))
    said = {headers["proxy-authorization"] for _, headers in proxy.asked}
    assert said == {"Basic dXNlcjpzZWNyZXQ="}


@pytest.mark.parametrize("way", ["the environment", "botocore's config"])
def test_a_tunnel_through_a_proxy_leads_to_s3_and_its_certificate_is_checked(
    proxy: Server, tls: Server, certificate: Path, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    options: dict[str, Any] = {"verify": str(certificate)}
    if way == "the environment":
        monkeypatch.setenv("HTTPS_PROXY", proxy.url)
    else:
        options["client_config"] = Config(proxies={"https": proxy.url})
    ours(bucket_at(f"https://localhost:{tls.port}", **options))
    assert proxy.tunnels == [f"localhost:{tls.port}"], "one connection"
    assert (len(proxy.asked), len(tls.asked)) == (0, 3)


def test_a_host_in_no_proxy_is_asked_directly(
    server: Server, proxy: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", proxy.url)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    ours(bucket_at(server.url))
    assert (len(proxy.asked), len(server.asked)) == (0, 3)


@pytest.mark.parametrize("status", [502, 503, 407])
def test_a_proxy_that_fails_is_no_s3(proxy: Server, status: int) -> None:
    config = Config(proxies={"http": proxy.url})
    bucket = learned(bucket_at("http://s3.invalid:9000", client_config=config))
    proxy.status = status
    proxy.asked.clear()
    with pytest.raises(BucketUnavailable):
        bucket.head(KEY)
    assert len(proxy.asked) == (1 if status == 407 else 2)


def test_a_proxy_that_is_away_is_no_missing_object(tls: Server, certificate: Path) -> None:
    with serving() as proxy:
        config = Config(proxies={"https": proxy.url})
        url = f"https://localhost:{tls.port}"
        bucket = learned(bucket_at(url, client_config=config, verify=str(certificate)))
    bucket._client._endpoint.http_session.close()  # type: ignore[attr-defined]
    with pytest.raises(BucketUnavailable):
        bucket.head(KEY)


# Certificates.


def test_a_certificate_is_trusted_if_the_storage_says_so(tls: Server, certificate: Path) -> None:
    ours(bucket_at(tls.url.replace("http:", "https:"), verify=str(certificate)))
    assert tls.connections == 1


def test_a_certificate_is_trusted_if_the_environment_says_so(
    tls: Server, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_CA_BUNDLE", str(certificate))
    ours(bucket_at(tls.url.replace("http:", "https:")))


@pytest.mark.filterwarnings("ignore::urllib3.exceptions.InsecureRequestWarning")
def test_no_certificate_is_checked_if_the_storage_says_so(tls: Server) -> None:
    ours(bucket_at(tls.url.replace("http:", "https:"), verify=False))


def test_another_certificate_is_not_trusted(certificate: Path, tmp_path: Path) -> None:
    with serving(showing(certificate)) as server:
        bucket = learned(bucket_at(server.url.replace("http:", "https:"), verify=str(certificate)))
        server.headers["Connection"] = "close"
        assert not is_by_boto3(bucket)
    with serving(showing(make_certificate(tmp_path)), server.port) as another:
        with pytest.raises(BucketUnavailable):
            bucket.head(KEY)
        assert another.asked == []


def test_a_client_certificate_is_shown(certificate: Path) -> None:
    context = showing(certificate)
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(certificate)
    config = Config(client_cert=(str(certificate), str(certificate)))
    with serving(context) as server:
        url = server.url.replace("http:", "https:")
        ours(bucket_at(url, client_config=config, verify=str(certificate)))
        with pytest.raises(BucketUnavailable):
            bucket_at(url, verify=str(certificate)).head(KEY)
