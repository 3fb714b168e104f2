import stat
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path

from cryptography import x509
from cryptography.x509.verification import PolicyBuilder, Store

from lab.certificates import RENEW_BEFORE, VALIDITY, Authority

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
ADDRESS = IPv4Address("10.77.0.11")


def issue(folder: Path, now: datetime = NOW) -> x509.Certificate:
    authority = Authority.in_folder(folder, name="test", now=now)
    authority.issue("host", organization="podwire:nodes", addresses=[ADDRESS], names=["host"], now=now)
    return certificate(folder, "host")


def certificate(folder: Path, name: str) -> x509.Certificate:
    return x509.load_pem_x509_certificate((folder / f"{name}.crt").read_bytes())


def test_a_certificate_is_good_for_its_address_and_its_name(tmp_path: Path) -> None:
    leaf = issue(tmp_path)
    policy = PolicyBuilder().store(Store([certificate(tmp_path, "ca")])).time(NOW)
    policy.build_server_verifier(x509.IPAddress(ADDRESS)).verify(leaf, [])
    policy.build_server_verifier(x509.DNSName("host")).verify(leaf, [])
    policy.build_client_verifier().verify(leaf, [])


def test_a_certificate_names_its_holder_and_its_group(tmp_path: Path) -> None:
    assert issue(tmp_path).subject.rfc4514_string() == "CN=host,O=podwire:nodes"


def test_keys_are_for_their_owner_alone(tmp_path: Path) -> None:
    issue(tmp_path)
    for name in ("ca.key", "host.key"):
        assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o600


def test_what_is_there_is_kept(tmp_path: Path) -> None:
    first = issue(tmp_path)
    assert issue(tmp_path, NOW + timedelta(days=1)) == first


def test_a_certificate_that_ends_soon_is_made_again(tmp_path: Path) -> None:
    first = issue(tmp_path)
    soon = NOW + VALIDITY - RENEW_BEFORE + timedelta(hours=1)
    again = issue(tmp_path, soon)
    assert again.serial_number != first.serial_number
    assert again.not_valid_after_utc > soon + RENEW_BEFORE


def test_a_pair_that_a_kill_left_half_written_is_made_again(tmp_path: Path) -> None:
    issue(tmp_path)
    (tmp_path / "host.crt").unlink()
    kept = certificate(tmp_path, "ca")
    again = issue(tmp_path)
    again.verify_directly_issued_by(kept)


def test_a_key_of_another_certificate_is_not_used(tmp_path: Path) -> None:
    first = issue(tmp_path)
    authority = Authority.in_folder(tmp_path, name="test", now=NOW)
    authority.issue("other", organization="podwire:nodes", addresses=[ADDRESS], names=["other"], now=NOW)
    (tmp_path / "other.key").replace(tmp_path / "host.key")
    assert issue(tmp_path).serial_number != first.serial_number


def test_a_new_authority_issues_everything_anew(tmp_path: Path) -> None:
    first = issue(tmp_path)
    (tmp_path / "ca.key").unlink()
    again = issue(tmp_path)
    assert again.serial_number != first.serial_number
    again.verify_directly_issued_by(certificate(tmp_path, "ca"))
