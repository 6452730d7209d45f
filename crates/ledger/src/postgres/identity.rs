//! Which ledger this is.
//!
//! Never changes it: the id is drawn when the tables are made, or comes with a ledger that is moved here.

use engine::model::LedgerId;

use super::fault::Done;
use super::session::Session;

pub(super) async fn id(session: &Session<'_>) -> Done<LedgerId> {
    let row = session.one("SELECT id FROM identity WHERE single = 1", &[]).await?;
    Ok(LedgerId(row.try_get::<_, uuid::Uuid>(0)?.into_bytes()))
}
