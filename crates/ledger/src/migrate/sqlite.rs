//! The embedded side of a move: one transaction that reads everything, or one that writes everything.
//!
//! Never lets another process write in the meantime: both transactions hold the file's one place for writers.

use std::path::Path;

use rusqlite::types::ValueRef;
use rusqlite::{Connection, OptionalExtension, TransactionBehavior, params_from_iter};
use tokio::sync::mpsc;

use super::table::{TABLES, Table};
use super::value::{Row, Sum, Value};
use super::{BATCH, Message, MigrateError, Whole, check_row, compare, failed};
use crate::sqlite::connect_for_migration;
use crate::values::plain;

/// Sends everything.
pub(super) fn read(path: &Path, send: &mpsc::Sender<Message>) -> Result<(), MigrateError> {
    let fault = |error: rusqlite::Error| failed(path.into(), error);
    let mut connection = connect_for_migration(path)?;
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(fault)?;
    let whole = scan(&transaction, path, |table, rows| {
        send.blocking_send(Message::Rows(table, rows)).map_err(|_| MigrateError::Interrupted)
    })?;
    send.blocking_send(Message::End(whole)).map_err(|_| MigrateError::Interrupted)
}

/// Writes everything that comes, and reads it back.
pub(super) fn write(path: &Path, mut receive: mpsc::Receiver<Message>) -> Result<Whole, MigrateError> {
    let fault = |error: rusqlite::Error| failed(path.into(), error);
    let mut connection = connect_for_migration(path)?;
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(fault)?;
    for table in TABLES {
        let text = format!("SELECT 1 FROM {} LIMIT 1", table.name);
        if transaction.prepare(&text).and_then(|mut found| found.exists([])).map_err(fault)? {
            return Err(MigrateError::NotEmpty { place: path.into(), table: table.name });
        }
    }
    let sent = loop {
        match receive.blocking_recv() {
            None => return Err(MigrateError::Interrupted),
            Some(Message::End(whole)) => break whole,
            Some(Message::Rows(number, rows)) => {
                let Some(table) = TABLES.get(number) else { continue };
                insert(&transaction, table, &rows).map_err(fault)?;
            }
        }
    };
    transaction.execute("UPDATE identity SET id = ?1 WHERE one = 1", [sent.id]).map_err(fault)?;
    transaction.execute("UPDATE revision SET greatest = ?1 WHERE only = 1", [sent.revision]).map_err(fault)?;
    transaction.execute("DELETE FROM sqlite_sequence WHERE name = 'invitation'", []).map_err(fault)?;
    transaction
        .execute("INSERT INTO sqlite_sequence (name, seq) VALUES ('invitation', ?1)", [sent.invitation])
        .map_err(fault)?;
    let found = scan(&transaction, path, |_, _| Ok(()))?;
    compare(&sent, &found)?;
    transaction.commit().map_err(fault)?;
    Ok(found)
}

fn insert(connection: &Connection, table: &Table, rows: &[Row]) -> rusqlite::Result<()> {
    let places: Vec<String> = (1..=table.columns.len()).map(|number| format!("?{number}")).collect();
    let text = format!("INSERT INTO {} ({}) VALUES ({})", table.name, table.columns(), places.join(", "));
    let mut statement = connection.prepare_cached(&text)?;
    for row in rows {
        statement.execute(params_from_iter(row.iter().map(|value| match value {
            Value::Null => rusqlite::types::Value::Null,
            Value::Int(number) => rusqlite::types::Value::Integer(*number),
            Value::Text(text) => rusqlite::types::Value::Text(text.clone()),
            Value::Bytes(bytes) => rusqlite::types::Value::Blob(bytes.clone()),
        })))?;
    }
    Ok(())
}

/// Reads every table, handing its rows on.
fn scan(
    connection: &Connection,
    path: &Path,
    mut each: impl FnMut(usize, Vec<Row>) -> Result<(), MigrateError>,
) -> Result<Whole, MigrateError> {
    let fault = |error: rusqlite::Error| failed(path.into(), error);
    let mut whole = Whole::default();
    for (number, table) in TABLES.iter().enumerate() {
        let mut sum = Sum::default();
        let mut statement = connection.prepare(&table.select()).map_err(fault)?;
        let mut rows = statement.query([]).map_err(fault)?;
        let mut batch = Vec::new();
        while let Some(found) = rows.next().map_err(fault)? {
            let row = row_of(found, table).map_err(fault)?;
            check_row(table, &row)?;
            sum.add(&row);
            batch.push(row);
            if batch.len() == BATCH {
                each(number, std::mem::take(&mut batch))?;
            }
        }
        if !batch.is_empty() {
            each(number, batch)?;
        }
        whole.sums.push(sum);
    }
    whole.id = connection.query_row("SELECT id FROM identity WHERE one = 1", [], |row| row.get(0)).map_err(fault)?;
    let one = |text: &str| connection.query_row(text, [], |row| row.get(0)).optional().map_err(fault);
    whole.revision = one("SELECT greatest FROM revision WHERE only = 1")?.unwrap_or(0);
    whole.invitation = one("SELECT seq FROM sqlite_sequence WHERE name = 'invitation'")?.unwrap_or(0);
    Ok(whole)
}

fn row_of(row: &rusqlite::Row<'_>, table: &Table) -> rusqlite::Result<Row> {
    (0..table.columns.len())
        .map(|column| {
            Ok(match row.get_ref(column)? {
                ValueRef::Null => Value::Null,
                ValueRef::Integer(number) => Value::Int(number),
                // No table has such a column; what cannot be moved is refused by its kind.
                ValueRef::Real(number) => Value::Text(number.to_string()),
                ValueRef::Text(_) => Value::Text(plain(&row.get::<_, String>(column)?).into_owned()),
                ValueRef::Blob(bytes) => Value::Bytes(bytes.to_vec()),
            })
        })
        .collect()
}
