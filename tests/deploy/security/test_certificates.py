"""What is wrong with a certificate or key is said before anything starts, with the file and the remedy."""

from datetime import timedelta

import pytest
from cryptography.hazmat.primitives import serialization

from recollect.errors import SetupError
from recollect.security.certificates import TlsFiles, read_identity

DAY = timedelta(days=1)


def test_what_is_in_order_is_read_with_its_expiry(authority):
    pair = authority.issue("server", ends=3 * DAY)
    identity = read_identity(TlsFiles(certificate=pair.certificate, key=pair.key, client_ca=authority.path))
    assert (identity.certificate, identity.key) == pair.read()
    assert identity.client_ca == authority.roots
    assert identity.until > read_identity(TlsFiles(**vars(authority.issue("other", ends=2 * DAY)))).until


def missing(pair, _authority):
    pair.key.unlink()
    return "cannot read .*server.key .*No such file"


def a_directory(pair, _authority):
    pair.certificate.unlink()
    pair.certificate.mkdir()
    return "cannot read .*server.pem .*directory"


def no_certificate(pair, _authority):
    pair.certificate.write_text("hello")
    return r"server.pem has no certificate in PEM .*BEGIN CERTIFICATE"


def no_key(pair, _authority):
    pair.key.write_bytes(pair.certificate.read_bytes())
    return "server.key has no private key in PEM"


def key_of_another(pair, authority):
    pair.key.write_bytes(authority.issue("other").key.read_bytes())
    return r"server.key is not the key of the certificate .*server.pem \(CN=recollect\)"


def locked_key(pair, _authority):
    key = serialization.load_pem_private_key(pair.key.read_bytes(), None)
    how = serialization.BestAvailableEncryption(b"secret")
    pair.key.write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, how))
    return "server.key needs a passphrase"


def expired(_pair, authority):
    authority.issue("server", begins=-2 * DAY, ends=-DAY)
    return "server.pem expired on .*renew it"


def not_yet(_pair, authority):
    authority.issue("server", begins=DAY, ends=2 * DAY)
    return "server.pem is not valid before .*correct the clock"


@pytest.mark.parametrize(
    "spoil", [missing, a_directory, no_certificate, no_key, key_of_another, locked_key, expired, not_yet]
)
def test_what_is_not_in_order_is_named_with_its_remedy(authority, spoil):
    pair = authority.issue("server")
    says = spoil(pair, authority)
    with pytest.raises(SetupError, match=says):
        read_identity(TlsFiles(certificate=pair.certificate, key=pair.key))


def test_roots_of_callers_are_checked_too(authority, tmp_path):
    pair = authority.issue("server")
    old = authority.issue("old", begins=-2 * DAY, ends=-DAY).certificate
    for roots, says in ((tmp_path / "none.pem", "No such file"), (pair.key, "no certificate"), (old, "has expired")):
        with pytest.raises(SetupError, match=says):
            read_identity(TlsFiles(certificate=pair.certificate, key=pair.key, client_ca=roots))
