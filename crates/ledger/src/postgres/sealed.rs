//! What must persist and is secret, as the vault has sealed it.
//!
//! Never opens anything: to the ledger it is bytes under a name. Each change is one statement that compares and sets.

use super::fault::Done;
use super::session::Session;

pub(super) async fn one(session: &Session<'_>, name: &str) -> Done<Option<Vec<u8>>> {
    let row = session.maybe("SELECT value FROM sealed WHERE name = $1", &[&name]).await?;
    Ok(row.map(|row| row.try_get(0)).transpose()?)
}

pub(super) async fn all(session: &Session<'_>, after: Option<&str>, limit: u32) -> Done<Vec<(String, Vec<u8>)>> {
    // No name is empty, so every one comes after it.
    let rows = session
        .rows(
            "SELECT name, value FROM sealed WHERE name > $1 ORDER BY name LIMIT $2",
            &[&after.unwrap_or_default(), &i64::from(limit)],
        )
        .await?;
    rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect()
}

pub(super) async fn put(session: &Session<'_>, name: &str, was: Option<&[u8]>, now: Option<&[u8]>) -> Done<bool> {
    let changed = match (was, now) {
        (None, None) => return Ok(one(session, name).await?.is_none()),
        (None, Some(now)) => {
            session
                .run("INSERT INTO sealed (name, value) VALUES ($1, $2) ON CONFLICT DO NOTHING", &[&name, &now])
                .await?
        }
        (Some(was), Some(now)) => {
            session.run("UPDATE sealed SET value = $3 WHERE name = $1 AND value = $2", &[&name, &was, &now]).await?
        }
        (Some(was), None) => session.run("DELETE FROM sealed WHERE name = $1 AND value = $2", &[&name, &was]).await?,
    };
    Ok(changed == 1)
}
