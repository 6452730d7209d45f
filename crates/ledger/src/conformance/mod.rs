//! What every ledger must do, as tests that any back end can run: examples of each rule, and random histories held against
//! a naive model.
//!
//! Never knows how a back end stores anything: all it has is [`Fixture`] and the trait. A back end runs it with
//! `for_each_conformance_case!`, which names every case.
#![expect(missing_docs, reason = "a case's name is its statement")]
#![expect(clippy::unwrap_used, clippy::panic, clippy::print_stderr, reason = "in a test a panic is the finding")]

use std::future::Future;
use std::sync::Arc;

use chrono::TimeDelta;
use engine::model::{
    ArchivedContent, Commit, CommitNumber, Listed, Loss, LossKind, Pending, Problem, QuarantineRow, SegmentRow, Tile,
};
use protocol::ids::{ContentType, TenantId};
use protocol::time::Timestamp;

use crate::{Ledger, LedgerError, LedgerFuture, Workers};

pub mod commits;
pub mod consents;
pub mod contents;
pub mod coverage;
pub mod evidence;
pub mod handles;
pub mod hindrances;
pub mod history;
pub mod identity;
pub mod leases;
pub mod notes;
pub mod sealed;
#[cfg(test)]
pub(crate) mod server;
pub mod tenants;
pub mod tiles;
pub mod webhooks;

/// One ledger, empty at first, that can be opened any number of times.
pub trait Fixture {
    /// Opens one more handle. Everything that was acknowledged on any handle before is there.
    fn open(&self) -> Arc<dyn Ledger> {
        self.open_for_workers()
    }
    /// The same, for workers that share its tenants out.
    fn open_for_workers(&self) -> Arc<dyn Workers>;
    /// Opens a handle that cannot write.
    fn open_read_only(&self) -> Arc<dyn Ledger>;
    /// Everything the back end's own check finds wrong.
    fn check(&self) -> Vec<String>;
}

