"""A server that nobody here wrote our client against: plain Python, written from Microsoft's documentation alone.

It stands in the emulator's place by configuration (`[cloud] name = "custom"`), behaves differently wherever the
documentation leaves room, and checks that every record it published is in the archive once, byte for byte.
"""

import http.server
import json
import os
import pathlib
import random
import secrets
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse
import uuid

TENANTRY = os.environ["TENANTRY_BIN"]
SEED = int(os.environ.get("SEED", "11"))
TENANTS = [str(uuid.UUID(int=0x70000000000040008000000000000000 + n)) for n in (1, 2)]
CLIENT_ID, PUBLISHER = str(uuid.uuid4()), str(uuid.uuid4())
SECRET = "p+/=%&?" + secrets.token_urlsafe(24)
TYPES = ["Audit.AzureActiveDirectory", "Audit.Exchange", "Audit.SharePoint", "Audit.General", "DLP.All"]
draw = random.Random(SEED)
problems = []


def stamp(seconds):
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))


def make_record(tenant, second, n):
    """Odd on purpose: order of members, white space, escapes, big integers, duplicate names, a number as string."""
    body = [
        '"CreationTime":"%s"' % stamp(second),
        '"Id":"%s"' % uuid.UUID(int=draw.getrandbits(128), version=4),
        '"Operation":"%s"' % draw.choice(["FileAccessed", "Add user.", "Set-Mailbox", "UserLoggedIn"]),
        '"OrganizationId":"%s"' % tenant,
        '"RecordType":%s' % draw.choice(["6", "8", '"15"', "99999"]),
        '"UserKey":"k"', '"UserType":0', '"Version":1', '"Workload":"SharePoint"',
        '"UserId":"us\\u00e9r%d@contoso.example"' % n,
        '"ObjectId":"https:\\/\\/contoso.example\\/%d"' % n,
        '"Big":12345678901234567890123',
        '"Twice":1,"Twice":2',
    ]
    if draw.random() < 0.1:
        body = body[1:]  # no CreationTime
    return "{" + draw.choice([",", ", ", ",\n  "]).join(body) + "}"


