//! Which ledger this is.
//!
//! Never changes it: the id is drawn when the file is made, or first brought to the version that has one.

use engine::model::LedgerId;
use rusqlite::Connection;

use super::fault::Done;
use super::rows::sql;

pub(super) fn id(connection: &Connection) -> Done<LedgerId> {
    Ok(sql(connection, "SELECT id FROM identity WHERE one = 1")?.query_row([], |row| row.get(0)).map(LedgerId)?)
}
