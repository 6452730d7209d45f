//! One listing of one window: page after page, each page's contents written down before the next is asked for.
//!
//! Never calls a listing complete that is not: a page that fails or repeats leaves the window unlisted, and what earlier
//! pages brought stays written all the same. Never passes over an entry: what cannot be fetched is written down as lost.

use std::collections::HashSet;

use chrono::TimeDelta;
use engine::model::{Listed, Loss, LossKind, RefusedEntry};
use ledger::LedgerError;
use protocol::activity::{
    EntryProblem, Feed, ListedContent, NextPage, RETENTION, UnreadableEntry, Window, list_content, list_content_next,
    parse_list_content,
};
use protocol::ids::{ContentId, ContentType, ContentUri};
use protocol::time::Timestamp;

use super::context::Context;
use super::feed::{Client, Failure};
use crate::clock::Clock;
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
}

/// What a complete listing brought.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Brought {
    /// Contents named.
    pub(super) contents: u64,
    /// Of those, contents that were not known.
    pub(super) new: u64,
    /// Requests it took, one a page.
    pub(super) requests: u64,
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
    let mut seen: HashSet<NextPage> = HashSet::new();
    let mut request = list_content(&feed, content_type, window);
    for _ in 0..limit {
        let page = client
            .ask(Operation::ListContent, request, |response| parse_list_content(&feed, content_type, response))
            .await?;
        let mut contents: Vec<Listed> = page.contents.into_iter().map(listed).collect();
        let mut refused = Vec::new();
        for entry in page.unreadable {
            match listed_despite(&feed, content_type, window, &entry) {
                Some(content) => contents.push(content),
                None => refused.push(refused_entry(&feed, content_type, entry)),
            }
        }
        brought.add(write_down(context, client, contents, refused).await?);
        brought.requests += 1;
        // Stopping here is safe: what was listed is written, and the window is listed again from its beginning.
        let Some(next) = page.next else { return Ok(brought) };
        request = list_content_next(&feed, &next).map_err(Failure::from)?;
        if !seen.insert(next) {
            return Err(ListFailure::PagesRepeat { window });
        }
    }
    Err(ListFailure::TooManyPages { window, limit })
}

/// Writes down what a page named.
async fn write_down(
    context: &Context,
    client: Client<'_>,
    contents: Vec<Listed>,
    refused: Vec<RefusedEntry>,
) -> Result<Brought, LedgerError> {
    let now = context.sure_clock.now();
    let mut brought = Brought { contents: (contents.len() + refused.len()) as u64, ..Brought::default() };
    if !contents.is_empty() {
        brought.new = context.ledger.contents_listed(client.tenant, contents, now).await?;
    }
    let mut lost = 0;
    if !refused.is_empty() {
        lost = context.ledger.entries_refused(client.tenant, refused, now).await?;
    }
    context.board.update(client.tenant, |line| {
        line.counts.listed += brought.new + lost;
        line.counts.lost += lost;
        line.pending += brought.new;
    });
    Ok(brought)
}

