"""Microsoft's own client library, unchanged, against the emulated login service: MSAL for Python, over HTTPS.

By Microsoft's host names (only the name lookup is turned to this machine) and by localhost; with a secret, and with a
certificate in both documented forms; app-only and for a signed-in administrator. Tokens are checked with PyJWT against the
published keys.
"""

import base64
import datetime
import html.parser
import json
import os
import socket
import subprocess
import tempfile
import urllib.parse
import uuid

import jwt
import msal
import requests
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa

TENANTRY = os.environ["TENANTRY_BIN"]
NAMES = ("login.microsoftonline.com", "login.windows.net", "login.microsoftonline.us")
MANAGE = "https://manage.office.com"
SCOPES = [MANAGE + "/.default"]
REDIRECT = "https://collector.example/callback"
HOUR = datetime.timedelta(hours=1)


def check(condition, *shown):
    if not condition:
        raise AssertionError(" ".join(str(one) for one in shown))


def make_certificate():
    """An RSA key and a self-signed certificate, valid around now."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "collector")])
    now = datetime.datetime.now(datetime.timezone.utc)
    certificate = (
        x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
        .serial_number(x509.random_serial_number()).not_valid_before(now - HOUR).not_valid_after(now + HOUR * 24)
        .sign(key, hashes.SHA256())
    )
    key_pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()
    thumbprint = certificate.fingerprint(hashes.SHA1()).hex().upper()
    return key_pem, certificate.public_bytes(serialization.Encoding.PEM).decode(), thumbprint


class PostedForm(html.parser.HTMLParser):
    """Reads the form that a `form_post` answer is."""

    def __init__(self):
        super().__init__()
        self.action, self.fields = None, {}

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        if tag == "form":
            self.action = attributes["action"]
        elif tag == "input":
            self.fields[attributes["name"]] = attributes["value"]


def part(token, number):
    text = token.split(".")[number]
    return json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))


def app(about, tenant, credential, authority=None, client_id=None, **options):
    """A fresh MSAL application: nothing cached from another test."""
    return msal.ConfidentialClientApplication(
        client_id or about["client_id"],
        client_credential=credential,
        authority=(authority or "https://login.microsoftonline.com") + "/" + tenant,
        verify=about["ca"],
        **options,
    )


def app_only(about, tenant, credential, **options):
    result = app(about, tenant, credential, **options).acquire_token_for_client(scopes=SCOPES)
    check("access_token" in result, result)
    claims = part(result["access_token"], 1)
    check(claims["tid"] == tenant and claims["aud"] == MANAGE and claims["ver"] == "1.0", claims)
    check("ActivityFeed.Read" in claims["roles"], claims)
    return result, claims


def secrets(about, tenant, local):
    secret = about["client_secret"]
    result, claims = app_only(about, tenant, secret)
    check(claims["appidacr"] == "1", claims)
    check(isinstance(result["expires_in"], int), result)
    app_only(about, tenant, secret, authority="https://login.windows.net")
    app_only(about, tenant, secret, authority=local, instance_discovery=False)

    cached = app(about, tenant, secret)
    first, second = (cached.acquire_token_for_client(scopes=SCOPES) for _ in range(2))
    check(second["token_source"] == "cache" and first["access_token"] == second["access_token"], second)

    for attempt, number, error in [
        (app(about, tenant, "wrong"), 7000215, "invalid_client"),
        (app(about, tenant, secret, client_id=str(uuid.uuid4())), 700016, "unauthorized_client"),
    ]:
        refused = attempt.acquire_token_for_client(scopes=SCOPES)
        check(refused.get("error") == error and refused["error_codes"] == [number], refused)
        check("Trace ID: " in refused["error_description"] and refused["trace_id"] and refused["correlation_id"], refused)
    refused = app(about, tenant, secret).acquire_token_for_client(scopes=["https://example.com/.default"])
    check(refused["error"] == "invalid_resource" and refused["error_codes"] == [500011], refused)
    try:
        app(about, str(uuid.uuid4()), secret).acquire_token_for_client(scopes=SCOPES)
        raise AssertionError("a tenant that does not exist was found")
    except ValueError as refused:
        check("90002" in str(refused) or "tenant" in str(refused).lower(), refused)


def version_1(about, tenant, local):
    """The v1 endpoint, which MSAL does not speak: written by hand, as many scripts are."""
    form = {
        "grant_type": "client_credentials", "client_id": about["client_id"], "client_secret": about["client_secret"],
        "resource": MANAGE,
    }
    for root in ["https://login.microsoftonline.com", local]:
        answer = requests.post("%s/%s/oauth2/token?api-version=1.0" % (root, tenant), data=form, verify=about["ca"], timeout=60)
        body = answer.json()
        check(answer.status_code == 200 and body["expires_in"].isdigit() and body["resource"] == MANAGE, body)
    basic = requests.post(
        "https://login.microsoftonline.com/%s/oauth2/v2.0/token" % tenant,
        data={"grant_type": "client_credentials", "scope": SCOPES[0]},
        auth=(about["client_id"], urllib.parse.quote(about["client_secret"], safe="")), verify=about["ca"], timeout=60,
    )
    check(basic.status_code == 200, basic.text)


def certificates(about, tenant, local):
    key, certificate, thumbprint = make_certificate()
    # Added to the app while the emulator runs; the secret stays beside it.
    added = requests.post(about["control"] + "/apps", timeout=60, json={
        "client_id": about["client_id"], "secrets": [about["client_secret"]], "certificates": [certificate],
        "redirect_uris": [REDIRECT],
    })
    check(added.status_code == 201, added.text)
    sha1 = {"private_key": key, "thumbprint": thumbprint}
    sha256 = {"private_key": key, "public_certificate": certificate}
    for credential in (sha1, sha256):
        for options in ({}, {"authority": local, "instance_discovery": False}):
            _, claims = app_only(about, tenant, credential, **options)
            check(claims["appidacr"] == "2", claims)
    stranger, _, _ = make_certificate()
    refused = app(about, tenant, {"private_key": stranger, "thumbprint": thumbprint}).acquire_token_for_client(scopes=SCOPES)
    check(refused["error_codes"] == [700027], refused)
    refused = app(about, tenant, {"private_key": key, "thumbprint": "AB" * 20}).acquire_token_for_client(scopes=SCOPES)
    check(refused["error_codes"] == [700027], refused)


def signed_in(about, tenant, domain):
    """The authorization-code flow with PKCE and nonce, the person's clicks done by parameters."""
    client = app(about, "organizations", about["client_secret"])
    flow = client.initiate_auth_code_flow(scopes=["User.Read"], redirect_uri=REDIRECT, response_mode="form_post")
    answer = requests.get(
        flow["auth_uri"], params={"emulator_account": "admin@" + domain, "emulator_decision": "accept"},
        allow_redirects=False, verify=about["ca"], timeout=60,
    )
    form = PostedForm()
    form.feed(answer.text)
    check(answer.status_code == 200 and form.action == REDIRECT, answer.status_code, answer.text)
    response = form.fields
    result = client.acquire_token_by_auth_code_flow(flow, response)
    check("access_token" in result and result["id_token_claims"]["tid"] == tenant, result)
    check(result["id_token_claims"]["preferred_username"] == "admin@" + domain, result)
    check(client.get_accounts()[0]["username"] == "admin@" + domain, client.get_accounts())
    silent = client.acquire_token_silent(["User.Read"], account=client.get_accounts()[0], force_refresh=True)
    check(silent and "access_token" in silent and silent["token_source"] == "identity_provider", silent)
    twice = client.acquire_token_by_authorization_code(response["code"], scopes=["User.Read"], redirect_uri=REDIRECT)
    check(54005 in twice["error_codes"], twice)
    return result["id_token"]