/// Names every case to the macro given.
#[macro_export]
macro_rules! for_each_conformance_case {
    ($callback:ident) => {
        $callback! {
            identity::a_ledger_has_one_id_for_all_its_handles,
            tenants::a_tenant_is_added_once_and_found_again,
            tenants::where_collection_begins_is_cut_to_the_grid,
            tenants::a_removed_tenant_comes_back_with_its_history,
            tenants::every_change_an_operator_sees_moves_the_revision,
            tenants::a_purged_tenant_leaves_nothing_and_the_revision_goes_on,
            tenants::only_a_removed_tenant_is_purged,
            tenants::an_unknown_tenant_is_refused_by_every_write,
            tenants::a_problem_is_kept_until_it_is_cleared,
            tenants::a_listing_of_subscriptions_switches_off_what_it_does_not_name,
            consents::an_invitation_is_found_by_its_number_and_its_secret,
            consents::invitations_are_listed_from_the_latest,
            consents::a_revoked_invitation_takes_its_travellers_with_it,
            consents::a_tenant_that_goes_takes_its_own_invitations_with_it,
            consents::a_flow_is_taken_once_and_by_its_own_browser,
            consents::a_flow_that_is_over_cannot_be_taken,
            consents::a_link_opened_over_and_over_keeps_its_latest_flows,
            consents::accepting_adds_the_tenant_and_counts_the_use_together,
            consents::an_invitation_that_is_not_good_adds_nothing,
            consents::a_link_for_one_connects_one_of_two_at_once,
            consents::a_tenant_that_was_removed_or_is_there_consents_again,
            consents::a_visit_is_its_browsers_and_ends,
            consents::a_purged_tenant_leaves_no_consent,
            consents::the_log_keeps_the_last_hundred_of_each_tenant_and_tells_them_together,
            consents::one_invitations_visits_push_out_their_own,
            consents::what_is_over_is_swept_a_bounded_number_at_a_time,
            sealed::a_sealed_value_is_kept_changed_and_forgotten_by_who_knows_it,
            sealed::sealed_values_are_listed_by_name_in_bounded_pieces,
            sealed::a_sealed_value_of_the_greatest_size_is_kept_and_a_larger_one_refused,
            contents::a_content_is_listed_once,
            contents::the_same_id_in_another_tenant_or_type_is_another_content,
            contents::a_content_of_the_greatest_size_is_kept,
            contents::the_urgent_come_first_and_then_the_newest,
            contents::what_is_in_flight_or_not_due_is_left_out,
            contents::the_next_attempt_is_the_earliest,
            contents::a_failure_counts_and_waits,
            contents::what_is_not_waiting_can_neither_fail_nor_be_lost_nor_archived,
            contents::a_lost_content_waits_again_only_when_there_is_hope,
            contents::a_failing_content_takes_another_url,
            contents::an_entry_without_a_blob_is_lost_from_the_start_and_once,
            tiles::a_tile_is_kept_as_written,
            tiles::tiles_do_not_overlap,
            tiles::a_malformed_tile_is_refused,
            tiles::the_rest_of_a_tile_left_behind_cuts_it_short,
            commits::a_commit_archives_what_it_names_and_shows_its_segments,
            commits::a_commit_out_of_order_changes_nothing,
            commits::a_commit_with_one_bad_part_changes_nothing,
            commits::an_empty_commit_counts,
            commits::segments_are_merged_and_forgotten,
            commits::a_merge_of_what_is_not_visible_changes_nothing,
            commits::segments_are_found_by_tenant_and_time,
            commits::quarantine_keeps_each_path_once,
            commits::a_damaged_segment_is_named_until_it_is_sound_or_gone,
            commits::what_is_past_its_retention_goes_whole_and_is_counted,
            commits::what_was_stored_lately_outlives_its_retention,
            coverage::the_sums_are_what_happened,
            coverage::completeness_follows_the_tiles_and_stops_at_what_is_pending,
            coverage::folding_keeps_the_sums_and_names_the_gaps,
            coverage::an_outage_folded_day_by_day_is_one_gap,
            coverage::folding_is_bounded,
            webhooks::a_webhook_is_kept_as_written_and_found_by_its_path,
            webhooks::a_notification_is_noted_where_there_is_a_webhook_and_survives_its_rewriting,
            notes::what_keeps_failing_is_named_the_latest_first,
            notes::what_was_given_up_waits_again_when_asked_as_long_as_it_can_be_had,
            notes::listings_of_closed_windows_are_counted,
            notes::a_silence_is_unusual_once_weeks_are_learnt,
            hindrances::what_stood_in_the_way_is_kept_spell_by_spell,
            hindrances::a_tenant_that_is_not_collected_says_since_when,
            hindrances::time_without_a_subscription_is_named_and_shortened_by_what_comes,
            hindrances::work_is_noted_in_spells,
            hindrances::what_is_kept_of_hindrances_is_bounded,
            evidence::a_purge_is_an_order_until_the_archive_has_confirmed_it,
            evidence::a_tenant_that_is_being_purged_cannot_return_and_then_does_under_a_later_epoch,
            evidence::nothing_of_a_held_tenant_is_deleted,
            evidence::what_is_done_with_tenants_is_told_the_latest_first,
            handles::what_was_acknowledged_is_there_after_reopening,
            handles::two_handles_see_each_other_and_take_turns,
            handles::of_two_workers_with_one_number_one_wins,
            handles::a_hundred_calls_at_once_each_succeed_or_fail_on_their_own,
            handles::a_reader_reads_while_another_writes_and_cannot_write,
            leases::a_worker_takes_what_nobody_holds_and_no_more_than_it_asks_for,
            leases::what_is_given_back_is_taken_under_the_next_epoch,
            leases::who_is_silent_loses_its_tenants_and_writes_nothing_more,
            leases::who_comes_back_before_others_took_goes_on_as_before,
            leases::a_lease_is_for_its_own_tenant_alone,
            leases::every_write_of_a_tenant_is_refused_under_a_lost_lease,
            leases::who_holds_nothing_may_still_take_notes_for_the_one_who_does,
            leases::who_leaves_leaves_nothing_behind,
            leases::it_tells_who_is_at_work_and_who_holds_what,
            leases::who_knows_that_others_are_gone_takes_what_they_hold_at_once,
            leases::a_purged_tenant_is_nobodys_and_comes_back_under_epochs_that_were_never_given,
            history::random_histories_match_the_model,
            history::a_call_that_was_dropped_happened_whole_or_not_at_all,
        }
    };
}

/// Runs one case to its end, and then asks the back end whether its ledger is still whole.
pub fn run<F: Fixture, C: AsyncFnOnce(&F)>(fixture: &F, case: C) {
    block_on(case(fixture));
    assert_eq!(fixture.check(), Vec::<String>::new());
}

/// Runs a future on this thread.
pub fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}

