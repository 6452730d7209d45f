//! The database's shape: its mark, its numbered migrations.
//!
//! Never touches a schema that is not ours or that a newer program wrote: both are recognised before anything is changed.
//! Several workers that start at once take turns, by an advisory lock that goes with the migration's transaction.

use super::fault::Done;
use super::session::Session;
use crate::LedgerError;
use crate::error::Place;

/// One entry a version, in order; `ledger_version` says how many have been applied. Never edit a released one.
const MIGRATIONS: &[&str] = &[
    include_str!("schema_1.sql"),
    include_str!("schema_2.sql"),
    include_str!("schema_3.sql"),
    include_str!("schema_4.sql"),
    include_str!("schema_5.sql"),
];

/// The version this program writes.
pub(super) const VERSION: i64 = MIGRATIONS.len() as i64;

/// What our advisory locks have in common ("Tnty"); the second number says which of them.
pub(super) const LOCKS: i32 = 0x546e_7479;

/// The oldest that the README names.
const SERVER_MIN: i32 = 13;

/// Which of the schema's locks is the migration's; the collector's claim is the same without the `not`.
const MIGRATION_LOCK: &str = "SELECT pg_advisory_xact_lock($1, ~hashtext(current_schema()))";

/// Makes the database a ledger of this program's version, or says why it is none.
pub(super) async fn prepare(session: &Session<'_>, place: &Place, read_only: bool) -> Done<()> {
    check_server(session, place).await?;
    let version = recognise(session, place).await?;
    if version == VERSION {
        return Ok(());
    }
    let place = place.clone();
    match (read_only, version) {
        (true, 0) => Err(LedgerError::Missing { place }.into()),
        (true, found) => Err(LedgerError::OlderVersion { place, found, known: VERSION }.into()),
        (false, _) => {
            session.batch("BEGIN; SET LOCAL lock_timeout = 0; SET LOCAL statement_timeout = 0").await?;
            let done = migrate(session, &place).await;
            session.batch(if done.is_ok() { "COMMIT" } else { "ROLLBACK" }).await?;
            done
        }
    }
}

async fn check_server(session: &Session<'_>, place: &Place) -> Done<()> {
    let row = session
        .one(
            "SELECT current_setting('server_version_num')::int / 10000, current_setting('server_encoding'),
                    current_schema()::text",
            &[],
        )
        .await?;
    let (version, encoding, schema): (i32, String, Option<String>) =
        (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
    let found = if version < SERVER_MIN {
        format!("a database of PostgreSQL {version}, where {SERVER_MIN} or later is needed")
    } else if encoding != "UTF8" {
        format!("a database in the encoding {encoding}, where UTF8 is needed")
    } else if schema.is_none() {
        "a database without a schema to make tables in: see its search_path".to_owned()
    } else {
        return Ok(());
    };
    Err(LedgerError::NotALedger { place: place.clone(), found }.into())
}

/// The version of the ledger in the schema, 0 when the schema is empty; an error when it is anything else.
async fn recognise(session: &Session<'_>, place: &Place) -> Done<i64> {
    let row = session
        .one(
            "SELECT to_regclass(quote_ident(current_schema()) || '.ledger_version') IS NOT NULL,
                    (SELECT count(*) FROM pg_class WHERE relkind IN ('r', 'p', 'v', 'm', 'S')
                     AND relnamespace = quote_ident(current_schema())::regnamespace)",
            &[],
        )
        .await?;
    let (ours, tables): (bool, i64) = (row.try_get(0)?, row.try_get(1)?);
    if !ours {
        if tables == 0 {
            return Ok(0);
        }
        let found = format!("a schema with {tables} tables of another program");
        return Err(LedgerError::NotALedger { place: place.clone(), found }.into());
    }
    let found: i64 = session.one("SELECT version FROM ledger_version WHERE single = 1", &[]).await?.try_get(0)?;
    if found > VERSION {
        return Err(LedgerError::NewerVersion { place: place.clone(), found, known: VERSION }.into());
    }
    Ok(found)
}

/// Applies what is missing; another process may have done it in the meantime.
async fn migrate(session: &Session<'_>, place: &Place) -> Done<()> {
    session.rows(MIGRATION_LOCK, &[&LOCKS]).await?;
    let version = recognise(session, place).await?;
    if version == 0 {
        session
            .batch(
                "CREATE TABLE ledger_version (single smallint PRIMARY KEY CHECK (single = 1), version bigint NOT NULL);
                 INSERT INTO ledger_version (single, version) VALUES (1, 0)",
            )
            .await?;
    }
    let applied = usize::try_from(version).unwrap_or(0);
    for migration in MIGRATIONS.iter().skip(applied) {
        session.batch(migration).await?;
    }
    session.run("UPDATE ledger_version SET version = $1 WHERE single = 1", &[&VERSION]).await?;
    Ok(())
}
