"""Reads what `tenantry demo --once` archived with readers that are not ours: pyarrow and DuckDB."""

import json
import os
import pathlib
import subprocess
import sys
import tempfile

import duckdb
import pyarrow as pa
import pyarrow.dataset
import pyarrow.parquet

TENANTRY = os.environ["TENANTRY_BIN"]
COLUMNS = (
    "tenant_id content_type content_id id creation_time record_type record_type_name operation workload user_id user_key "
    "user_type organization_id object_id client_ip result_status app_id session_id raw ingested_at commit variant"
).split()


def run(*args):
    done = subprocess.run([TENANTRY, *args], capture_output=True, text=True, timeout=280)
    if done.returncode != 0:
        sys.exit("tenantry %s ended with %d\n%s" % (" ".join(args), done.returncode, done.stderr[-4000:]))
    return done.stdout


with tempfile.TemporaryDirectory() as folder:
    run("demo", "--once", "--data-dir", folder, "--quiet")
    archive = pathlib.Path(folder, "archive")
    files = sorted(archive.glob("tenant=*/date=*/*.parquet"))
    assert files, "no segment where the layout says it is"

    for file in files:
        schema = pyarrow.parquet.read_schema(file)
        assert schema.names == COLUMNS, (file.name, schema.names)
        assert pa.types.is_timestamp(schema.field("creation_time").type), schema.field("creation_time")
        assert schema.field("creation_time").type.tz == "UTC"
        assert pa.types.is_integer(schema.field("record_type").type)
        assert pa.types.is_integer(schema.field("commit").type)
        assert pa.types.is_boolean(schema.field("variant").type)

    # As a data set with its partition columns, as Spark and pandas would open it.
    dataset = pyarrow.dataset.dataset(str(archive), format="parquet", partitioning="hive")
    table = dataset.to_table()
    raws = table.column("raw").to_pylist()
    tenants = table.column("tenant_id").to_pylist()
    for tenant, partition in zip(tenants, table.column("tenant").to_pylist()):
        assert tenant == partition, (tenant, partition)

    ours = json.loads(run("query", "--data-dir", folder, "--format", "json", "SELECT tenant_id, raw FROM audit"))
    assert sorted(zip(tenants, raws)) == sorted((row["tenant_id"], row["raw"]) for row in ours)
    assert len(set(zip(tenants, raws))) == len(raws), "a record is there twice"
    for raw in raws[:2000]:
        assert isinstance(json.loads(raw, strict=False), dict)

    glob = str(archive / "tenant=*" / "date=*" / "*.parquet")
    rows = duckdb.sql(
        f"SELECT operation, count(*) AS n FROM read_parquet('{glob}', hive_partitioning = true) GROUP BY 1 ORDER BY n DESC, 1"
    ).fetchall()
    counted = json.loads(
        run("query", "--data-dir", folder, "--format", "json", "SELECT operation, count(*) AS n FROM audit GROUP BY 1 ORDER BY n DESC, 1")
    )
    assert sorted(map(str, rows)) == sorted(str((row.get("operation"), row["n"])) for row in counted)
    wrong = duckdb.sql(
        f"SELECT count(*) FROM read_parquet('{glob}', hive_partitioning = true) "
        "WHERE creation_time IS NOT NULL AND CAST(creation_time AT TIME ZONE 'UTC' AS DATE) <> date"
    ).fetchall()
    assert wrong == [(0,)], wrong

    csv = run("query", "--data-dir", folder, "--format", "csv", "SELECT id, operation, raw FROM audit")
    pathlib.Path(folder, "x.csv").write_text(csv)
    read_back = duckdb.sql(f"SELECT count(*) FROM read_csv('{folder}/x.csv', header = true, quote = '\"', escape = '\"')").fetchall()
    assert read_back == [(len(raws),)], read_back

print("pyarrow %s and DuckDB %s read %d records in %d segments" % (pa.__version__, duckdb.__version__, len(raws), len(files)))
