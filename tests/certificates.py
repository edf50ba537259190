"""Keys and certificates for tests, made by openssl."""

import subprocess
from pathlib import Path


def openssl(*words: object) -> None:
    subprocess.run(["openssl", *map(str, words)], check=True, capture_output=True)


def make_certificate(directory: Path, name: str, authority: Path | None = None, *, key_bits: int = 2048) -> Path:
    """A key and certificate in one PEM file, signed by an authority or by itself."""
    key, request, certificate = (directory / f"{name}.{suffix}" for suffix in ("key", "csr", "crt"))
    openssl(
        "req",
        "-newkey",
        f"rsa:{key_bits}",
        "-noenc",
        "-keyout",
        key,
        "-out",
        request,
        "-subj",
        f"/O=Headwater/CN={name}",
    )
    extensions = directory / "extensions"
    extensions.write_text("subjectAltName=IP:127.0.0.1,DNS:localhost\nbasicConstraints=CA:TRUE\n")
    signer = ["-key", key] if authority is None else ["-CA", authority, "-CAkey", authority]
    openssl("x509", "-req", "-in", request, *signer, "-days", 2, "-out", certificate, "-extfile", extensions)
    pem = directory / f"{name}.pem"
    pem.write_text(key.read_text() + certificate.read_text())
    return pem


def make_suite_files(directory: Path, password: str) -> dict[str, Path]:
    """What librdkafka's suite expects of an authority and a client: named as in its environment, without SSL_."""
    authority = make_certificate(directory, "authority")
    client = make_certificate(directory, "client", authority)
    other = make_certificate(directory, "other-authority")
    names = ("ca.pem", "ca.der", "all_cas.pem", "pub.pem", "pub.der", "priv.pem", "priv.der", "client.p12")
    ca_pem, ca_der, all_cas, pub_pem, pub_der, priv_pem, priv_der, pkcs = (
        directory / f"suite-{name}" for name in names
    )
    ca_pem.write_text(authority.with_suffix(".crt").read_text())
    all_cas.write_text(ca_pem.read_text() + other.with_suffix(".crt").read_text())
    pub_pem.write_text(client.with_suffix(".crt").read_text())
    for pem, der in ((ca_pem, ca_der), (pub_pem, pub_der)):
        openssl("x509", "-in", pem, "-outform", "DER", "-out", der)
    secret = ("-passout", f"pass:{password}")
    for form, path in (("PEM", priv_pem), ("DER", priv_der)):
        openssl("pkcs8", "-topk8", "-in", client, "-outform", form, "-out", path, *secret)
    openssl("pkcs12", "-export", "-in", pub_pem, "-inkey", client, "-certfile", ca_pem, "-out", pkcs, *secret)
    return {
        "ca_pem": ca_pem,
        "ca_der": ca_der,
        "all_cas_pem": all_cas,
        "pub_pem": pub_pem,
        "pub_der": pub_der,
        "priv_pem": priv_pem,
        "priv_der": priv_der,
        "pkcs": pkcs,
    }
