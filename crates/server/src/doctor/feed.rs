//! The steps with the Activity API: which subscriptions there are, and one window that is listed.
//!
//! Never starts or stops a subscription, fetches no blob, and keeps nothing of what it lists.

use std::time::Duration;

use chrono::TimeDelta;
use engine::problem::ProblemKind;
use engine::tile::Grid;
use protocol::activity::{
    Feed, MAX_LISTING_BODY, SubscriptionList, SubscriptionStatus, Window, list_content, list_subscriptions,
    parse_list_content, parse_list_subscriptions,
};
use protocol::error::ApiError;
use protocol::ids::ContentType;
use protocol::request::Request;
use protocol::response::Response;
use protocol::time::Timestamp;
use protocol::token::TenantToken;

use super::Surroundings;
use super::report::{Cause, Step};

/// The longest time one request may take; listings of a busy hour have taken most of a minute.
const REQUEST_TIME: Duration = Duration::from_secs(180);

/// A window shorter than this says little: the one before it is listed instead.
const SHORTEST: TimeDelta = TimeDelta::minutes(10);

/// Which subscriptions the tenant has.
pub(super) async fn subscriptions(
    around: &Surroundings<'_>,
    feed: Feed<'_>,
    token: &TenantToken,
    content_types: &[ContentType],
) -> (Step, Option<SubscriptionList>) {
    let of = feed.tenant.to_string();
    match ask(around, list_subscriptions(&feed), token, parse_list_subscriptions).await {
        Ok(list) => (judge_subscriptions(of, &list, content_types), Some(list)),
        Err(step) => (Step { step: "subscriptions", of, ..step }, None),
    }
}

fn judge_subscriptions(of: String, list: &SubscriptionList, content_types: &[ContentType]) -> Step {
    let is_enabled = |content_type: &ContentType| delivers(list, content_type);
    let (enabled, missing): (Vec<&ContentType>, Vec<&ContentType>) =
        content_types.iter().partition(|content_type| is_enabled(content_type));
    let names = |types: &[&ContentType]| types.iter().map(|one| one.as_str()).collect::<Vec<_>>().join(", ");
    if missing.is_empty() {
        return Step::ok("subscriptions", of, format!("enabled: {}", names(&enabled)));
    }
    let result = match enabled.len() {
        0 => format!("not enabled: {}", names(&missing)),
        _ => format!("enabled: {}; not enabled: {}", names(&enabled), names(&missing)),
    };
    Step::warning("subscriptions", of, result).explained(
        "what happens in a content type while its subscription is not enabled can never be collected",
        "a running collector starts them by itself; by hand: `tenantry subscription start`",
    )
}

/// Whether a subscription delivers; one that comes without a status is taken for one, as the collector does.
fn delivers(list: &SubscriptionList, content_type: &ContentType) -> bool {
    list.of(content_type).is_some_and(|subscription| {
        matches!(subscription.status, SubscriptionStatus::Enabled | SubscriptionStatus::Unknown)
    })
}

/// One window of one content type, its first page.
pub(super) async fn listing(
    around: &Surroundings<'_>,
    feed: Feed<'_>,
    token: &TenantToken,
    content_types: &[ContentType],
    list: Option<&SubscriptionList>,
    grid: Grid,
) -> Step {
    let Some(list) = list else { return Step::skipped("listing", "", "the subscriptions could not be listed") };
    let enabled = content_types.iter().find(|content_type| delivers(list, content_type));
    let Some(content_type) = enabled else {
        return Step::skipped(
            "listing",
            "",
            "no subscription is enabled, and only what is subscribed to can be listed",
        );
    };
    let of = content_type.to_string();
    let Some(window) = window_at(grid, around.clock.now()) else {
        return Step::skipped("listing", of, "this machine's clock shows no time that could be asked for");
    };
    let parse = |response: &Response<'_>| parse_list_content(&feed, content_type, response);
    match ask(around, list_content(&feed, content_type, window), token, parse).await {
        Ok(page) => {
            let more = if page.next.is_some() { " or more" } else { "" };
            let result = format!(
                "{}{more} content(s) from {} to {}",
                page.contents.len(),
                window.start().format("%Y-%m-%d %H:%MZ"),
                window.until().format("%H:%M:%SZ")
            );
            if page.unreadable.is_empty() {
                return Step::ok("listing", of, result);
            }
            Step::warning("listing", of, format!("{result}, {} of them not to be fetched", page.unreadable.len())).explained(
                "entries of the listing name no blob that may be given this tenant's token: mostly another cloud's host",
                "check [cloud]; `tenantry coverage` lists what was refused",
            )
        }
        Err(step) => Step { step: "listing", of, ..step },
    }
}

/// The present tile up to now, or the one before when it has only just begun: windows begin where the collector's do.
fn window_at(grid: Grid, now: Timestamp) -> Option<Window> {
    let now = Timestamp::from_timestamp(now.timestamp(), 0)?;
    let start = grid.floor(now);
    if now - start >= SHORTEST {
        return Window::new(start, now).ok();
    }
    let before = grid.floor(start.checked_sub_signed(TimeDelta::seconds(1))?);
    Window::new(before, start).ok()
}

async fn ask<T>(
    around: &Surroundings<'_>,
    request: Request,
    token: &TenantToken,
    parse: impl Fn(&Response<'_>) -> Result<T, ApiError>,
) -> Result<T, Step> {
    let refused = |reason: String| {
        Step::failed("", "", Cause::Refused, reason)
            .explained("the request may not be given this tenant's token", ProblemKind::OurFault.remedy())
    };
    let ready = request.authorize(around.cloud, token).map_err(|error| refused(error.to_string()))?;
    let answer = around.ask(ready, REQUEST_TIME, MAX_LISTING_BODY).await;
    let (status, headers, body) = answer.map_err(|error| {
        Step::failed("", "", Cause::Unreachable, error.to_string())
            .explained("the Activity API did not answer", ProblemKind::Unreachable.remedy())
    })?;
    parse(&Response::new(status, &headers, &body)).map_err(|error| {
        let kind = ProblemKind::of_api_error(error.disposition());
        let cause = if kind.passes_by_itself() { Cause::Unreachable } else { Cause::Refused };
        Step::failed("", "", cause, error.to_string()).explained(kind.problem(), kind.remedy())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_begins_at_a_tile_and_is_never_too_short() {
        let at = |text: &str| protocol::time::parse_timestamp(text).unwrap();
        for (now, start, until) in [
            ("2026-11-23T10:00:00.900Z", "2026-11-23T08:00:00Z", "2026-11-23T10:00:00Z"),
            ("2026-11-23T08:10:00Z", "2026-11-23T08:00:00Z", "2026-11-23T08:10:00Z"),
            ("2026-11-23T08:09:59Z", "2026-11-23T04:00:00Z", "2026-11-23T08:00:00Z"),
            ("2026-11-23T00:00:00Z", "2026-11-22T20:00:00Z", "2026-11-23T00:00:00Z"),
        ] {
            let window = window_at(Grid::FOUR_HOURS, at(now)).unwrap();
            assert_eq!((window.start(), window.until()), (at(start), at(until)), "{now}");
        }
    }
}
