"""Certificates that are read again, and what a listener offers of TLS: handshakes in memory, without a port."""

import ssl
from pathlib import Path
from typing import cast

import pytest

from headwater.security.cipher_suites import TlsError
from headwater.security.tls import TlsFiles
from tests.certificates import make_certificate


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("pki")
    authority, other = make_certificate(directory, "authority"), make_certificate(directory, "other")
    make_certificate(directory, "broker", authority)
    make_certificate(directory, "renewed", authority)
    make_certificate(directory, "client", authority)
    make_certificate(directory, "stranger", other)
    return directory


def client_context(pki: Path, certificate: str | None = None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(pki / "authority.crt"))
    if certificate is not None:
        context.load_cert_chain(pki / f"{certificate}.pem")
    return context


def shake_hands(server: ssl.SSLContext, client: ssl.SSLContext, session: ssl.SSLSession | None = None) -> ssl.SSLObject:
    """The client's side of a handshake, with what came after it; raises SSLError."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ours = server.wrap_bio(to_server, to_client, server_side=True)
    theirs = client.wrap_bio(to_client, to_server, server_hostname="localhost", session=session)
    waiting = [theirs, ours]
    for _ in range(10):
        for side in list(waiting):
            try:
                side.do_handshake()
                waiting.remove(side)
            except ssl.SSLWantReadError:
                pass
        if not waiting:
            break
    assert not waiting
    ours.write(b"after the handshake")
    assert theirs.read() == b"after the handshake"
    return theirs


def name_of(connection: ssl.SSLObject) -> str:
    certificate = connection.getpeercert()
    assert certificate is not None
    subject = cast(tuple[tuple[tuple[str, str], ...], ...], certificate["subject"])
    return dict(pair for group in subject for pair in group)["commonName"]


@pytest.fixture
def files(pki: Path, tmp_path: Path) -> TlsFiles:
    for name in ("broker", "authorities"):
        source = pki / ("broker.pem" if name == "broker" else "authority.crt")
        (tmp_path / f"{name}.pem").write_text(source.read_text())
    return TlsFiles(
        str(tmp_path / "broker.pem"), authorities=str(tmp_path / "authorities.pem"), client_auth="requested"
    )


def halves(path: Path) -> tuple[str, str]:
    """The key and the certificate of a PEM file."""
    text = path.read_text()
    start = text.index("-----BEGIN CERTIFICATE")
    return text[:start], text[start:]


@pytest.mark.parametrize("damage", ["no key", "another key", "no certificate", "empty", "missing"])
def test_a_failed_reload_keeps_what_was_there(files: TlsFiles, pki: Path, damage: str) -> None:
    (key, _), (other_key, certificate) = halves(pki / "broker.pem"), halves(pki / "renewed.pem")
    content = {
        "no key": certificate,
        "another key": key + certificate,
        "no certificate": other_key,
        "empty": "",
        "missing": None,
    }[damage]
    path = Path(files.certificate)
    if content is None:
        path.unlink()
    else:
        path.write_text(content)
    with pytest.raises(TlsError, match=r"broker\.pem"):
        files.reload_if_changed()
    assert name_of(shake_hands(files.context, client_context(pki))) == "broker"
    assert files.reload_if_changed() is False  # said once; nothing has changed since
    path.write_text(other_key + certificate)
    assert files.reload_if_changed() is True
    assert name_of(shake_hands(files.context, client_context(pki))) == "renewed"


def test_an_authority_that_was_removed_is_no_longer_trusted(files: TlsFiles, pki: Path) -> None:
    shake_hands(files.context, client_context(pki, "client"))
    with pytest.raises(ssl.SSLError):
        shake_hands(files.context, client_context(pki, "stranger"))
    assert files.authorities is not None
    Path(files.authorities).write_text((pki / "other.crt").read_text())
    assert files.reload_if_changed() is True
    shake_hands(files.context, client_context(pki, "stranger"))
    with pytest.raises(ssl.SSLError):
        shake_hands(files.context, client_context(pki, "client"))


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_session_from_before_is_not_resumed_past_a_reload(
    files: TlsFiles, pki: Path, version: ssl.TLSVersion
) -> None:
    client = client_context(pki, "client")
    client.maximum_version = client.minimum_version = version
    session = shake_hands(files.context, client).session
    assert shake_hands(files.context, client, session).session_reused
    assert files.authorities is not None
    Path(files.authorities).write_text((pki / "other.crt").read_text())
    files.reload_if_changed()
    with pytest.raises(ssl.SSLError):
        shake_hands(files.context, client, session)


def test_a_connection_keeps_what_it_began_with(files: TlsFiles, pki: Path) -> None:
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    begun = files.context.wrap_bio(incoming, outgoing, server_side=True)
    before = begun.context
    Path(files.certificate).write_text((pki / "renewed.pem").read_text())
    files.reload_if_changed()
    assert begun.context is before
    assert files.context.current is not before


@pytest.mark.parametrize(
    ("versions", "suites", "client_version", "expected"),
    [
        (("TLSv1.3",), (), ssl.TLSVersion.TLSv1_2, None),
        (("TLSv1.2",), (), ssl.TLSVersion.TLSv1_3, None),
        (("TLSv1.3",), (), ssl.TLSVersion.TLSv1_3, "TLSv1.3"),
        (("TLSv1.2", "TLSv1.3"), (), ssl.TLSVersion.TLSv1_2, "TLSv1.2"),
        (
            ("TLSv1.2", "TLSv1.3"),
            ("TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",),
            ssl.TLSVersion.TLSv1_2,
            "ECDHE-RSA-AES128-GCM-SHA256",
        ),
        (("TLSv1.2", "TLSv1.3"), ("TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",), ssl.TLSVersion.TLSv1_3, None),
        (("TLSv1.2",), ("TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256",), ssl.TLSVersion.TLSv1_2, "CHACHA20"),
        (("TLSv1.2",), ("ECDHE-RSA-AES256-SHA384",), ssl.TLSVersion.TLSv1_2, "ECDHE-RSA-AES256-SHA384"),
        (
            ("TLSv1.2", "TLSv1.3"),
            ("TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256", "TLS_AES_128_GCM_SHA256"),
            ssl.TLSVersion.TLSv1_2,
            None,
        ),
    ],
)
def test_only_what_is_enabled_is_served(
    pki: Path, versions: tuple[str, ...], suites: tuple[str, ...], client_version: ssl.TLSVersion, expected: str | None
) -> None:
    files = TlsFiles(str(pki / "broker.pem"), versions=versions, suites=suites)
    client = client_context(pki)
    client.maximum_version = client.minimum_version = client_version
    if expected is None:
        with pytest.raises(ssl.SSLError):
            shake_hands(files.context, client)
        return
    connection = shake_hands(files.context, client)
    cipher = connection.cipher()
    assert cipher is not None
    assert expected in (connection.version() or "") + " " + cipher[0]


@pytest.mark.parametrize(
    ("versions", "suites", "says"),
    [
        (("TLSv1.1",), (), r"TLSv1\.1 cannot be served"),
        ((), (), "nothing cannot be served"),
        (("TLSv1.2",), ("TLS_RSA_WITH_AES_128_CBC_SHA",), "TLS_RSA_WITH_AES_128_CBC_SHA cannot be served"),
        (("TLSv1.2",), ("TLS_ECDHE_RSA_WITH_NULL_SHA",), "cannot be served"),
        (("TLSv1.3",), ("TLS_AES_128_GCM_SHA256",), "one by one"),
        (("TLSv1.3",), ("TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",), "none of them"),
        (("TLSv1.2",), ("ALL",), "cannot be served"),
    ],
)
def test_what_cannot_be_served_is_refused(
    pki: Path, versions: tuple[str, ...], suites: tuple[str, ...], says: str
) -> None:
    with pytest.raises(TlsError, match=says):
        TlsFiles(str(pki / "broker.pem"), versions=versions, suites=suites)
