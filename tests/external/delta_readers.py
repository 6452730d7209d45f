"""Reads the tables that Tenantry publishes with readers that are not ours: delta-rs (`deltalake`) and DuckDB's extension for
Delta Lake. They read while records are collected and segments merged, every version there ever was, and on S3."""

import datetime
import glob
import importlib.util
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request

import deltalake
import duckdb
import pyarrow as pa

TENANTRY = os.environ["TENANTRY_BIN"]
TABLES = {"TENANTRY_ARCHIVE__TABLES": "delta", "TENANTRY_ARCHIVE__PUBLISH_INTERVAL": "1s"}
# Whoever runs this ends it after fifteen minutes; it tells more when it ends by itself.
DEADLINE = time.monotonic() + 800


def seconds_left():
    return max(1, DEADLINE - time.monotonic())


def environment(more):
    return {**os.environ, **TABLES, **more}


def run(*args, more={}):
    done = subprocess.run([TENANTRY, *args], capture_output=True, text=True, timeout=seconds_left(), env=environment(more))
    if done.returncode != 0:
        sys.exit("tenantry %s ended with %d\n%s" % (" ".join(args), done.returncode, done.stderr[-4000:]))
    return done.stdout


def ours(folder, tenant, columns, where="true", more={}):
    sql = "SELECT %s FROM audit WHERE tenant_id = '%s' AND %s" % (columns, tenant, where)
    return json.loads(run("query", "--data-dir", folder, "--format", "json", sql, more=more))


def duck():
    package = pathlib.Path(importlib.util.find_spec("duckdb_extension_delta").origin).parent
    extensions = glob.glob(str(package / "**" / "delta.duckdb_extension"), recursive=True)
    assert extensions, "the package has no extension in it"
    connection = duckdb.connect()
    connection.execute("LOAD '%s'" % extensions[0])
    connection.execute("SET TimeZone = 'UTC'")
    return connection


def rows(table):
    return table.to_pyarrow_table(columns=["id", "raw", "commit"]).to_pydict()


def check_once_each(found, what):
    pairs = list(zip(found["id"], found["raw"]))
    assert len(set(pairs)) == len(pairs), "%s: %d rows, %d different" % (what, len(pairs), len(set(pairs)))
    return len(pairs)


class Reader(threading.Thread):
    """Opens a table over and over, as somebody who asks it all day."""

    def __init__(self, table, read):
        super().__init__(daemon=True)
        self.table, self.read, self.counts, self.failure, self.over = str(table), read, [], None, threading.Event()

    def run(self):
        while not self.over.is_set():
            if not glob.glob(self.table + "/_delta_log/*.json"):
                time.sleep(0.05)
                continue
            try:
                self.counts.append(self.read(self.table))
            except Exception as failure:  # noqa: BLE001: whatever it is, it is told below
                self.failure = failure
                return
            # Whoever reads without a pause leaves a small machine no time for what is read.
            self.over.wait(0.3)

    def end(self):
        self.over.set()
        self.join(seconds_left())
        assert not self.is_alive(), "a look at %s does not end" % self.table
        assert self.failure is None, (type(self.failure), self.failure)
        assert self.counts == sorted(self.counts), "records were there and then not: %s" % self.counts


def read_delta_rs(table):
    return check_once_each(rows(deltalake.DeltaTable(table)), "delta-rs, meanwhile")


def reader_of_duckdb():
    connection = duck()

    def read(table):
        count, different = connection.execute(
            "SELECT count(*), count(DISTINCT (id, raw)) FROM delta_scan('%s')" % table
        ).fetchone()
        assert count == different, "DuckDB, meanwhile: %d rows, %d different" % (count, different)
        return count

    return read