class World:
    def __init__(self):
        now = time.time()
        self.subscribed = set()
        self.tokens = {}
        self.blobs = {}   # (tenant, content id) -> (content type, created, [record text])
        self.published = {tenant: set() for tenant in TENANTS}
        self.failed_once = set()
        for tenant in TENANTS:
            for content_type in TYPES:
                earlier = []
                for n in range(9):
                    created = now - draw.uniform(60, 6.5 * 86400)
                    records = [make_record(tenant, created - draw.uniform(60, 90000), n) for _ in range(draw.randint(1, 40))]
                    self.published[tenant].update(records)
                    repeats = draw.sample(earlier, min(3, len(earlier)))
                    blob = "urn.%s/%d" % (uuid.UUID(int=draw.getrandbits(128)).hex, n)
                    self.blobs[tenant, urllib.parse.quote(blob, safe="")] = (content_type, created, records + repeats)
                    earlier += records


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def answer(self, status, body=b"", headers=()):
        body = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self):
        length = int(self.headers.get("Content-Length") or 0)
        self.route("POST", self.rfile.read(length).decode())

    def do_GET(self):
        self.route("GET", "")

    def route(self, method, body):
        url = urllib.parse.urlsplit(self.path)
        parts = url.path.strip("/").split("/")
        query = dict(urllib.parse.parse_qsl(url.query))
        if method == "POST" and "oauth2" in parts:
            return self.token(parts[0], dict(urllib.parse.parse_qsl(body)))
        if parts[:1] != ["api"] or parts[3:5] != ["activity", "feed"]:
            return self.answer(404)
        tenant = parts[2]
        bearer = (self.headers.get("Authorization") or "").removeprefix("Bearer ")
        if world.tokens.get(bearer) != tenant:
            return self.answer(401, {"Message": "Authorization has been denied for this request."})
        if query.get("PublisherIdentifier") != PUBLISHER:
            problems.append("no PublisherIdentifier on " + url.path)
        rest = "/".join(parts[5:])
        content_type = query.get("contentType", "")
        if rest == "subscriptions/list":
            listed = [{"contentType": t, "status": "enabled", "webhook": None} for t in TYPES if (tenant, t) in world.subscribed]
            return self.answer(200, listed)
        if rest == "subscriptions/start" and method == "POST":
            if (tenant, content_type) in world.subscribed:
                problems.append("started twice: " + content_type)
                return self.answer(400, {"error": {"code": "AF20024", "message": "The subscription is already enabled. No property change."}})
            world.subscribed.add((tenant, content_type))
            return self.answer(200, {"contentType": content_type, "status": "enabled", "webhook": None})
        if rest == "subscriptions/content":
            return self.listing(tenant, content_type, query)
        if parts[5] == "audit":
            return self.blob(tenant, parts[6])
        return self.answer(404)

    def token(self, tenant, form):
        if tenant not in TENANTS or form.get("client_id") != CLIENT_ID or form.get("client_secret") != SECRET:
            return self.answer(401, {"error": "invalid_client", "error_description": "AADSTS7000215: no.", "error_codes": [7000215]})
        token = secrets.token_urlsafe(40)  # opaque: no client may look inside
        world.tokens[token] = tenant
        return self.answer(200, {"token_type": "Bearer", "expires_in": "3599", "access_token": token})

    def listing(self, tenant, content_type, query):
        if (tenant, content_type) not in world.subscribed:
            return self.answer(400, {"error": {"code": "AF20022", "message": "No subscription found."}})
        start, end = (query.get(key, "") for key in ("startTime", "endTime"))
        page = int(query.get("nextPage", "0"))
        found = [
            (created, blob) for (owner, blob), (of_type, created, _) in world.blobs.items()
            if owner == tenant and of_type == content_type and start <= stamp(created) < end
        ]
        found.sort()
        root = "http://127.0.0.1:%d/api/v1.0/%s/activity/feed" % (port, tenant)
        listed = [{
            "contentType": content_type, "contentId": blob, "contentUri": "%s/audit/%s" % (root, blob),
            "contentCreated": stamp(created) + ".123Z", "contentExpiration": stamp(created + 7 * 86400) + ".123Z",
        } for created, blob in found[page * 2:page * 2 + 2]]
        headers = []
        if len(found) > page * 2 + 2:
            again = urllib.parse.urlencode({"contentType": content_type, "startTime": start, "endTime": end, "nextPage": page + 1})
            headers = [("nextpageuri", "%s/subscriptions/content?%s" % (root.replace("v1.0", "v1"), again))]
        return self.answer(200, listed, headers)

    def blob(self, tenant, blob):
        _, _, records = world.blobs[tenant, blob]
        text = ("\ufeff" if draw.random() < 0.3 else "") + "[\r\n" + " ,\n".join(records) + "]\n"
        body = text.encode()
        if (tenant, blob) not in world.failed_once and draw.random() < 0.2:
            world.failed_once.add((tenant, blob))
            if draw.random() < 0.5:
                return self.answer(503, b"<html>busy</html>")
            self.send_response(200)  # breaks off in the middle of the body
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body[: len(body) // 2])
            self.close_connection = True
            return None
        return self.answer(200, body, [("Content-Type", "text/plain")])


def run(*args, expect=0):
    done = subprocess.run([TENANTRY, "--config", str(folder / "tenantry.toml"), *args], capture_output=True, text=True, timeout=240)
    if done.returncode != expect:
        sys.exit("seed %d: tenantry %s ended with %d\n%s\n%s" % (SEED, " ".join(args), done.returncode, done.stdout[-2000:], done.stderr[-4000:]))
    return done.stdout


world = World()
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
port = server.server_address[1]
threading.Thread(target=server.serve_forever, daemon=True).start()

with tempfile.TemporaryDirectory() as name:
    folder = pathlib.Path(name)
    (folder / "secret.txt").write_text(SECRET + "\n")
    (folder / "secret.txt").chmod(0o600)
    (folder / "tenantry.toml").write_text("""
[app]
client_id = "%s"
publisher_id = "%s"
[[app.credential]]
kind = "secret"
path = "secret.txt"
[cloud]
name = "custom"
login = "http://127.0.0.1:%d"
activity = "http://127.0.0.1:%d"
""" % (CLIENT_ID, PUBLISHER, port, port))
    for tenant in TENANTS:
        run("tenant", "add", tenant)
    run("collect", "--once")
    run("collect", "--once")  # nothing new may come of it
    rows = json.loads(run("query", "--format", "json", "SELECT tenant_id, raw FROM audit"))

for tenant in TENANTS:
    kept = [row["raw"] for row in rows if row["tenant_id"] == tenant]
    if len(kept) != len(set(kept)):
        problems.append("%d records of %s are there twice" % (len(kept) - len(set(kept)), tenant))
    if set(kept) != world.published[tenant]:
        lost, added = world.published[tenant] - set(kept), set(kept) - world.published[tenant]
        problems.append("tenant %s: %d lost, %d altered or invented" % (tenant, len(lost), len(added)))
if problems:
    sys.exit("seed %d: %s" % (SEED, "; ".join(sorted(set(problems))[:20])))
print("a foreign server: %d records of %d tenants, each once, byte for byte" % (len(rows), len(TENANTS)))
