"""Certificates and assertions, judged by programs that nobody here wrote.

OpenSSL says what the certificate's digests are, and writes keys in all the forms that people have; jwcrypto, a JOSE library
of another language, verifies each assertion the program signs. A plain Python token endpoint stands in Entra ID's place.
"""

import base64
import hashlib
import http.server
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse
import uuid

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwcrypto import jwk, jws

TENANTRY = os.environ["TENANTRY_BIN"]
TENANT, CLIENT_ID, PUBLISHER = str(uuid.uuid4()), str(uuid.uuid4()), str(uuid.uuid4())
PASSWORD = "correct horse"


def check(condition, what):
    if not condition:
        sys.exit("failed: " + what)


def openssl(*args):
    done = subprocess.run(["openssl", *args], capture_output=True, text=True)
    check(done.returncode == 0, "openssl %s: %s" % (" ".join(args), done.stderr))
    return done.stdout.strip()


def tenantry(*args, expect=0, **variables):
    kept = {name: os.environ[name] for name in ("PATH", "SSL_CERT_FILE", "SSL_CERT_DIR") if name in os.environ}
    done = subprocess.run(
        [TENANTRY, *args], capture_output=True, text=True, timeout=240, cwd=folder, env={**kept, **variables}
    )
    check(done.returncode == expect, "tenantry %s ended with %d\n%s\n%s" % (" ".join(args), done.returncode, done.stdout, done.stderr))
    return done.stdout if expect == 0 else done.stderr


def fingerprint(path, digest):
    return openssl("x509", "-in", str(path), "-noout", "-fingerprint", "-" + digest).split("=")[1].replace(":", "")


def base64url(data):
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def check_shown(shown, certificate):
    """What `certificate show|new --json` says, against OpenSSL."""
    der = x509.load_pem_x509_certificate(certificate.read_bytes()).public_bytes(Encoding.DER)
    check(shown["sha1_hex"] == fingerprint(certificate, "sha1"), "SHA-1 of %s" % certificate)
    check(shown["sha256_hex"] == fingerprint(certificate, "sha256"), "SHA-256 of %s" % certificate)
    check(shown["sha1_base64url"] == base64url(hashlib.sha1(der).digest()), "x5t")
    check(shown["sha256_base64url"] == base64url(hashlib.sha256(der).digest()), "x5t#S256")
    check(shown["custom_key_identifier"] == base64.b64encode(hashlib.sha1(der).digest()).decode(), "customKeyIdentifier")
    until = openssl("x509", "-in", str(certificate), "-noout", "-enddate", "-dateopt", "iso_8601").split("=")[1]
    check(shown["not_after"] == until.replace(" ", "T"), "expiry %s and %s" % (shown["not_after"], until))


class Entra(http.server.BaseHTTPRequestHandler):
    """A token endpoint that verifies assertions by jwcrypto, and an Activity API without content."""

    certificate = None
    verified = []
    refused = []
    seen = set()

    def log_message(self, *_):
        pass

    def answer(self, status, body):
        body = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        if "/subscriptions/list" in self.path:
            types = ["Audit.AzureActiveDirectory", "Audit.Exchange", "Audit.SharePoint", "Audit.General", "DLP.All"]
            return self.answer(200, [{"contentType": t, "status": "enabled", "webhook": None} for t in types])
        return self.answer(200, [])

    def do_POST(self):
        form = dict(urllib.parse.parse_qsl(self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()))
        try:
            self.verify(form)
        except Exception as error:  # whatever it is, the assertion is not accepted
            Entra.refused.append(repr(error))
            return self.answer(401, {"error": "invalid_client", "error_codes": [700027], "error_description": "AADSTS700027: no."})
        return self.answer(200, {"token_type": "Bearer", "expires_in": 3599, "access_token": uuid.uuid4().hex})

    def verify(self, form):
        assert form["client_assertion_type"] == "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
        assert "client_secret" not in form
        certificate = x509.load_pem_x509_certificate(Entra.certificate)
        der = certificate.public_bytes(Encoding.DER)
        key = jwk.JWK.from_pem(certificate.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
        token = jws.JWS()
        token.allowed_algs = ["RS256", "PS256"]
        token.deserialize(form["client_assertion"], key)  # raises unless the signature is this key's
        header, claims = token.jose_header, json.loads(token.payload)
        if header["alg"] == "RS256":
            assert header["x5t"] == base64url(hashlib.sha1(der).digest()), header
        else:
            assert header["x5t#S256"] == base64url(hashlib.sha256(der).digest()), header
        assert header["typ"] == "JWT"
        assert claims["aud"] == "http://127.0.0.1:%d%s" % (port, self.path), claims
        assert claims["iss"] == claims["sub"] == CLIENT_ID == form["client_id"]
        assert all(type(claims[name]) is int for name in ("nbf", "iat", "exp")), claims
        now = time.time()
        assert claims["nbf"] <= now < claims["exp"] <= claims["nbf"] + 600, claims
        assert claims["jti"] not in Entra.seen, "an assertion was used twice"
        Entra.seen.add(claims["jti"])
        Entra.verified.append(header["alg"])


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Entra)
port = server.server_address[1]
threading.Thread(target=server.serve_forever, daemon=True).start()


