//! What goes wrong in a run: the service's faults, and spells of trouble with disk, ledger, network, clock and tenants.
//!
//! Every kind of deviation that activity-api.md §11 lists for the operations a collector uses can be drawn.

use std::time::Duration;

use chrono::TimeDelta;
use emulator::faults::{Effect, ErrorBody, Operation, PoisonForm, RefusedBody, Rule, When};
use fastrand::Rng;
use protocol::time::Timestamp;

use super::{Event, Plan, Span, What};

const SMALL: &[Operation] = &[Operation::List, Operation::Content];
const READING: &[Operation] = &[Operation::Content, Operation::Retrieve];
const ALL: &[Operation] = &[Operation::Start, Operation::List, Operation::Content, Operation::Retrieve];
const LISTING: &[Operation] = &[Operation::Content];
const BLOBS: &[Operation] = &[Operation::Retrieve];
const LOGIN: &[Operation] = &[Operation::Token];

pub(super) fn draw(rng: &mut Rng, plan: &mut Plan) {
    let (from, until) = (plan.start, plan.end);
    let harshness = [0.0, 0.01, 0.04, 0.1][rng.usize(0..4)];
    for (operations, effect) in effects(rng) {
        if rng.u8(0..10) < 4 {
            service(rng, plan, operations, effect, harshness);
        }
    }
    let share = |rng: &mut Rng, most: f64| most * rng.f64() * rng.f64();
    for _ in 0..some(rng, 3) {
        let span = spell(rng, from, until, 20);
        plan.spells.network_down.push(span);
        plan.hard_times.push(span);
    }
    for _ in 0..some(rng, 3) {
        plan.spells.network_errors.push((spell(rng, from, until, 60), share(rng, 0.3)));
    }
    for _ in 0..some(rng, 2) {
        let span = spell(rng, from, until, 12);
        plan.spells.disk_full.push(span);
        plan.spells.ledger_full.extend(rng.bool().then_some(span));
        plan.hard_times.push(span);
    }
    for _ in 0..some(rng, 3) {
        let span = spell(rng, from, until, 40);
        plan.spells.disk_errors.push((span, share(rng, 0.1)));
        plan.hard_times.push(span);
    }
    for _ in 0..some(rng, 3) {
        let span = spell(rng, from, until, 20);
        plan.spells.ledger_errors.push((span, share(rng, 0.2)));
        plan.hard_times.push(span);
    }
    if rng.u8(0..3) == 0 {
        wrong_clock(rng, plan);
    }
    if rng.u8(0..4) == 0 {
        tenant_trouble(rng, plan);
    }
    plan.spells.latency = [5, 200, 3000, 20_000][rng.usize(0..4)];
}

/// None in half of the runs.
fn some(rng: &mut Rng, most: u32) -> u32 {
    if rng.bool() { 0 } else { rng.u32(1..=most) }
}

/// A span of minutes, or of hours up to `hours`.
fn spell(rng: &mut Rng, from: Timestamp, until: Timestamp, hours: i64) -> Span {
    let begin = from + TimeDelta::seconds(rng.i64(0..(until - from).num_seconds().max(1)));
    let longest = if rng.bool() { 1800 } else { hours * 3600 };
    Span { from: begin, until: begin + TimeDelta::seconds(rng.i64(1..longest)) }
}

fn service(rng: &mut Rng, plan: &mut Plan, operations: &[Operation], effect: Effect, harshness: f64) {
    let lasting = matches!(effect, Effect::Poison(_) | Effect::NotARecord);
    let (span, share) = match rng.u8(0..4) {
        // A bad hour, or a bad day, in which the service hardly works.
        0 if !lasting => {
            let span = spell(rng, plan.start, plan.end, 24);
            plan.hard_times.push(span);
            (Some(span), 0.2 + rng.f64() * 0.7)
        }
        _ if lasting => (None, rng.f64() * 0.04),
        _ => (None, rng.f64() * harshness),
    };
    let number = plan.faults.rules.len();
    plan.faults.rules.push(Rule {
        name: format!("{number} {effect:?}"),
        operations: operations.to_vec(),
        tenants: Vec::new(),
        content_types: Vec::new(),
        from: span.map(|span| span.from),
        until: span.map(|span| span.until),
        max: None,
        when: When::Probability(share),
        effect,
    });
}

