"""A public client of the Activity API, unchanged, against the emulator: by Microsoft's host names, over HTTPS, through MSAL.

Only the name lookup is turned to this machine and the trust store to the emulator's CA, as a developer would with a
hosts file. What the client reads must be what the emulator says it published.
"""

import datetime
import json
import logging
import os
import pathlib
import socket
import subprocess
import sys
import tempfile

TENANTRY = os.environ["TENANTRY_BIN"]
NAMES = ("login.microsoftonline.com", "manage.office.com")

with tempfile.TemporaryDirectory() as folder:
    os.chdir(folder)  # the client writes a log file where it stands
    emulator = subprocess.Popen(
        [TENANTRY, "emulate", "--listen", "127.0.0.1:0", "--tls-listen", "127.0.0.1:0", "--ca-dir", folder, "--tenants", "2",
         "--seed", "5", "--json"],
        stdout=subprocess.PIPE, text=True,
    )
    try:
        about = json.loads(emulator.stdout.readline())
        tls_port = int(about["tls_listen"].rsplit(":", 1)[1])
        os.environ["REQUESTS_CA_BUNDLE"] = about["ca"]
        assert pathlib.Path(about["ca"]).read_text().startswith("-----BEGIN CERTIFICATE-----")
        look_up = socket.getaddrinfo

        def look_up_here(host, port, *args, **kwargs):
            if host in NAMES:
                host, port = "127.0.0.1", tls_port
            return look_up(host, port, *args, **kwargs)

        socket.getaddrinfo = look_up_here

        import requests
        from ZIZHUOffice365ManagementAPI.ZIZHUOffice365ManagementAPI import ContentType, Office365ManagementAPIServiceClient

        def control(path):
            answer = requests.get(about["control"] + path, timeout=60)
            answer.raise_for_status()
            return answer

        tenant = about["tenants"][0]["id"]
        client = Office365ManagementAPIServiceClient(tenant, about["client_id"], clientsecret=about["client_secret"], log_level=logging.ERROR)
        client.connect()
        for content_type in ContentType:
            client.start_subscription(content_type)
        started = client.get_currentsubscriptions()
        assert sorted(s.contentType for s in started if s.status == "enabled") == sorted(
            ["Audit.AzureActiveDirectory", "Audit.Exchange", "Audit.SharePoint", "Audit.General", "DLP.All"]
        ), started

        read = set()
        now = datetime.datetime.now(datetime.timezone.utc)
        for content_type in ContentType:
            for days in range(7):
                until = now - datetime.timedelta(days=days)
                blobs = client.get_availablecontent(until - datetime.timedelta(hours=24), until, content_type)
                for blob in client.receive_content(blobs) or []:
                    read.update(json.dumps(record, sort_keys=True) for record in blob.auditRecords)
        assert client.receive_resourcefriendlynames()

        published = {
            json.dumps(json.loads(line), sort_keys=True)
            for line in control("/truth/records?tenant=" + tenant).text.splitlines() if line
        }
        missing = published - read
        # Content that became available while the client was reading an earlier window is not its fault.
        assert len(missing) <= len(published) // 100, "%d of %d records were not to be had" % (len(missing), len(published))
        assert not read - published, "the client read what was never published"
    finally:
        emulator.terminate()
        emulator.wait(20)
print("a public client read %d records of tenant %s" % (len(read), tenant))