def signatures(about, tenant, local, id_token):
    """The metadata leads to keys that a stock JWT library verifies both kinds of token with."""
    result, _ = app_only(about, tenant, about["client_secret"])
    for root in ["https://login.microsoftonline.com", local]:
        document = requests.get("%s/common/v2.0/.well-known/openid-configuration" % root, verify=about["ca"], timeout=60).json()
        check(document["issuer"] == root + "/{tenantid}/v2.0" and document["jwks_uri"].startswith(root), document)
        keys = {key["kid"]: key for key in requests.get(document["jwks_uri"], verify=about["ca"], timeout=60).json()["keys"]}
        for token, audience, issuer in [
            (result["access_token"], MANAGE, "https://sts.windows.net/%s/" % tenant),
            (id_token, about["client_id"], "https://login.microsoftonline.com/%s/v2.0" % tenant),
        ]:
            key = jwt.PyJWK(keys[part(token, 0)["kid"]])
            jwt.decode(token, key, algorithms=["RS256"], audience=audience, issuer=issuer)
    by_domain = requests.get(
        "%s/%s/v2.0/.well-known/openid-configuration" % (local, about["tenants"][0]["domain"]), verify=about["ca"], timeout=60
    ).json()
    check(by_domain["issuer"] == "%s/%s/v2.0" % (local, tenant), by_domain)


def main():
    with tempfile.TemporaryDirectory() as folder:
        emulator = subprocess.Popen(
            [TENANTRY, "emulate", "--listen", "127.0.0.1:0", "--tls-listen", "127.0.0.1:0", "--ca-dir", folder,
             "--tenants", "2", "--seed", "5", "--json"],
            stdout=subprocess.PIPE, text=True,
        )
        try:
            about = json.loads(emulator.stdout.readline())
            port = int(about["tls_listen"].rsplit(":", 1)[1])
            look_up = socket.getaddrinfo

            def look_up_here(host, asked_port, *args, **kwargs):
                if host in NAMES:
                    host, asked_port = "127.0.0.1", port
                return look_up(host, asked_port, *args, **kwargs)

            socket.getaddrinfo = look_up_here
            # These would win over `verify`, and a proxy over the name lookup.
            os.environ.update(REQUESTS_CA_BUNDLE=about["ca"], CURL_CA_BUNDLE=about["ca"], NO_PROXY="*", no_proxy="*")
            tenant, local = about["tenants"][0]["id"], "https://localhost:%d" % port
            secrets(about, tenant, local)
            version_1(about, tenant, local)
            certificates(about, tenant, local)
            id_token = signed_in(about, tenant, about["tenants"][0]["domain"])
            signatures(about, tenant, local, id_token)
        finally:
            emulator.terminate()
            emulator.wait(20)
    print("MSAL %s got its tokens from the emulator: secret, certificate, code, refresh" % msal.__version__)


if __name__ == "__main__":
    main()
