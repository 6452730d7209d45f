//! One listing of one window: page after page, each page's contents written down before the next is asked for.
//!
//! Never calls a listing complete that is not: a page that fails, repeats, or names a blob without a name leaves the window
//! unlisted, and what earlier pages brought stays written all the same.

use std::collections::HashSet;

use chrono::TimeDelta;
use engine::model::Listed;
use ledger::LedgerError;
use protocol::activity::{
    EntryProblem, Feed, ListedContent, NextPage, RETENTION, UnreadableEntry, Window, list_content, list_content_next,
    parse_list_content,
};
use protocol::ids::{ContentId, ContentType, ContentUri};
use protocol::time::Timestamp;

use super::context::Context;
use super::feed::{Client, Failure};
use crate::metrics::Operation;

/// Why a listing is not complete.
#[derive(Debug, thiserror::Error)]
pub(super) enum ListFailure {
    /// A request failed.
    #[error(transparent)]
    Request(#[from] Failure),
    /// What was listed could not be written down.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The pages go round in circles.
    #[error("the listing of {window} names a page it has named before")]
    PagesRepeat {
        /// Which window.
        window: Window,
    },
    /// The pages do not end.
    #[error("the listing of {window} has more than {limit} pages")]
    TooManyPages {
        /// Which window.
        window: Window,
        /// How many are followed.
        limit: u32,
    },
    /// An entry that cannot even be written down as lost.
    #[error("the listing of {window} has an entry that names no content ({problem}): {raw}")]
    NamelessEntry {
        /// Which window.
        window: Window,
        /// What is wrong with it.
        problem: EntryProblem,
        /// Its beginning.
        raw: String,
    },
}

/// What a complete listing brought.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Brought {
    /// Contents named.
    pub(super) contents: u64,
    /// Of those, contents that were not known.
    pub(super) new: u64,
}

/// Lists `window` to its last page.
pub(super) async fn list_window(
    context: &Context,
    client: Client<'_>,
    content_type: &ContentType,
    window: Window,
) -> Result<Brought, ListFailure> {
    let feed = client.feed();
    let limit = context.settings.limits.pages_per_listing;
    let mut brought = Brought::default();
    let mut nameless = None;
    let mut seen: HashSet<NextPage> = HashSet::new();
    let mut request = list_content(&feed, content_type, window);
    for _ in 0..limit {
        let page = client
            .ask(Operation::ListContent, request, |response| parse_list_content(&feed, content_type, response))
            .await?;
        let mut contents: Vec<Listed> = page.contents.into_iter().map(listed).collect();
        for entry in page.unreadable {
            match listed_despite(&feed, content_type, window, &entry) {
                Some(content) => contents.push(content),
                None => nameless = Some(entry),
            }
        }
        brought.contents += contents.len() as u64;
        if !contents.is_empty() {
            let new = context.ledger.contents_listed(client.tenant, contents, context.clock.now()).await?;
            brought.new += new;
            context.board.update(client.tenant, |line| {
                line.counts.listed += new;
                line.pending += new;
            });
        }
        // Stopping here is safe: what was listed is written, and the window is listed again from its beginning.
        let Some(next) = page.next else {
            return match nameless {
                Some(UnreadableEntry { problem, raw, .. }) => Err(ListFailure::NamelessEntry { window, problem, raw }),
                None => Ok(brought),
            };
        };
        request = list_content_next(&feed, &next).map_err(Failure::from)?;
        if !seen.insert(next) {
            return Err(ListFailure::PagesRepeat { window });
        }
    }
    Err(ListFailure::TooManyPages { window, limit })
}

fn listed(content: ListedContent) -> Listed {
    Listed {
        content_type: content.content_type,
        content_id: content.content_id,
        content_uri: content.content_uri,
        created: content.content_created,
        expires: content.content_expiration,
    }
}

/// A content whose entry cannot be read in full, but has a name: it must be archived, or named as lost, like any other. One
/// without a usable URI is asked for where the documentation says it is; one with a foreign URI keeps it, and the fetch
/// will refuse it by name.
fn listed_despite(
    feed: &Feed<'_>,
    content_type: &ContentType,
    window: Window,
    entry: &UnreadableEntry,
) -> Option<Listed> {
    let content_id = entry.content_id.clone()?;
    let given = match entry.problem {
        EntryProblem::Refused(_) => uri_in(&entry.raw),
        _ => None,
    };
    let content_uri = given.or_else(|| documented_uri(feed, &content_id))?;
    let created = entry.content_created.unwrap_or_else(|| window.start());
    tracing::warn!(tenant = %feed.tenant, %content_type, %content_id, problem = %entry.problem, "a listed content has an odd entry");
    Some(Listed { content_type: content_type.clone(), content_id, content_uri, created, expires: expiry(created) })
}

fn uri_in(raw: &str) -> Option<ContentUri> {
    let entry: serde_json::Value = serde_json::from_str(raw).ok()?;
    entry.get("contentUri")?.as_str()?.parse().ok()
}

/// `{feed root}/audit/{contentId}` (activity-api.md §2.4, the sample's form).
fn documented_uri(feed: &Feed<'_>, content_id: &ContentId) -> Option<ContentUri> {
    format!("{}/audit/{content_id}", feed.cloud.feed_root(feed.tenant)).parse().ok()
}

fn expiry(created: Timestamp) -> Timestamp {
    let retention = TimeDelta::from_std(RETENTION).unwrap_or(TimeDelta::MAX);
    created.checked_add_signed(retention).unwrap_or(created)
}