/// One of each kind, with what can be hit by it.
fn effects(rng: &mut Rng) -> Vec<(&'static [Operation], Effect)> {
    let throttle = |rng: &mut Rng, status| Effect::Throttle {
        status,
        retry_after: rng.bool().then(|| rng.u32(1..180)),
        single_quotes: rng.bool(),
    };
    vec![
        (ALL, throttle(rng, 403)),
        (ALL, throttle(rng, 429)),
        (ALL, Effect::ServerError { status: 500, body: ErrorBody::Envelope }),
        (ALL, Effect::ServerError { status: 503, body: ErrorBody::Html }),
        (ALL, Effect::ServerError { status: [502, 504, 408][rng.usize(0..3)], body: ErrorBody::Empty }),
        (ALL, Effect::Unauthorized(RefusedBody::Empty)),
        (READING, Effect::Unauthorized(RefusedBody::Message)),
        (READING, Effect::Unauthorized(RefusedBody::Envelope)),
        (ALL, Effect::Reset),
        (ALL, Effect::Close),
        (ALL, Effect::LostAnswer),
        (READING, Effect::Truncate { share: rng.f64(), clean: false }),
        (READING, Effect::Truncate { share: rng.f64(), clean: true }),
        (BLOBS, Effect::Slow(rng.u32(200..20_000))),
        (ALL, Effect::Delay(Duration::from_secs(rng.u64(1..240)))),
        (READING, Effect::ErrorAsSuccess),
        (SMALL, Effect::ErrorAsSuccess),
        (READING, Effect::EmptySuccess),
        (LISTING, Effect::NullUri),
        (LISTING, Effect::EmptyPage),
        (READING, Effect::ByteOrderMark),
        (BLOBS, Effect::Poison(PoisonForm::ServerError)),
        (BLOBS, Effect::Poison(PoisonForm::NotFound)),
        (BLOBS, Effect::Poison(PoisonForm::Truncated)),
        (BLOBS, Effect::Poison(PoisonForm::Reset)),
        (BLOBS, Effect::Poison(PoisonForm::InvalidId)),
        (BLOBS, Effect::NotARecord),
        (LOGIN, Effect::ServerError { status: 503, body: ErrorBody::Html }),
        (LOGIN, Effect::Aadsts([90033, 50196, 90055][rng.usize(0..3)])),
        (LOGIN, Effect::Reset),
    ]
}

/// Somebody sets the clock, and somebody sets it right again.
fn wrong_clock(rng: &mut Rng, plan: &mut Plan) {
    for _ in 0..rng.u8(1..=3) {
        let span = spell(rng, plan.start, plan.end, 20);
        let sign = if rng.bool() { 1 } else { -1 };
        let seconds = match rng.u8(0..6) {
            0..=2 => rng.i64(1..600),
            3 => rng.i64(600..12 * 3600),
            4 => rng.i64(1..10) * 86_400,
            _ => rng.i64(10..800) * 86_400,
        };
        plan.clock_errors.push((span.from, TimeDelta::seconds(sign * seconds)));
        plan.clock_errors.push((span.until, TimeDelta::zero()));
        plan.hard_times.push(span);
    }
    plan.clock_errors.sort_by_key(|(from, _)| *from);
}

/// An admin switches auditing off, or takes the consent back, and undoes it later.
fn tenant_trouble(rng: &mut Rng, plan: &mut Plan) {
    let span = spell(rng, plan.start, plan.end, 12);
    let tenant = rng.usize(0..plan.world.tenants);
    let what = |on| if rng.clone().bool() { What::Auditing(on) } else { What::Consent(on) };
    plan.events.push(Event { at: span.from, tenant, what: what(false) });
    plan.events.push(Event { at: span.until, tenant, what: what(true) });
    // It takes an hour after that until somebody looks again.
    plan.hard_times.push(Span { from: span.from, until: span.until + TimeDelta::hours(2) });
}
