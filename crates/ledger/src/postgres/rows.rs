//! How values stand in the tables, and the small numbers of tenants and feeds.
//!
//! Never keeps a number in memory: another process may have purged the tenant since.

use engine::model::Problem;
use protocol::ids::{ContentType, TenantId};
use protocol::time::Timestamp;
use tokio_postgres::Row;

use super::fault::{Done, Fault};
use super::session::Session;
use crate::LedgerError;
use crate::values::ms;

fn odd(column: usize, value: impl std::fmt::Display) -> Fault {
    Fault::Value(format!("column {column} holds {value}"))
}

/// A time.
pub(super) fn time(row: &Row, column: usize) -> Done<Timestamp> {
    let value = row.try_get(column)?;
    Timestamp::from_timestamp_millis(value).ok_or_else(|| odd(column, value))
}

/// The same where there may be none.
pub(super) fn time_if_any(row: &Row, column: usize) -> Done<Option<Timestamp>> {
    row.try_get::<_, Option<i64>>(column)?.map(|_| time(row, column)).transpose()
}

/// A count.
pub(super) fn counted(row: &Row, column: usize) -> Done<u64> {
    let value: i64 = row.try_get(column)?;
    u64::try_from(value).map_err(|_| odd(column, value))
}

/// A small count.
pub(super) fn small(row: &Row, column: usize) -> Done<u32> {
    let value: i64 = row.try_get(column)?;
    u32::try_from(value).map_err(|_| odd(column, value))
}

/// A text that parses.
pub(super) fn parsed<T>(row: &Row, column: usize) -> Done<T>
where
    T: std::str::FromStr,
    T::Err: std::fmt::Display,
{
    row.try_get::<_, &str>(column)?.parse().map_err(|error| odd(column, error))
}

/// A tenant's id.
pub(super) fn tenant_id(row: &Row, column: usize) -> Done<TenantId> {
    Ok(TenantId::from_uuid(row.try_get(column)?))
}

/// The same where there may be none.
pub(super) fn tenant_if_any(row: &Row, column: usize) -> Done<Option<TenantId>> {
    Ok(row.try_get::<_, Option<uuid::Uuid>>(column)?.map(TenantId::from_uuid))
}

/// Bytes of a fixed number.
pub(super) fn bytes<const N: usize>(row: &Row, column: usize) -> Done<[u8; N]> {
    let found: &[u8] = row.try_get(column)?;
    found.try_into().map_err(|_| odd(column, format!("{} bytes", found.len())))
}

/// The same where there may be none.
pub(super) fn bytes_if_any<const N: usize>(row: &Row, column: usize) -> Done<Option<[u8; N]>> {
    row.try_get::<_, Option<&[u8]>>(column)?.map(|_| bytes(row, column)).transpose()
}

/// A state that the table knows by number.
pub(super) fn known<T: Copy>(row: &Row, column: usize, values: &[T]) -> Done<T> {
    let number: i16 = row.try_get(column)?;
    let value = usize::try_from(number).ok().and_then(|number| values.get(number).copied());
    value.ok_or_else(|| odd(column, number))
}

/// A state's number as the tables hold it.
pub(super) fn state(number: i64) -> i16 {
    i16::try_from(number).unwrap_or(i16::MAX)
}

/// The number of a state that stands in a list of them all.
pub(super) fn position<T: PartialEq>(values: &[T], value: &T) -> i16 {
    values.iter().position(|known| known == value).and_then(|number| i16::try_from(number).ok()).unwrap_or(i16::MAX)
}

/// Four columns from `first` on.
pub(super) fn problem(row: &Row, first: usize) -> Done<Option<Problem>> {
    let Some(kind) = row.try_get(first)? else { return Ok(None) };
    Ok(Some(Problem {
        kind,
        message: row.try_get(first + 1)?,
        since: time(row, first + 2)?,
        next_attempt_at: time_if_any(row, first + 3)?,
    }))
}

/// A tenant's number, for reading.
pub(super) async fn tenant_number(session: &Session<'_>, id: TenantId) -> Done<i64> {
    let row = session.maybe("SELECT tenant FROM tenant WHERE id = $1", &[id.as_uuid()]).await?;
    Ok(row.ok_or(LedgerError::UnknownTenant { tenant: id })?.try_get(0)?)
}

/// A tenant's number, and nobody else writes anything of this tenant before the transaction's end. The first statement of
/// whatever writes: what is read after it is as the last writer left it.
pub(super) async fn lock_tenant(session: &Session<'_>, id: TenantId) -> Done<i64> {
    let row = session.maybe("SELECT tenant FROM tenant WHERE id = $1 FOR NO KEY UPDATE", &[id.as_uuid()]).await?;
    Ok(row.ok_or(LedgerError::UnknownTenant { tenant: id })?.try_get(0)?)
}

/// The number of a feed that is there.
pub(super) async fn feed_number(session: &Session<'_>, tenant: i64, content_type: &ContentType) -> Done<Option<i64>> {
    let row = session
        .maybe(
            "SELECT feed FROM feed JOIN content_type USING (type) WHERE name = $2 AND tenant = $1",
            &[&tenant, &content_type.as_str()],
        )
        .await?;
    Ok(row.map(|row| row.try_get(0)).transpose()?)
}

/// The number of a feed, which is made when there is none. The tenant is locked.
pub(super) async fn ensure_feed(
    session: &Session<'_>,
    tenant: i64,
    content_type: &ContentType,
    now: Timestamp,
) -> Done<i64> {
    if let Some(number) = feed_number(session, tenant, content_type).await? {
        return Ok(number);
    }
    // A type's number is the same for all tenants: who comes second waits here until the first has committed.
    session
        .run("INSERT INTO content_type (name) VALUES ($1) ON CONFLICT (name) DO NOTHING", &[&content_type.as_str()])
        .await?;
    let row = session
        .one(
            "INSERT INTO feed (tenant, type, first_seen_at)
             SELECT $1, type, $3 FROM content_type WHERE name = $2 RETURNING feed",
            &[&tenant, &content_type.as_str(), &ms(now)],
        )
        .await?;
    Ok(row.try_get(0)?)
}
