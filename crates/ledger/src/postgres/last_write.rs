//! How a `COMMIT` whose answer was lost is told from one that never happened: each write notes its number, in its own
//! transaction, at a place that no other write uses until this one's end is known.
//!
//! Never goes by the transaction's number. A server that crashes gives numbers out again that it had not written to its log:
//! the number would be found committed, and be somebody else's.

use std::cell::{Cell, RefCell};

use uuid::Uuid;

use super::fault::Done;
use super::session::Session;

/// The number at a place where nothing was ever written.
const NOTHING: i64 = 0;

/// A handle's places. There are as many as it has ever had writes at once, and one more for each connection it lost.
pub(super) struct Places {
    handle: Uuid,
    free: RefCell<Vec<i32>>,
    places: Cell<i32>,
    writes: Cell<i64>,
}

/// One write, and where it is noted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Write {
    handle: Uuid,
    place: i32,
    number: i64,
}

impl Places {
    pub(super) fn new() -> Self {
        Self { handle: Uuid::new_v4(), free: RefCell::default(), places: Cell::new(0), writes: Cell::new(NOTHING) }
    }

    /// A write that begins.
    pub(super) fn begin(&self) -> Write {
        let place = self.free.borrow_mut().pop().unwrap_or_else(|| {
            self.places.set(self.places.get() + 1);
            self.places.get()
        });
        self.writes.set(self.writes.get() + 1);
        Write { handle: self.handle, place, number: self.writes.get() }
    }

    /// The write is over and its transaction ended: its place is another's. One whose connection was lost before it was
    /// committed keeps its place for good, as the server may hold on to it for a while.
    pub(super) fn end(&self, write: Write) {
        self.free.borrow_mut().push(write.place);
    }
}

impl Write {
    /// Notes the write as part of the transaction under way.
    pub(super) async fn note(&self, session: &Session<'_>) -> Done<()> {
        session
            .run(
                "INSERT INTO last_write (handle, place, number, at) VALUES ($1, $2, $3, now())
                 ON CONFLICT (handle, place) DO UPDATE SET number = excluded.number, at = excluded.at",
                &[&self.handle, &self.place, &self.number],
            )
            .await?;
        Ok(())
    }

    /// Whether the write was committed. Waits for its transaction to end if the server still holds on to it: an insertion
    /// waits for the row's writer, also for one whose row nobody can see yet.
    pub(super) async fn has_happened(&self, session: &Session<'_>) -> Done<bool> {
        let row = session
            .one(
                "INSERT INTO last_write (handle, place, number, at) VALUES ($1, $2, $3, now())
                 ON CONFLICT (handle, place) DO UPDATE SET number = last_write.number RETURNING number",
                &[&self.handle, &self.place, &NOTHING],
            )
            .await?;
        Ok(row.try_get::<_, i64>(0)? == self.number)
    }
}

/// Removes what no handle can still ask for: none waits that long for a server.
pub(super) async fn sweep(session: &Session<'_>) -> Done<()> {
    session.run("DELETE FROM last_write WHERE at < now() - interval '30 days'", &[]).await?;
    Ok(())
}
