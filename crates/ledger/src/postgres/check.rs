//! Whether a ledger is whole: our rules that the sums are what a count would give. What the server stores it checks itself.
//!
//! Never mends anything, and never runs by itself: it reads every row.

use super::fault::Done;
use super::session::Session;

/// The most lines a report has.
const LINES_MAX: usize = 100;

/// Statements that return one line of text for each thing that is not as it must be.
const RULES: &[&str] = &[
    "SELECT 'the ledger has no id of its own' WHERE (SELECT count(*) FROM identity) <> 1",
    "SELECT 'feed ' || feed || ' counts ' || pending || ' pending contents but has ' || found FROM
     (SELECT f.feed, f.pending, (SELECT count(*) FROM pending AS p WHERE p.feed = f.feed) AS found FROM feed AS f) AS c
     WHERE pending <> found",
    "SELECT 'feed ' || feed || ' counts ' || failing || ' failing contents but has ' || found FROM
     (SELECT f.feed, f.failing, (SELECT count(*) FROM pending AS p WHERE p.feed = f.feed AND attempts > 0) AS found
      FROM feed AS f) AS c WHERE failing <> found",
    "SELECT 'feed ' || feed || ' counts ' || lost || ' lost contents but has ' || found FROM
     (SELECT feed, lost_expired + lost_missing + lost_unreadable + lost_refused_url AS lost,
             (SELECT count(*) FROM content AS c WHERE c.feed = f.feed AND state = 2) AS found FROM feed AS f) AS c
     WHERE lost <> found",
    "SELECT 'feed ' || feed || ' counts ' || archived || ' archived contents but has ' || found FROM
     (SELECT feed, archived, (SELECT count(*) FROM content AS c WHERE c.feed = f.feed AND state = 1) AS found
      FROM feed AS f) AS c WHERE archived < found",
    "SELECT 'feed ' || feed || ' counts ' || quarantined || ' things in quarantine but has ' || found FROM
     (SELECT feed, quarantined, (SELECT count(*) FROM quarantine AS q WHERE q.feed = f.feed) AS found FROM feed AS f) AS c
     WHERE quarantined <> found",
    "SELECT 'content ' || content || ' waits but has nothing to wait with' FROM content AS c
     WHERE state = 0 AND NOT EXISTS (SELECT FROM pending AS p WHERE p.content = c.content)",
    "SELECT 'content ' || content || ' waits although it has ended' FROM pending JOIN content USING (content)
     WHERE state <> 0",
    "SELECT 'content ' || content || ' is lost without a cause' FROM content AS c
     WHERE state = 2 AND NOT EXISTS (SELECT FROM loss AS l WHERE l.content = c.content)",
    "SELECT 'content ' || content || ' has a cause of loss but is not lost' FROM loss JOIN content USING (content)
     WHERE state <> 2",
    "SELECT 'content ' || content || ' waits for another tenant than its feed''s' FROM pending JOIN feed USING (feed)
     WHERE pending.tenant <> feed.tenant",
    "SELECT 'window ' || start || ' of feed ' || feed || ' overlaps ' || next FROM
     (SELECT feed, start, until, lead(start) OVER (PARTITION BY feed ORDER BY start) AS next FROM tile) AS t
     WHERE until > next",
    "SELECT 'segment ' || date || '/' || number || '-' || part || ' is of a commit that has not happened' FROM segment
     JOIN tenant USING (tenant) WHERE number > last_commit OR number < 1",
    "SELECT 'tenant ' || id || ' has a revision that has not been given' FROM tenant, revision WHERE revision > greatest",
    "SELECT 'worker ' || name || ' counts ' || held || ' tenants but has ' || found FROM
     (SELECT name, held, (SELECT count(*) FROM tenant AS t WHERE t.lease_worker = w.worker) AS found FROM worker AS w) AS c
     WHERE held <> found",
    "SELECT 'tenant ' || id || ' is held by a worker that is not there' FROM tenant
     WHERE lease_worker IS NOT NULL AND lease_worker NOT IN (SELECT worker FROM worker)",
];

pub(super) async fn check(session: &Session<'_>) -> Done<Vec<String>> {
    let mut lines: Vec<String> = Vec::new();
    for rule in RULES {
        for row in session.rows(&format!("{rule} LIMIT {LINES_MAX}"), &[]).await? {
            lines.push(row.try_get(0)?);
        }
    }
    lines.truncate(LINES_MAX);
    Ok(lines)
}
