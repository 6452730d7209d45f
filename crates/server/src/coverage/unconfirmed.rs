//! The windows after "complete through" that are not confirmed yet, as the report names them.
//!
//! Never decides which those are: `engine::unconfirmed` does, from what the ledger has.

use engine::model::{Coverage, Pending, Problem};
use engine::unconfirmed::{Feed, Unconfirmed};
use ledger::{Ledger, LedgerError};
use protocol::ids::TenantId;
use protocol::time::Timestamp;
use serde::Serialize;

use super::Time;

/// Windows named one by one; the count beside them says how many there are.
const NAMED: usize = 5;

/// Contents that wait, read of one tenant to tell their windows. Of a backlog larger than this the most urgent are read,
/// which are the oldest ones.
const PENDING_READ: u32 = 1000;

/// What is read as waiting whatever the hour of its next attempt: later than any.
const ANY_ATTEMPT: chrono::TimeDelta = chrono::TimeDelta::days(30);

/// The windows of one tenant and content type that are not confirmed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct UnconfirmedItem {
    /// How many there are, the present one among them; at most [`engine::unconfirmed::TILES_MAX`].
    pub windows: u64,
    /// The oldest of them.
    pub oldest: Vec<UnconfirmedWindow>,
}

/// A window `[from, to)` that is not confirmed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct UnconfirmedWindow {
    /// Inclusive.
    pub from: Time,
    /// Exclusive. To come, where the window has not ended.
    pub to: Time,
    /// `open`, `not_listed`, `listed_in_part`, `listing_held_up` or `contents_pending`.
    pub cause: &'static str,
    /// One sentence.
    pub message: String,
    /// Through when complete listings have reached.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub listed_through: Option<Time>,
    /// Contents of it that wait to be fetched.
    pub pending: u64,
}

/// The contents of a tenant that wait; none are read when its sums have none.
pub(super) async fn pending_of(
    ledger: &dyn Ledger,
    tenant: TenantId,
    rows: &[Coverage],
    now: Timestamp,
) -> Result<Vec<Pending>, LedgerError> {
    if rows.iter().all(|row| row.pending == 0) {
        return Ok(Vec::new());
    }
    let latest = now.checked_add_signed(ANY_ATTEMPT).unwrap_or(now);
    ledger.pending(tenant, latest, PENDING_READ, Vec::new()).await
}

impl UnconfirmedItem {
    /// Of the feed of one row; `pending` may hold other feeds' contents too.
    pub(super) async fn read(
        ledger: &dyn Ledger,
        row: &Coverage,
        pending: &[Pending],
        now: Timestamp,
    ) -> Result<Self, LedgerError> {
        let tiles = ledger.tiles(row.tenant, row.content_type.clone()).await?;
        let of_feed = pending.iter().filter(|pending| pending.content.content_type == row.content_type);
        let created: Vec<Timestamp> = of_feed.map(|pending| pending.content.created).collect();
        let feed = Feed {
            from: row.from,
            complete_through: row.complete_through,
            now,
            tiles: &tiles,
            gaps: &row.gaps,
            pending: &created,
        };
        let unconfirmed = feed.unconfirmed();
        let problem = row.problem.as_ref();
        Ok(Self {
            windows: unconfirmed.len() as u64,
            oldest: unconfirmed.iter().take(NAMED).map(|found| UnconfirmedWindow::new(found, problem)).collect(),
        })
    }

    /// Whether there is more to tell than that time goes on: the window of now is open, and all of it is listed and archived.
    pub fn is_worth_telling(&self) -> bool {
        self.oldest.iter().any(|window| window.cause != "open" || window.pending > 0)
    }
}

impl UnconfirmedWindow {
    fn new(found: &Unconfirmed, problem: Option<&Problem>) -> Self {
        Self {
            from: Time(found.tile.start),
            to: Time(found.tile.until),
            cause: found.as_str(problem),
            message: found.says(problem),
            listed_through: found.listed_through.map(Time),
            pending: found.pending,
        }
    }
}