def configure(credential, assertion="RS256", endpoint="v2"):
    (folder / "tenantry.toml").write_text("""
[app]
client_id = "%s"
publisher_id = "%s"
assertion = "%s"
token_endpoint = "%s"
[[app.credential]]
kind = "certificate"
%s
[cloud]
name = "custom"
login = "http://127.0.0.1:%d"
activity = "http://127.0.0.1:%d"
""" % (CLIENT_ID, PUBLISHER, assertion, endpoint, credential, port, port))


def collect_with(certificate, **variables):
    Entra.certificate, Entra.verified, Entra.refused = certificate.read_bytes(), [], []
    tenantry("collect", "--once", **variables)
    check(Entra.verified and not Entra.refused, "assertions: %s verified, refused %s" % (Entra.verified, Entra.refused))
    return Entra.verified[0]


with tempfile.TemporaryDirectory() as name:
    folder = pathlib.Path(name)

    # Made here, read by OpenSSL.
    made = json.loads(tenantry("--json", "certificate", "new", "--out", "app.pem", "--bits", "2048", "--subject", "Contoso collector"))
    app, public = folder / "app.pem", folder / "app.crt"
    check_shown(made, public)
    check_shown(json.loads(tenantry("--json", "certificate", "show", "app.pem")), public)
    check(openssl("pkey", "-in", str(app), "-check", "-noout").endswith("valid"), "the key is valid to OpenSSL")
    check(openssl("x509", "-in", str(public), "-noout", "-subject").endswith("CN = Contoso collector"), "subject")
    openssl("verify", "-CAfile", str(public), str(public))
    check(app.stat().st_mode & 0o777 == 0o600, "the key is its owner's alone")
    check("PRIVATE" not in public.read_text(), "the upload holds no key")
    default = json.loads(tenantry("--json", "certificate", "new", "--out", "default.pem"))
    check(default["rsa_bits"] == 3072, "3072 bits unless told otherwise")
    check("2048" in tenantry("certificate", "new", "--out", "short.pem", "--bits", "1024", expect=2), "short keys are refused")
    check("not overwritten" in tenantry("certificate", "new", "--out", "app.pem", expect=2), "nothing is overwritten")

    # Signed here, verified by jwcrypto: both algorithms, at both endpoints.
    configure('path = "app.pem"')
    tenantry("tenant", "add", TENANT)
    for assertion in ("RS256", "PS256"):
        for endpoint in ("v1", "v2"):
            configure('path = "app.pem"', assertion, endpoint)
            check(collect_with(public) == assertion, "%s at %s" % (assertion, endpoint))
    # The verifier can refuse, too.
    Entra.certificate = (folder / "default.crt").read_bytes()
    said = tenantry("collect", "--once", expect=4)
    check("upload the certificate" in said and Entra.refused, "another certificate is refused: %s" % said)

    # Written by OpenSSL, read here.
    key, certificate = folder / "key.pem", folder / "cert.pem"
    openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", str(key), "-out", str(certificate), "-subj", "/CN=by OpenSSL", "-days", "30")
    openssl("pkcs8", "-topk8", "-v2", "aes-256-cbc", "-in", str(key), "-passout", "pass:" + PASSWORD, "-out", str(folder / "aes.pem"))
    openssl("rsa", "-traditional", "-in", str(key), "-out", str(folder / "pkcs1.pem"))
    export = ["pkcs12", "-export", "-in", str(certificate), "-inkey", str(key), "-passout", "pass:" + PASSWORD]
    openssl(*export, "-out", str(folder / "modern.p12"))
    openssl(*export, "-legacy", "-out", str(folder / "legacy.pfx"))
    openssl(*export, "-legacy", "-keypbe", "PBE-SHA1-3DES", "-certpbe", "PBE-SHA1-3DES", "-out", str(folder / "windows.pfx"))
    for file in folder.iterdir():
        if file.suffix in (".pem", ".p12", ".pfx") and file != certificate:
            file.chmod(0o600)
    (folder / "password.txt").write_text(PASSWORD + "\n")
    (folder / "password.txt").chmod(0o600)
    variable = {"TENANTRY_APP__CREDENTIAL__0__PASSWORD": PASSWORD}
    apart = 'path = "cert.pem"\nkey_path = "%s"'
    for credential, variables in [
        (apart % "key.pem", {}),
        (apart % "pkcs1.pem", {}),
        (apart % "aes.pem", variable),
        (apart % "aes.pem" + '\npassword_file = "password.txt"', {}),
        ('path = "modern.p12"', variable),
        ('path = "legacy.pfx"', variable),
        ('path = "windows.pfx"\npassword_file = "password.txt"', {}),
    ]:
        configure(credential)
        tenantry("config", "check", **variables)
        collect_with(certificate, **variables)
    for file in ("modern.p12", "legacy.pfx", "windows.pfx"):
        shown = json.loads(tenantry("--json", "certificate", "show", file, "--password-file", "password.txt"))
        check_shown(shown, certificate)
        check(shown["private_key"] == "belongs", file)
        wrong = tenantry("certificate", "show", file, expect=3, TENANTRY_CERTIFICATE_PASSWORD="wrong")
        check("password does not open" in wrong, wrong)

    # What others can read is refused, with the command that mends it.
    app.chmod(0o644)
    configure('path = "app.pem"')
    for command in (["config", "check"], ["collect", "--once"], ["certificate", "show", "app.pem"]):
        check("chmod 600" in tenantry(*command, expect=3), " ".join(command))

print("certificates and assertions: as OpenSSL and jwcrypto have them")
