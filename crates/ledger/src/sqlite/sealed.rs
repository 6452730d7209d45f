//! What must persist and is secret, as the vault has sealed it.
//!
//! Never opens anything: to the ledger it is bytes under a name.

use rusqlite::{Connection, OptionalExtension, params};

use super::fault::Done;
use super::rows::sql;

pub(super) fn one(connection: &Connection, name: &str) -> Done<Option<Vec<u8>>> {
    Ok(sql(connection, "SELECT value FROM sealed WHERE name = ?1")?.query_row([name], |row| row.get(0)).optional()?)
}

pub(super) fn all(connection: &Connection, after: Option<&str>, limit: u32) -> Done<Vec<(String, Vec<u8>)>> {
    // No name is empty, so every one comes after it.
    let mut statement = sql(connection, "SELECT name, value FROM sealed WHERE name > ?1 ORDER BY name LIMIT ?2")?;
    let found = statement.query_map(params![after.unwrap_or_default(), limit], |row| Ok((row.get(0)?, row.get(1)?)))?;
    Ok(found.collect::<Result<_, _>>()?)
}

pub(super) fn put(connection: &Connection, name: &str, was: Option<&[u8]>, now: Option<&[u8]>) -> Done<bool> {
    let changed = match (was, now) {
        (None, None) => return Ok(one(connection, name)?.is_none()),
        (None, Some(now)) => {
            sql(connection, "INSERT INTO sealed (name, value) VALUES (?1, ?2) ON CONFLICT DO NOTHING")?
                .execute(params![name, now])?
        }
        (Some(was), Some(now)) => sql(connection, "UPDATE sealed SET value = ?3 WHERE name = ?1 AND value = ?2")?
            .execute(params![name, was, now])?,
        (Some(was), None) => {
            sql(connection, "DELETE FROM sealed WHERE name = ?1 AND value = ?2")?.execute(params![name, was])?
        }
    };
    Ok(changed == 1)
}
