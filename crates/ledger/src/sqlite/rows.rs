//! How values stand in the tables: times, ids, states, problems; and the small numbers of tenants and feeds.
//!
//! Never keeps a number in memory: another process may have purged the tenant since.

use engine::model::Problem;
use protocol::ids::{ContentType, TenantId};
use protocol::time::Timestamp;
use rusqlite::types::Type;
use rusqlite::{CachedStatement, Connection, OptionalExtension, Row, params};

use super::fault::Done;
use crate::LedgerError;
use crate::values::ms;

/// A prepared statement; every statement of a call comes from here, so that the tests see what plan each one has.
pub(super) fn sql<'c>(connection: &'c Connection, text: &str) -> rusqlite::Result<CachedStatement<'c>> {
    #[cfg(test)]
    super::tests::plans::note(text);
    connection.prepare_cached(text)
}

/// Reads such a number back.
pub(super) fn time(row: &Row<'_>, column: usize) -> rusqlite::Result<Timestamp> {
    let value = row.get(column)?;
    Timestamp::from_timestamp_millis(value).ok_or(rusqlite::Error::IntegralValueOutOfRange(column, value))
}

/// The same where there may be none.
pub(super) fn time_if_any(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<Timestamp>> {
    row.get::<_, Option<i64>>(column)?.map(|_| time(row, column)).transpose()
}

/// Reads a count back.
pub(super) fn counted(row: &Row<'_>, column: usize) -> rusqlite::Result<u64> {
    let value: i64 = row.get(column)?;
    u64::try_from(value).map_err(|_| rusqlite::Error::IntegralValueOutOfRange(column, value))
}

/// A text that parses, or a damaged file.
pub(super) fn parsed<T>(row: &Row<'_>, column: usize) -> rusqlite::Result<T>
where
    T: std::str::FromStr,
    T::Err: std::error::Error + Send + Sync + 'static,
{
    let text = row.get_ref(column)?.as_str()?;
    text.parse().map_err(|error| rusqlite::Error::FromSqlConversionFailure(column, Type::Text, Box::new(error)))
}

/// A tenant's id.
pub(super) fn tenant_id(row: &Row<'_>, column: usize) -> rusqlite::Result<TenantId> {
    Ok(TenantId::from_uuid(uuid::Uuid::from_bytes(row.get(column)?)))
}

/// A state that the table knows by number.
pub(super) fn known<T: Copy>(row: &Row<'_>, column: usize, values: &[T]) -> rusqlite::Result<T> {
    let number: i64 = row.get(column)?;
    let value = usize::try_from(number).ok().and_then(|number| values.get(number).copied());
    value.ok_or(rusqlite::Error::IntegralValueOutOfRange(column, number))
}

/// Four columns from `first` on.
pub(super) fn problem(row: &Row<'_>, first: usize) -> rusqlite::Result<Option<Problem>> {
    let Some(kind) = row.get(first)? else { return Ok(None) };
    Ok(Some(Problem {
        kind,
        message: row.get(first + 1)?,
        since: time(row, first + 2)?,
        next_attempt_at: time_if_any(row, first + 3)?,
    }))
}

/// A tenant's number.
pub(super) fn tenant_number(connection: &Connection, id: TenantId) -> Done<i64> {
    let number = sql(connection, "SELECT tenant FROM tenant WHERE id = ?1")?
        .query_row([id.as_uuid().as_bytes()], |row| row.get(0))
        .optional()?;
    Ok(number.ok_or(LedgerError::UnknownTenant { tenant: id })?)
}

/// The number of a feed that is there.
pub(super) fn feed_number(connection: &Connection, tenant: i64, content_type: &ContentType) -> Done<Option<i64>> {
    let number =
        sql(connection, "SELECT feed FROM content_type CROSS JOIN feed USING (type) WHERE name = ?2 AND tenant = ?1")?
            .query_row(params![tenant, content_type.as_str()], |row| row.get(0))
            .optional()?;
    Ok(number)
}

/// The number of a feed, which is made when there is none.
pub(super) fn ensure_feed(
    connection: &Connection,
    tenant: i64,
    content_type: &ContentType,
    now: Timestamp,
) -> Done<i64> {
    if let Some(number) = feed_number(connection, tenant, content_type)? {
        return Ok(number);
    }
    sql(connection, "INSERT INTO content_type (name) VALUES (?1) ON CONFLICT (name) DO NOTHING")?
        .execute([content_type.as_str()])?;
    let number = sql(
        connection,
        "INSERT INTO feed (tenant, type, first_seen_at)
         SELECT ?1, type, ?3 FROM content_type WHERE name = ?2 RETURNING feed",
    )?
    .query_row(params![tenant, content_type.as_str(), ms(now)], |row| row.get(0))?;
    Ok(number)
}