/// A moment on the grid; every time in the suite is counted from it.
pub(crate) fn noon() -> Timestamp {
    protocol::time::parse_timestamp("2026-03-04T12:00:00Z").unwrap()
}

pub(crate) fn hours(hours: i64) -> TimeDelta {
    TimeDelta::hours(hours)
}

pub(crate) fn minutes(minutes: i64) -> TimeDelta {
    TimeDelta::minutes(minutes)
}

pub(crate) fn days(days: i64) -> TimeDelta {
    TimeDelta::days(days)
}

pub(crate) fn tenant(number: u64) -> TenantId {
    format!("6a1c4f0e-7c39-4f0b-9d6e-{number:012x}").parse().unwrap()
}

pub(crate) const GENERAL: ContentType = ContentType::General;
pub(crate) const EXCHANGE: ContentType = ContentType::Exchange;

/// A content of [`GENERAL`] that was created `created` after noon.
pub(crate) fn content(id: &str, created: TimeDelta) -> Listed {
    Listed {
        content_type: GENERAL,
        content_id: id.parse().unwrap(),
        content_uri: format!("https://manage.office.com/audit/{id}").parse().unwrap(),
        created: noon() + created,
        expires: noon() + created + days(7),
    }
}

pub(crate) fn archived(row: i64, records: u64) -> ArchivedContent {
    ArchivedContent { row, records, duplicates: 0, variants: 0, quarantined: 0, bytes: records * 1000 }
}

pub(crate) fn loss(kind: LossKind) -> Loss {
    Loss { kind, message: format!("the last error, {}", kind.as_str()) }
}

pub(crate) fn segment(commit: u64, part: u64) -> SegmentRow {
    SegmentRow {
        date: "2026-03-04".to_owned(),
        commit: CommitNumber(commit),
        part,
        rows: 10 + part % 256,
        bytes: 12_345,
        second_min: Some(1_772_625_600),
        second_max: Some(1_772_629_199),
        untimed_rows: 1,
        digest: [u8::try_from(part % 256).unwrap(); 32],
    }
}

pub(crate) fn quarantined(path: &str) -> QuarantineRow {
    QuarantineRow {
        content_type: GENERAL,
        content_id: "a".parse().unwrap(),
        path: path.to_owned(),
        bytes: 17,
        digest: [9; 32],
        reason: "no JSON object".to_owned(),
    }
}

/// An empty commit of [`tenant`] 1.
pub(crate) fn commit(number: u64) -> Commit {
    Commit {
        tenant: tenant(1),
        number: CommitNumber(number),
        at: noon() + minutes(1),
        contents: Vec::new(),
        lost: Vec::new(),
        segments: Vec::new(),
        quarantined: Vec::new(),
    }
}

/// A whole hour, `start` hours after noon, listed a minute after its end.
pub(crate) fn tile(start: i64) -> Tile {
    let until = noon() + hours(start + 1);
    Tile {
        start: noon() + hours(start),
        until,
        listed_until: Some(until),
        listed_at: Some(until + minutes(1)),
        closed_listings: 1,
        next_listing_at: Some(until + minutes(3)),
        late_contents: 0,
    }
}

pub(crate) fn problem(kind: &str) -> Problem {
    Problem {
        kind: kind.to_owned(),
        message: format!("{kind}: do something about it"),
        since: noon(),
        next_attempt_at: Some(noon() + hours(1)),
    }
}

/// A ledger with [`tenant`] 1, whose collection begins at noon.
pub(crate) async fn with_tenant(fixture: &dyn Fixture) -> Arc<dyn Ledger> {
    let ledger = fixture.open();
    assert!(ledger.add_tenant(tenant(1), "Contoso".to_owned(), noon(), noon()).await.unwrap());
    ledger
}

/// Everything that waits, whatever it waits for.
pub(crate) async fn all_pending(ledger: &dyn Ledger, tenant: TenantId) -> Vec<Pending> {
    ledger.pending(tenant, noon() + days(3650), u32::MAX, Vec::new()).await.unwrap()
}

/// The row of a content that waits.
pub(crate) async fn row(ledger: &dyn Ledger, tenant: TenantId, id: &str) -> i64 {
    let pending = all_pending(ledger, tenant).await;
    pending.iter().find(|pending| pending.content.content_id.as_str() == id).unwrap().row
}

pub(crate) async fn refused<T: std::fmt::Debug>(call: LedgerFuture<'_, T>) -> LedgerError {
    let error = call.await.unwrap_err();
    assert!(error.is_refusal(), "{error:?}");
    error
}
