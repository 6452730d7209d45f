//! The shared side of a move: one transaction that reads everything, or one that writes everything, on a connection of its
//! own.
//!
//! Never holds more than a batch: rows are read through a cursor and written by `COPY`.

use std::rc::Rc;

use bytes::BytesMut;
use tokio::sync::mpsc;
use tokio_postgres::binary_copy::BinaryCopyInWriter;
use tokio_postgres::types::{IsNull, ToSql, Type, to_sql_checked};
use tokio_postgres::{Client, Error};

use super::table::{Kind, TABLES, Table};
use super::value::{Row, Sum, Value};
use super::{BATCH, Message, MigrateError, Whole, check_row, compare, failed};
use crate::LedgerError;
use crate::error::Place;
use crate::postgres::{Engine, PgLedger};

/// No limit of time: a ledger of years is moved in one transaction.
const UNHURRIED: &str = "SET LOCAL statement_timeout = 0; SET LOCAL idle_in_transaction_session_timeout = 0; SET LOCAL lock_timeout = '10s'";

impl PgLedger {
    /// Sends everything.
    pub(super) async fn send_all(&self, send: mpsc::Sender<Message>) -> Result<(), MigrateError> {
        let done = self.on_thread(async move |engine: Rc<Engine>| {
            let (client, task) = connected(&engine).await?;
            let done = read(&client, &engine.place, &send).await;
            task.abort();
            Ok(done)
        });
        done.await?
    }

    /// Writes everything that comes, and reads it back.
    pub(super) async fn receive_all(&self, receive: mpsc::Receiver<Message>) -> Result<Whole, MigrateError> {
        let done = self.on_thread(async move |engine: Rc<Engine>| {
            let (client, task) = connected(&engine).await?;
            // What is not committed goes with the connection.
            let done = write(&client, &engine.place, receive).await;
            task.abort();
            Ok(done)
        });
        done.await?
    }
}

async fn connected(engine: &Engine) -> Result<(Client, tokio::task::JoinHandle<()>), LedgerError> {
    engine.connect().await
}

async fn read(client: &Client, place: &Place, send: &mpsc::Sender<Message>) -> Result<(), MigrateError> {
    let fault = |error: Error| failed(place.clone(), error);
    let begin = format!("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; {UNHURRIED}");
    client.batch_execute(&begin).await.map_err(fault)?;
    let whole = scan(client, place, Some(send)).await?;
    send.send(Message::End(whole)).await.map_err(|_| MigrateError::Interrupted)
}

async fn write(client: &Client, place: &Place, mut receive: mpsc::Receiver<Message>) -> Result<Whole, MigrateError> {
    let fault = |error: Error| failed(place.clone(), error);
    let names: Vec<&str> = TABLES.iter().map(|table| table.name).collect();
    let begin = format!("BEGIN; {UNHURRIED}; LOCK TABLE identity, revision, {} IN EXCLUSIVE MODE", names.join(", "));
    client.batch_execute(&begin).await.map_err(fault)?;
    for table in TABLES {
        let text = format!("SELECT EXISTS (SELECT FROM {})", table.name);
        if client.query_one(&text, &[]).await.and_then(|row| row.try_get(0)).map_err(fault)? {
            return Err(MigrateError::NotEmpty { place: place.clone(), table: table.name });
        }
    }
    let sent = loop {
        match receive.recv().await {
            None => return Err(MigrateError::Interrupted),
            Some(Message::End(whole)) => break whole,
            Some(Message::Rows(number, rows)) => {
                let Some(table) = TABLES.get(number) else { continue };
                insert(client, table, &rows).await.map_err(fault)?;
            }
        }
    };
    count_on(client, &sent).await.map_err(fault)?;
    let found = scan(client, place, None).await?;
    compare(&sent, &found)?;
    client.batch_execute("COMMIT").await.map_err(fault)?;
    // Plans are made from these; a failure here costs speed until the server does it by itself.
    let _ = client.batch_execute("SET statement_timeout = 0; ANALYZE").await;
    Ok(found)
}

async fn insert(client: &Client, table: &Table, rows: &[Row]) -> Result<(), Error> {
    let types: Vec<Type> = table
        .columns
        .iter()
        .map(|(_, kind)| match kind {
            Kind::Int => Type::INT8,
            Kind::Small => Type::INT2,
            Kind::Bool => Type::BOOL,
            Kind::Text => Type::TEXT,
            Kind::Bytes => Type::BYTEA,
            Kind::Uuid => Type::UUID,
        })
        .collect();
    let sink = client.copy_in(&format!("COPY {} ({}) FROM STDIN BINARY", table.name, table.columns())).await?;
    let mut writer = Box::pin(BinaryCopyInWriter::new(sink, &types));
    for row in rows {
        let cells: Vec<Cell<'_>> =
            row.iter().zip(table.columns).map(|(value, (_, kind))| Cell { value, kind: *kind }).collect();
        let cells: Vec<&(dyn ToSql + Sync)> = cells.iter().map(|cell| cell as &(dyn ToSql + Sync)).collect();
        writer.as_mut().write(&cells).await?;
    }
    writer.as_mut().finish().await?;
    Ok(())
}

