//! What is moved: every table of a ledger with its columns, in an order in which rows come after what they belong to.
//!
//! Never a column more or less than the schemas have: the tests hold this list against both.

/// What a column holds, on both sides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A number or a time.
    Int,
    /// A number of a state.
    Small,
    /// Yes or no; a number in SQLite.
    Bool,
    /// Text.
    Text,
    /// Bytes.
    Bytes,
    /// A tenant's id; bytes in SQLite.
    Uuid,
}

use Kind::{Bool, Bytes, Int, Small, Text, Uuid};

/// A table.
#[derive(Debug)]
pub(super) struct Table {
    pub(super) name: &'static str,
    pub(super) columns: &'static [(&'static str, Kind)],
    /// The columns of its primary key: rows are read in their order.
    pub(super) key: &'static str,
    /// The column whose next value the database gives, if it does.
    pub(super) counted: Option<&'static str>,
}

const fn table(
    name: &'static str,
    key: &'static str,
    counted: Option<&'static str>,
    columns: &'static [(&'static str, Kind)],
) -> Table {
    Table { name, columns, key, counted }
}

/// Every table but `revision` and `identity`, whose one row is always there, and every column but those that say which
/// worker holds what: nobody is at work while a ledger is moved. The epochs go along, for files bear them in their names.
pub(super) const TABLES: &[Table] = &[
    table(
        "tenant",
        "tenant",
        Some("tenant"),
        &[
            ("tenant", Int),
            ("id", Uuid),
            ("label", Text),
            ("state", Small),
            ("added_at", Int),
            ("collect_from", Int),
            ("last_commit", Int),
            ("last_commit_at", Int),
            ("revision", Int),
            ("problem_kind", Text),
            ("problem_message", Text),
            ("problem_since", Int),
            ("problem_next", Int),
            ("expired_segments", Int),
            ("expired_records", Int),
            ("kept_since", Text),
            ("lease_epoch", Int),
            ("held_at", Int),
            ("held_by", Text),
            ("held_reason", Text),
        ],
    ),
    table("content_type", "type", Some("type"), &[("type", Int), ("name", Text)]),
    table(
        "feed",
        "feed",
        Some("feed"),
        &[
            ("feed", Int),
            ("tenant", Int),
            ("type", Int),
            ("first_seen_at", Int),
            ("began", Int),
            ("settled_through", Int),
            ("enabled", Bool),
            ("listed_at", Int),
            ("start_requested_at", Int),
            ("problem_kind", Text),
            ("problem_message", Text),
            ("problem_since", Int),
            ("problem_next", Int),
            ("archived", Int),
            ("pending", Int),
            ("failing", Int),
            ("failures", Int),
            ("lost_expired", Int),
            ("lost_missing", Int),
            ("lost_unreadable", Int),
            ("lost_refused_url", Int),
            ("records", Int),
            ("duplicates", Int),
            ("variants", Int),
            ("quarantined", Int),
            ("relistings", Int),
            ("relisting_requests", Int),
            ("relisting_found", Int),
            ("enabled_at", Int),
        ],
    ),
    table(
        "tile",
        "feed, start",
        None,
        &[
            ("feed", Int),
            ("start", Int),
            ("until", Int),
            ("listed_until", Int),
            ("listed_at", Int),
            ("closed_listings", Int),
            ("next_listing_at", Int),
            ("late_contents", Int),
        ],
    ),
    table("gap", "feed, start", None, &[("feed", Int), ("start", Int), ("until", Int)]),
    table(
        "content",
        "content",
        Some("content"),
        &[
            ("content", Int),
            ("feed", Int),
            ("key", Bytes),
            ("id", Text),
            ("state", Small),
            ("created", Int),
            ("expires", Int),
        ],
    ),
    table(
        "pending",
        "content",
        None,
        &[
            ("content", Int),
            ("tenant", Int),
            ("feed", Int),
            ("uri", Text),
            ("created", Int),
            ("expires", Int),
            ("seen_at", Int),
            ("attempts", Int),
            ("next_attempt_at", Int),
            ("failure", Text),
            ("failure_number", Int),
        ],
    ),
    table(
        "loss",
        "content",
        None,
        &[("content", Int), ("tenant", Int), ("kind", Small), ("message", Text), ("uri", Text), ("lost_at", Int)],
    ),
    table(
        "segment",
        "tenant, date, number, part",
        None,
        &[
            ("tenant", Int),
            ("date", Text),
            ("number", Int),
            ("part", Int),
            ("rows", Int),
            ("bytes", Int),
            ("second_min", Int),
            ("second_max", Int),
            ("untimed_rows", Int),
            ("digest", Bytes),
            ("obsolete_since", Int),
            ("damage", Text),
            ("damaged_at", Int),
            ("stored_at", Int),
            ("expired", Bool),
        ],
    ),
    table(
        "quarantine",
        "tenant, path",
        None,
        &[
            ("tenant", Int),
            ("path", Text),
            ("feed", Int),
            ("id", Text),
            ("bytes", Int),
            ("digest", Bytes),
            ("reason", Text),
        ],
    ),
    table(
        "invitation",
        "invitation",
        Some("invitation"),
        &[
            ("invitation", Int),
            ("secret", Bytes),
            ("label", Text),
            ("tenant", Uuid),
            ("created_at", Int),
            ("expires_at", Int),
            ("uses_allowed", Int),
            ("uses", Int),
            ("revoked_at", Int),
        ],
    ),
    table(
        "consent_flow",
        "state",
        None,
        &[
            ("state", Bytes),
            ("browser", Bytes),
            ("invitation", Int),
            ("leg", Small),
            ("tenant", Uuid),
            ("expires_at", Int),
        ],
    ),
    table(
        "consent_visit",
        "browser, tenant",
        None,
        &[
            ("browser", Bytes),
            ("tenant", Uuid),
            ("invitation", Int),
            ("account", Text),
            ("proven_at", Int),
            ("accepted_at", Int),
            ("expires_at", Int),
        ],
    ),
    table(
        "consent_log",
        "entry",
        Some("entry"),
        &[
            ("entry", Int),
            ("at", Int),
            ("tenant", Int),
            ("invitation", Int),
            ("label", Text),
            ("account", Text),
            ("acceptance", Small),
        ],
    ),
    table(
        "webhook",
        "feed",
        None,
        &[
            ("feed", Int),
            ("path_key", Bytes),
            ("address", Text),
            ("accepted", Bytes),
            ("offered", Bytes),
            ("state", Small),
            ("since", Int),
            ("expires", Int),
            ("failures", Int),
            ("drifts", Int),
            ("refusal", Text),
            ("notified_at", Int),
        ],
    ),
    table("heard", "feed, hour", None, &[("feed", Int), ("hour", Int), ("first", Int), ("last", Int)]),
    table(
        "rhythm",
        "feed",
        None,
        &[("feed", Int), ("longest", Bytes), ("hours", Int), ("through", Int), ("last", Int)],
    ),
    table(
        "hindrance",
        "hindrance",
        Some("hindrance"),
        &[
            ("hindrance", Int),
            ("tenant", Int),
            ("feed", Int),
            ("kind", Small),
            ("cause", Text),
            ("since", Int),
            ("until", Int),
        ],
    ),
    table("at_work", "since", None, &[("since", Int), ("until", Int)]),
    table("sealed", "name", None, &[("name", Text), ("value", Bytes)]),
    table(
        "purge",
        "id",
        None,
        &[
            ("id", Uuid),
            ("ordered_at", Int),
            ("ordered_by", Text),
            ("through", Int),
            ("segments", Int),
            ("records", Int),
            ("bytes", Int),
            ("files", Int),
            ("file_bytes", Int),
            ("done_at", Int),
        ],
    ),
    table(
        "activity",
        "entry",
        Some("entry"),
        &[("entry", Int), ("at", Int), ("actor", Text), ("kind", Text), ("tenant", Uuid), ("details", Text)],
    ),
];

impl Table {
    /// Its columns as a statement names them.
    pub(super) fn columns(&self) -> String {
        self.columns.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ")
    }

    /// Every row, in the order of the key.
    pub(super) fn select(&self) -> String {
        format!("SELECT {} FROM {} ORDER BY {}", self.columns(), self.name, self.key)
    }
}
