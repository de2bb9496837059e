"""
Alipay signatures made with python-alipay-sdk, which is independent of the adapter under test. Standard input has one request
per line of JSON, and standard output one answer per line.
"""
import datetime
import json
import sys

from alipay import AliPay, DCAliPay
from alipay.exceptions import AliPayException
from Cryptodome.PublicKey import RSA
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.x509.oid import NameOID

parties = {}
alipay_key = None


def private_pem(key):
    return key.export_key(pkcs=8).decode()


def new_certificate(subject, key, issuer, issuer_key, serial):
    def name(common_name):
        return x509.Name([
            x509.NameAttribute(NameOID.COUNTRY_NAME, "CN"),
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Double"),
            x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, "Tests"),
            x509.NameAttribute(NameOID.COMMON_NAME, common_name),
        ])

    now = datetime.datetime.now(datetime.timezone.utc)
    signer = serialization.load_pem_private_key(private_pem(issuer_key).encode(), None)
    public = serialization.load_pem_public_key(key.publickey().export_key())
    made = (
        x509.CertificateBuilder()
        .subject_name(name(subject)).issuer_name(name(issuer)).public_key(public)
        .serial_number(serial)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=365))
        .sign(signer, hashes.SHA256())
    )
    return made.public_bytes(serialization.Encoding.PEM).decode()


def setup(apps):
    """Creates the keys of Alipay, of a stranger and of each application, with certificates."""
    global alipay_key
    alipay_key = RSA.generate(2048)
    root_key = RSA.generate(2048)
    root = new_certificate("Root", root_key, "Root", root_key, 7)
    alipay_cert = new_certificate("Alipay", alipay_key, "Root", root_key, 0x1F00000000000000AB)
    answer = {
        "alipayPublicKey": alipay_key.publickey().export_key().decode(),
        "alipayPrivateKey": private_pem(alipay_key),
        "strangerKey": private_pem(RSA.generate(2048)),
        "apps": {},
    }
    for serial, app_id in enumerate(apps):
        key = RSA.generate(2048)
        own = {"privateKey": private_pem(key)}
        # Alipay's side: it signs with its own key and verifies with the application's key.
        parties[app_id] = AliPay(
            appid=app_id,
            app_private_key_string=private_pem(alipay_key),
            alipay_public_key_string=key.publickey().export_key().decode(),
        )
        cert = new_certificate("App " + app_id, key, "Root", root_key, 1000 + serial)
        own["certificates"] = {"app": cert, "alipay": alipay_cert, "root": root}
        own["numbers"] = {
            "app": DCAliPay.get_cert_sn(cert),
            "alipay": DCAliPay.get_cert_sn(alipay_cert),
            "root": DCAliPay(
                appid=app_id, app_private_key_string=private_pem(key), app_public_key_cert_string=cert,
                alipay_public_key_cert_string=alipay_cert, alipay_root_cert_string=root,
            ).alipay_root_cert_sn,
        }
        answer["apps"][app_id] = own
    return answer


def joined(party, params):
    return "&".join("{}={}".format(k, v) for k, v in party._ordered_data(dict(params)))


def verify(app_id, params, sign):
    """Verifies a request. Everything except its signature is signed, including sign_type."""
    party = parties.get(app_id)
    if party is None:
        return "unknown"
    try:
        return "good" if party._verify(joined(party, params), sign) else "bad"
    except Exception:
        return "bad"


def sign_text(text):
    return next(iter(parties.values()))._sign(text)


def sign_params(params):
    """Signs a notification. Everything except sign and sign_type is signed."""
    party = next(iter(parties.values()))
    return party._sign(joined(party, params))


def verify_notification(params, sign):
    """Verifies a notification as a merchant does, with the library's own method."""
    merchant = AliPay(
        appid="1", app_private_key_string=private_pem(alipay_key),
        alipay_public_key_string=alipay_key.publickey().export_key().decode(),
    )
    try:
        return bool(merchant.verify(dict(params), sign))
    except (AliPayException, ValueError):
        return False


COMMANDS = {
    "setup": setup,
    "verify": verify,
    "signText": sign_text,
    "signParams": sign_params,
    "verifyNotification": verify_notification,
}

for line in sys.stdin:
    command, args = json.loads(line)
    print(json.dumps(COMMANDS[command](*args)), flush=True)