/// Lets the database go on counting where the other side was.
async fn count_on(client: &Client, sent: &Whole) -> Result<(), Error> {
    let id = uuid::Uuid::from_bytes(sent.id);
    client.execute("UPDATE identity SET id = $1 WHERE single = 1", &[&id]).await?;
    client.execute("UPDATE revision SET greatest = $1 WHERE single = 1", &[&sent.revision]).await?;
    for table in TABLES {
        let Some(column) = table.counted else { continue };
        let given = if table.name == "invitation" { sent.invitation } else { 0 };
        let text = format!(
            "SELECT setval(pg_get_serial_sequence('{0}', '{column}'), greatest(last, 1), last > 0)
             FROM (SELECT greatest(coalesce(max({column}), 0), $1) AS last FROM {0}) AS l",
            table.name
        );
        client.query_one(&text, &[&given]).await?;
    }
    Ok(())
}

/// Reads every table, handing its rows on.
async fn scan(client: &Client, place: &Place, send: Option<&mpsc::Sender<Message>>) -> Result<Whole, MigrateError> {
    let fault = |error: Error| failed(place.clone(), error);
    let mut whole = Whole::default();
    for (number, table) in TABLES.iter().enumerate() {
        let mut sum = Sum::default();
        let declare = format!("DECLARE everything NO SCROLL CURSOR FOR {}", table.select());
        client.batch_execute(&declare).await.map_err(fault)?;
        let fetch = client.prepare(&format!("FETCH {BATCH} FROM everything")).await.map_err(fault)?;
        loop {
            let found = client.query(&fetch, &[]).await.map_err(fault)?;
            if found.is_empty() {
                break;
            }
            let mut rows = Vec::with_capacity(found.len());
            for row in &found {
                let row = row_of(row, table).map_err(fault)?;
                check_row(table, &row)?;
                sum.add(&row);
                rows.push(row);
            }
            if let Some(send) = send {
                send.send(Message::Rows(number, rows)).await.map_err(|_| MigrateError::Interrupted)?;
            }
        }
        client.batch_execute("CLOSE everything").await.map_err(fault)?;
        whole.sums.push(sum);
    }
    let id = client.query_one("SELECT id FROM identity WHERE single = 1", &[]).await;
    whole.id = id.and_then(|row| row.try_get::<_, uuid::Uuid>(0)).map_err(fault)?.into_bytes();
    let one = async |text: &str| client.query_one(text, &[]).await.and_then(|row| row.try_get(0)).map_err(fault);
    whole.revision = one("SELECT greatest FROM revision WHERE single = 1").await?;
    whole.invitation =
        one("SELECT coalesce(pg_sequence_last_value(pg_get_serial_sequence('invitation', 'invitation')), 0)").await?;
    Ok(whole)
}

fn row_of(row: &tokio_postgres::Row, table: &Table) -> Result<Row, Error> {
    let kinds = table.columns.iter().map(|(_, kind)| *kind).enumerate();
    kinds
        .map(|(column, kind)| {
            let value = match kind {
                Kind::Int => row.try_get::<_, Option<i64>>(column)?.map(Value::Int),
                Kind::Small => row.try_get::<_, Option<i16>>(column)?.map(|number| Value::Int(number.into())),
                Kind::Bool => row.try_get::<_, Option<bool>>(column)?.map(|yes| Value::Int(yes.into())),
                Kind::Text => row.try_get::<_, Option<String>>(column)?.map(Value::Text),
                Kind::Bytes => row.try_get::<_, Option<Vec<u8>>>(column)?.map(Value::Bytes),
                Kind::Uuid => {
                    row.try_get::<_, Option<uuid::Uuid>>(column)?.map(|id| Value::Bytes(id.as_bytes().to_vec()))
                }
            };
            Ok(value.unwrap_or(Value::Null))
        })
        .collect()
}

/// A value on its way into a column of its kind; that it fits has been checked.
#[derive(Debug)]
struct Cell<'v> {
    value: &'v Value,
    kind: Kind,
}

impl ToSql for Cell<'_> {
    fn to_sql(&self, ty: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn std::error::Error + Sync + Send>> {
        match (self.value, self.kind) {
            (Value::Null, _) => Ok(IsNull::Yes),
            (Value::Int(number), Kind::Small) => i16::try_from(*number)?.to_sql(ty, out),
            (Value::Int(number), Kind::Bool) => (*number != 0).to_sql(ty, out),
            (Value::Int(number), _) => number.to_sql(ty, out),
            (Value::Text(text), _) => text.to_sql(ty, out),
            (Value::Bytes(bytes), Kind::Uuid) => uuid::Uuid::from_slice(bytes)?.to_sql(ty, out),
            (Value::Bytes(bytes), _) => bytes.to_sql(ty, out),
        }
    }

    fn accepts(_ty: &Type) -> bool {
        true
    }

    to_sql_checked!();
}