impl Brought {
    fn add(&mut self, other: Self) {
        self.contents += other.contents;
        self.new += other.new;
    }
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

/// A content whose entry cannot be read in full, but has a name: one without a usable URI is asked for where the
/// documentation says it is. One whose URI points elsewhere is not: the feed has said where it is, and there we do not go.
fn listed_despite(
    feed: &Feed<'_>,
    content_type: &ContentType,
    window: Window,
    entry: &UnreadableEntry,
) -> Option<Listed> {
    if matches!(entry.problem, EntryProblem::Refused(_)) {
        return None;
    }
    let content_id = entry.content_id.clone()?;
    let content_uri = documented_uri(feed, &content_id)?;
    let created = entry.content_created.unwrap_or_else(|| window.start());
    tracing::debug!(tenant = %feed.tenant, %content_type, %content_id, problem = %entry.problem, "an odd entry is listed");
    Some(Listed { content_type: content_type.clone(), content_id, content_uri, created, expires: expiry(created) })
}

/// An entry that names no blob we may fetch: written down as lost from the start.
fn refused_entry(feed: &Feed<'_>, content_type: &ContentType, entry: UnreadableEntry) -> RefusedEntry {
    let kind = match entry.problem {
        EntryProblem::Refused(_) => LossKind::RefusedUrl,
        _ => LossKind::Unreadable,
    };
    let message = crate::chain(&entry.problem);
    tracing::warn!(tenant = %feed.tenant, %content_type, problem = message, "a listed entry names no content we may fetch");
    RefusedEntry {
        content_type: content_type.clone(),
        content_id: entry.content_id,
        created: entry.content_created,
        raw: entry.raw,
        loss: Loss { kind, message },
    }
}

/// `{feed root}/audit/{contentId}` (activity-api.md §2.4, the sample's form). An id of the usual letters stands there as it
/// is, `$` and all, as in Microsoft's own URIs. `None` for `.` and `..`, which are no place under any spelling.
fn documented_uri(feed: &Feed<'_>, content_id: &ContentId) -> Option<ContentUri> {
    let id = content_id.to_string();
    if matches!(id.as_str(), "." | "..") {
        return None;
    }
    format!("{}/audit/{}", feed.cloud.feed_root(feed.tenant), path_segment(&id)).parse().ok()
}

/// `text` as one segment of a path: letters, digits and marks without a meaning in one stand as they are; every other byte is
/// percent-encoded (RFC 3986 §3.3), as are `+`, `=`, `&` and `;`, which some servers read a meaning into.
fn path_segment(text: &str) -> String {
    let mut segment = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~!$'()*,:@".contains(&byte) {
            segment.push(char::from(byte));
        } else {
            segment.push_str(&format!("%{byte:02X}"));
        }
    }
    segment
}

fn expiry(created: Timestamp) -> Timestamp {
    let retention = TimeDelta::from_std(RETENTION).unwrap_or(TimeDelta::MAX);
    created.checked_add_signed(retention).unwrap_or(created)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_odd_id_is_one_segment_of_the_path_and_a_usual_one_stands_as_it_is() {
        let usual = "20171014180051748005825$20171014180051748005825$audit_sharepoint$Audit_SharePoint$na0020";
        assert_eq!(path_segment(usual), usual);
        assert_eq!(path_segment("urn:1f+/=\u{fc}1?#% "), "urn:1f%2B%2F%3D%C3%BC1%3F%23%25%20");
        // Nothing that is there already is taken for encoded.
        assert_eq!(path_segment("a%2Fb"), "a%252Fb");
    }

    #[test]
    fn what_stands_in_for_a_missing_uri_may_carry_our_token() {
        let root = "http://127.0.0.1:7000".to_owned();
        let cloud = protocol::cloud::CustomCloud { login: root.clone(), activity: root, graph: None, resource: None };
        let cloud = protocol::cloud::Cloud::custom(&cloud).unwrap();
        let tenant = "46b472a7-c68e-4adf-8ade-3db49497518e".parse().unwrap();
        let publisher = protocol::ids::PublisherId::from_uuid(uuid::Uuid::nil());
        let feed = Feed::new(&cloud, tenant, publisher);
        for id in ["1$1", "urn:1f+/=\u{fc}1", "...", "a/b"] {
            let uri = documented_uri(&feed, &id.parse().unwrap()).unwrap();
            let request = protocol::activity::retrieve_content(&feed, &uri).unwrap();
            let path = request.url().path().to_owned();
            assert!(path.starts_with(&format!("/api/v1.0/{tenant}/activity/feed/audit/")), "{path}");
            assert_eq!(path.matches('/').count(), 7, "{path}");
        }
        for id in [".", ".."] {
            assert_eq!(documented_uri(&feed, &id.parse().unwrap()), None);
        }
        // A server that decodes before it routes is not led out of the tenant.
        let uri = documented_uri(&feed, &"a/../../b".parse().unwrap()).unwrap();
        assert!(protocol::activity::retrieve_content(&feed, &uri).is_err());
    }
}