def local():
    with tempfile.TemporaryDirectory() as folder:
        archive = pathlib.Path(folder, "archive")
        readers = {}
        with tempfile.TemporaryFile("w+") as told:
            demo = subprocess.Popen(
                [TENANTRY, "demo", "--once", "--data-dir", folder, "--quiet"],
                env=environment({}), stdout=subprocess.DEVNULL, stderr=told,
            )
            try:
                while demo.poll() is None:
                    assert time.monotonic() < DEADLINE, "the demo does not end"
                    for table in archive.glob("tenant=*"):
                        if table not in readers:
                            readers[table] = [Reader(table, read_delta_rs), Reader(table, reader_of_duckdb())]
                            for reader in readers[table]:
                                reader.start()
                    time.sleep(0.05)
            finally:
                demo.kill()
                demo.wait()
            if demo.returncode != 0:
                told.seek(0)
                sys.exit("the demo ended with %d\n%s" % (demo.returncode, told.read()[-4000:]))
        looks = sum(len(reader.counts) for pair in readers.values() for reader in pair)
        for pair in readers.values():
            for reader in pair:
                reader.end()
        tables = sorted(archive.glob("tenant=*"))
        versions = sum(check_table(folder, table) for table in tables)
        check_answers(folder, tables[0])
        merges = check_merges(folder, tables)
        before = {table: deltalake.DeltaTable(str(table)).version() for table in tables}
        run("archive", "publish", "--rebuild", "--data-dir", folder)
        for table in tables:
            assert deltalake.DeltaTable(str(table)).version() == before[table] + 1
            check_table(folder, table)
            # What is left when the rest of the log is gone is a checkpoint, which says all of it.
            log = table / "_delta_log"
            for entry in log.glob("*.json"):
                if int(entry.name[:20]) <= before[table]:
                    entry.unlink()
            check_last(folder, table)
    print(
        "delta-rs %s and DuckDB %s: %d tables, %d versions, %d merges, %d looks meanwhile"
        % (deltalake.__version__, duckdb.__version__, len(tables), versions, merges, looks)
    )


def check_last(folder, table, storage=None, more={}):
    """The table holds what a query of ours finds, byte for byte."""
    opened = deltalake.DeltaTable(str(table), storage_options=storage)
    tenant = str(table).rsplit("tenant=", 1)[1]
    found = rows(opened)
    mine = ours(folder, tenant, "id, raw, commit", more=more)
    key = lambda row: (row[1], row[0] or "")  # noqa: E731
    theirs = sorted(zip(found["id"], found["raw"], found["commit"]), key=key)
    assert theirs == sorted(((row.get("id"), row["raw"], row["commit"]) for row in mine), key=key)
    return opened, tenant, theirs


def check_table(folder, table):
    opened, tenant, theirs = check_last(folder, table)
    counted = duck().execute("SELECT id, raw, commit FROM delta_scan('%s')" % table).fetchall()
    assert sorted(counted, key=lambda row: (row[1], row[0] or "")) == theirs

    protocol = opened.protocol()
    assert (protocol.min_reader_version, protocol.min_writer_version) == (1, 2), protocol
    assert opened.metadata().partition_columns == ["date"]
    schema = pa.schema(opened.schema())
    assert schema.field("creation_time").type == pa.timestamp("us", tz="UTC"), schema
    assert schema.field("date").type == pa.date32(), schema
    publishers = [action["txn"] for action in last_entry(table) if "txn" in action]
    assert len(publishers) == 1 and opened.transaction_version(publishers[0]["appId"]) == publishers[0]["version"]

    # The statistics of every file are bounds of what is in it.
    for add in pa.table(opened.get_add_actions(flatten=True)).to_pylist():
        file = duckdb.sql(
            "SELECT count(*) AS n, epoch_us(min(creation_time)) AS low, epoch_us(max(creation_time)) AS high, min(operation) AS first, "
            "max(operation) AS last, count(*) - count(creation_time) AS missing FROM read_parquet('%s')"
            % (pathlib.Path(str(table)) / add["path"])
        ).fetchone()
        n, low, high, first, last, missing = file
        assert (add["num_records"], add["null_count.creation_time"]) == (n, missing), (add, file)
        if low is not None:
            assert micros(add["min.creation_time"]) <= low and micros(add["max.creation_time"]) >= high, (add, file)
        assert add["min.operation"] <= first and add["max.operation"] >= last, (add, file)

    # Every version there ever was is one that can be read, with no record twice and none taken away.
    oldest, counts = min(int(name.name[:20]) for name in (pathlib.Path(str(table)) / "_delta_log").glob("*.json")), []
    for version in range(oldest, opened.version() + 1):
        found = rows(deltalake.DeltaTable(str(table), version=version))
        counts.append(check_once_each(found, "version %d" % version))
    assert counts == sorted(counts), counts
    return len(counts)


def micros(moment):
    """Since 1970; without a zone, it is UTC's."""
    zoned = moment.replace(tzinfo=datetime.timezone.utc) if moment.tzinfo is None else moment
    return (zoned - datetime.datetime.fromtimestamp(0, datetime.timezone.utc)) // datetime.timedelta(microseconds=1)


def last_entry(table):
    name = sorted((pathlib.Path(str(table)) / "_delta_log").glob("*.json"))[-1]
    return [json.loads(line) for line in name.read_text().splitlines()]


