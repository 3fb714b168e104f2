"""The lab's certificate authority, and a certificate for each host.

Made once and kept: a host that comes back shows the certificate it had. What is missing, has another signer or ends
soon is made again.
"""

import os
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

# A lab is thrown away long before; the margin is for one that is not.
VALIDITY = timedelta(days=365)
RENEW_BEFORE = timedelta(days=30)
# A clock that is a little behind must not find the certificate not yet valid.
_BACKDATE = timedelta(minutes=5)


class Authority:
    """A certificate authority in a folder: `ca.crt`, `ca.key`, and `<name>.crt`, `<name>.key` of each holder."""

    def __init__(self, folder: Path, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> None:
        self._folder = folder
        self._certificate = certificate
        self._key = key

    @classmethod
    def in_folder(cls, folder: Path, *, name: str, now: datetime) -> "Authority":
        """The folder's authority; made, with a new key, where there is none that will do."""
        folder.mkdir(parents=True, exist_ok=True)
        kept = _read(folder, "ca")
        if kept is not None and kept[0].not_valid_after_utc - now > RENEW_BEFORE:
            return cls(folder, *kept)
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        usage = x509.KeyUsage(
            digital_signature=True,
            key_cert_sign=True,
            crl_sign=True,
            content_commitment=False,
            key_encipherment=False,
            data_encipherment=False,
            key_agreement=False,
            encipher_only=False,
            decipher_only=False,
        )
        certificate = (
            _builder(subject, subject, key, key, now)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(usage, critical=True)
            .sign(key, hashes.SHA256())
        )
        _write(folder, "ca", certificate, key)
        return cls(folder, certificate, key)

    def issue(
        self, name: str, *, organization: str, addresses: list[IPv4Address], names: list[str], now: datetime
    ) -> None:
        """Makes sure that `name` has a certificate, good for both ends of a connection."""
        kept = _read(self._folder, name)
        if kept is not None and kept[0].not_valid_after_utc - now > RENEW_BEFORE and self._signed(kept[0]):
            return
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name(
            [
                x509.NameAttribute(NameOID.ORGANIZATION_NAME, organization),
                x509.NameAttribute(NameOID.COMMON_NAME, name),
            ]
        )
        alternatives = [*(x509.IPAddress(address) for address in addresses), *(x509.DNSName(entry) for entry in names)]
        both_ends = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
        certificate = (
            _builder(subject, self._certificate.subject, key, self._key, now)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
            .add_extension(x509.ExtendedKeyUsage(both_ends), critical=False)
            .sign(self._key, hashes.SHA256())
        )
        _write(self._folder, name, certificate, key)

    def _signed(self, certificate: x509.Certificate) -> bool:
        try:
            certificate.verify_directly_issued_by(self._certificate)
        except (InvalidSignature, ValueError):
            return False
        return True


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    issuer_key: ec.EllipticCurvePrivateKey,
    now: datetime,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now.astimezone(UTC) - _BACKDATE)
        .not_valid_after(now.astimezone(UTC) + VALIDITY)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False)
    )


def _read(folder: Path, name: str) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey] | None:
    """The pair of that name; None where a file is missing, or a kill came between writing the two."""
    try:
        certificate = x509.load_pem_x509_certificate((folder / f"{name}.crt").read_bytes())
        key = serialization.load_pem_private_key((folder / f"{name}.key").read_bytes(), password=None)
    except FileNotFoundError:
        return None
    if not isinstance(key, ec.EllipticCurvePrivateKey) or certificate.public_key() != key.public_key():
        return None
    return certificate, key


def _write(folder: Path, name: str, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> None:
    pem = serialization.Encoding.PEM
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    _replace(folder / f"{name}.key", private, mode=0o600)
    _replace(folder / f"{name}.crt", certificate.public_bytes(pem), mode=0o644)


def _replace(file: Path, content: bytes, *, mode: int) -> None:
    new = file.with_name(file.name + ".new")
    with open(new, "wb", opener=lambda path, flags: os.open(path, flags, mode)) as out:
        out.write(content)
    new.replace(file)