def check_answers(folder, table):
    """Files are ruled out by partition and statistics, and the answers stay ours."""
    tenant, connection = str(table).rsplit("tenant=", 1)[1], duck()
    middle = connection.execute("SELECT median(epoch_us(creation_time)) FROM delta_scan('%s')" % table).fetchone()[0]
    stamp = datetime.datetime.fromtimestamp(middle // 10**6, datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
    for where, theirs in [
        ("creation_time >= TIMESTAMP '%s'" % stamp, "creation_time >= TIMESTAMPTZ '%s'" % stamp),
        ("creation_time < TIMESTAMP '%s'" % stamp, "creation_time < TIMESTAMPTZ '%s'" % stamp),
        ("operation = 'FileAccessed'", "operation = 'FileAccessed'"),
        ("operation = 'NoSuchOperation'", "operation = 'NoSuchOperation'"),
        ("record_type = 6", "record_type = 6"),
    ]:
        expected = ours(folder, tenant, "count(*) AS n", where)[0]["n"]
        found = connection.execute("SELECT count(*) FROM delta_scan('%s') WHERE %s" % (table, theirs)).fetchone()[0]
        assert found == expected, (where, found, expected)
    opened = deltalake.DeltaTable(str(table))
    dates = {str(add["partition.date"]) for add in pa.table(opened.get_add_actions(flatten=True)).to_pylist()}
    for date in sorted(dates):
        only = [("date", "=", datetime.date.fromisoformat(date))]
        day = opened.to_pyarrow_table(columns=["creation_time", "date"], filters=only).to_pydict()
        assert {str(value) for value in day["date"]} == {date}
        assert {str(value.date()) for value in day["creation_time"] if value is not None} <= {date}


def check_merges(folder, tables):
    """What merges did to the tables changed no data, and whoever follows a table reads each record once. Says how many
    merges there were to be seen: none where all was merged before it was first published."""
    merges = 0
    for table in tables:
        seen = set()
        for name in sorted((table / "_delta_log").glob("*.json")):
            actions = [json.loads(line) for line in name.read_text().splitlines()]
            changes = {action[kind]["dataChange"] for action in actions for kind in ("add", "remove") if kind in action}
            assert len(changes) <= 1, (name, changes)
            merges += changes == {False}
            for add in (action["add"] for action in actions if "add" in action and action["add"]["dataChange"]):
                path = table / add["path"]
                found = duckdb.sql("SELECT id, raw FROM read_parquet('%s')" % path).fetchall()
                assert not seen.intersection(found), name
                seen.update(found)
        tenant = str(table).rsplit("tenant=", 1)[1]
        assert len(seen) == ours(folder, tenant, "count(*) AS n")[0]["n"]
    return merges


def on_s3():
    with tempfile.TemporaryFile("w+") as told:
        server = subprocess.Popen(
            [sys.executable, "-u", "-m", "moto.server", "-H", "127.0.0.1", "-p", "0"],
            stdout=told, stderr=subprocess.STDOUT,
        )
        try:
            on_s3_at(endpoint_of(server, told))
        finally:
            server.kill()
            server.wait()


def endpoint_of(server, told):
    """Where it listens, which it says once it does."""
    while True:
        # By its place: the server writes where it left off, and shares that with whoever seeks.
        text = os.pread(told.fileno(), 1 << 16, 0).decode(errors="replace")
        found = re.search(r"Running on (http://127\.0\.0\.1:\d+)", text)
        if found:
            return found.group(1)
        assert server.poll() is None, "the S3 server ended: %s" % text
        assert time.monotonic() < DEADLINE, "the S3 server does not start: %s" % text
        time.sleep(0.1)


def on_s3_at(endpoint):
    urllib.request.urlopen(urllib.request.Request(endpoint + "/audit", method="PUT"), timeout=seconds_left())
    keys = {"AWS_ACCESS_KEY_ID": "AKIATEST", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_REGION": "us-east-1"}
    more = {**keys, "TENANTRY_ARCHIVE__URL": "s3://audit/x", "TENANTRY_ARCHIVE__ENDPOINT": endpoint}
    storage = {**keys, "AWS_ENDPOINT_URL": endpoint, "AWS_ALLOW_HTTP": "true"}
    with tempfile.TemporaryDirectory() as folder:
        run("demo", "--once", "--data-dir", folder, "--quiet", more=more)
        tenants = {row["tenant_id"] for row in json.loads(run(
            "query", "--data-dir", folder, "--format", "json", "SELECT DISTINCT tenant_id FROM audit", more=more
        ))}
        assert tenants
        records = 0
        for tenant in sorted(tenants):
            _, _, found = check_last(folder, "s3://audit/x/tenant=" + tenant, storage, more)
            records += len(found)
    print("delta-rs %s: %d tables on S3, %d records" % (deltalake.__version__, len(tenants), records))


local()
on_s3()
