//! Random histories: whatever is called in whatever order, the ledger answers and holds what the naive model does.
//!
//! A history is drawn from a seed, which is printed when it fails. Handles come and go in the middle; calls are dropped
//! before they are done, and then either happened whole or not at all.

use std::future::poll_fn;
use std::task::Poll;

use engine::model::{ContentState, TenantState};

use self::model::{Model, lost_line, pending_line};
use self::op::Op;
use super::*;

mod dice;
mod model;
mod model_tenant;
mod op;

pub use self::dice::Dice;

/// Everything that can be seen of a ledger, as the model shows it; what is archived is asked for by name.
pub async fn lines(ledger: &dyn Ledger) -> Vec<String> {
    let (greatest, mut tenants) = ledger.tenants_since(0).await.unwrap();
    let mut lines = vec![format!("revision {greatest}")];
    tenants.sort_by_key(|tenant| tenant.id);
    for tenant in tenants {
        lines.push(format!("{tenant:?}"));
        let id = tenant.id;
        lines.extend(ledger.subscriptions(id).await.unwrap().iter().map(|known| format!("{known:?}")));
        for content_type in TYPES {
            let tiles = ledger.tiles(id, content_type.clone()).await.unwrap();
            lines.extend(tiles.iter().map(|tile| format!("{content_type} {tile:?}")));
            for name in names() {
                let state = ledger.content_state(id, content_type.clone(), name.clone()).await.unwrap();
                if state == Some(ContentState::Archived) {
                    lines.push(format!("{content_type} {name} archived"));
                }
            }
        }
        lines.extend(all_pending(ledger, id).await.iter().map(pending_line));
        lines.extend(ledger.losses(id, u32::MAX).await.unwrap().iter().map(lost_line));
        lines.extend(ledger.coverage(id).await.unwrap().iter().map(|coverage| format!("{coverage:?}")));
        lines.extend(ledger.quarantine(id, u32::MAX).await.unwrap().iter().map(|row| format!("{row:?}")));
        let none: Option<Timestamp> = None;
        lines.extend(ledger.segments(id).await.unwrap().iter().map(|segment| format!("{segment:?} {none:?}")));
        for (segment, since) in ledger.obsolete(id).await.unwrap() {
            lines.push(format!("{segment:?} {:?}", Some(since)));
        }
    }
    lines.sort();
    lines
}

const TYPES: [ContentType; 2] = [GENERAL, EXCHANGE];

fn names() -> impl Iterator<Item = String> {
    (0..12).map(|number| format!("content{number}"))
}

/// Calls drawn from a seed, one each time it is asked, refused ones among them; for tests of a back end's own.
pub fn small_history(seed: u64) -> impl for<'l> FnMut(&'l dyn Ledger) -> LedgerFuture<'l, ()> {
    let mut dice = Dice::new(seed);
    let mut model = Model::default();
    let mut first = (0..3).map(tenant);
    move |ledger| {
        let (op, expected) = match first.next() {
            Some(id) => {
                let op = Op::AddTenant { id, label: String::new(), collect_from: noon(), now: noon() };
                let expected = model.apply(&op);
                (op, expected)
            }
            None => dice.step(&mut model),
        };
        Box::pin(async move {
            assert_eq!(op.call(ledger).await, expected, "{op:?}");
            Ok(())
        })
    }
}

#[track_caller]
fn assert_same(found: &[String], expected: &[String], context: &str) {
    let missing: Vec<&String> = expected.iter().filter(|line| !found.contains(line)).collect();
    let extra: Vec<&String> = found.iter().filter(|line| !expected.contains(line)).collect();
    assert!(found == expected, "{context}\nlacks {missing:#?}\nhas {extra:#?}");
}

pub async fn random_histories_match_the_model(fixture: &dyn Fixture) {
    // One ledger goes through all of them: purging is part of a history.
    let mut model = Model::default();
    for seed in 0..6 {
        let mut dice = Dice::new(seed);
        let mut ledger = fixture.open();
        if seed > 0 {
            for number in 0..3 {
                for op in
                    [Op::SetState { id: tenant(number), state: TenantState::Removed }, Op::Purge { id: tenant(number) }]
                {
                    let answer = model.apply(&op);
                    assert_eq!(op.call(&*ledger).await, answer);
                }
            }
        }
        for number in 0..3 {
            let now = noon();
            let op = Op::AddTenant { id: tenant(number), label: String::new(), collect_from: now, now };
            assert_eq!(op.call(&*ledger).await, model.apply(&op));
        }
        for step in 0..250 {
            let (op, expected) = dice.step(&mut model);
            let context = format!("seed {seed}, step {step}: {op:?}");
            let answer = op.call(&*ledger).await;
            assert_eq!(answer, expected, "{context}");
            if dice.below(40) == 0 {
                ledger = fixture.open();
            }
            if step % 25 == 24 {
                assert_same(&lines(&*ledger).await, &model.lines(), &context);
                pending_is_in_order(&*ledger, &mut dice).await;
            }
        }
    }
}

/// Urgent before the rest, each in its order, nothing that is not due, and no better one left out.
async fn pending_is_in_order(ledger: &dyn Ledger, dice: &mut Dice) {
    let (now, limit) = (dice.now, dice.below(6));
    let soon = now + days(1);
    for number in 0..3 {
        let Ok(all) = ledger.pending(tenant(number), noon() + days(3650), u32::MAX, Vec::new()).await else { continue };
        let in_flight: Vec<i64> = all.iter().map(|pending| pending.row).filter(|_| dice.below(4) == 0).collect();
        let key = |pending: &Pending| {
            let expires = pending.content.expires.timestamp_millis();
            if pending.content.expires <= soon { (0, expires) } else { (1, -expires) }
        };
        let mut expected: Vec<_> = all
            .iter()
            .filter(|pending| pending.next_attempt_at <= now && !in_flight.contains(&pending.row))
            .map(key)
            .collect();
        expected.sort_unstable();
        expected.truncate(usize::try_from(limit).unwrap());
        let found = ledger.pending(tenant(number), now, u32::try_from(limit).unwrap(), in_flight).await.unwrap();
        assert_eq!(found.iter().map(key).collect::<Vec<_>>(), expected);
        let next = all.iter().map(|pending| pending.next_attempt_at).min();
        assert_eq!(ledger.next_attempt_at(tenant(number)).await.unwrap(), next);
    }
}

pub async fn a_call_that_was_dropped_happened_whole_or_not_at_all(fixture: &dyn Fixture) {
    let mut model = Model::default();
    let mut dice = Dice::new(99);
    let ledger = fixture.open();
    for number in 0..3 {
        let now = noon();
        let op = Op::AddTenant { id: tenant(number), label: String::new(), collect_from: now, now };
        assert_eq!(op.call(&*ledger).await, model.apply(&op));
    }
    drop(ledger);
    let (mut happened, mut did_not) = (0, 0);
    for step in 0..120 {
        let before = model.clone();
        let (op, _) = dice.step(&mut model);
        let ledger = fixture.open();
        {
            let mut call = Box::pin(op.call(&*ledger));
            // Some are polled once, some a little longer; then nobody waits for the answer any more.
            for _ in 0..dice.below(4) {
                let polled = poll_fn(|context| Poll::Ready(call.as_mut().poll(context))).await;
                if polled.is_ready() {
                    break;
                }
                tokio::task::yield_now().await;
            }
        }
        drop(ledger);
        let found = lines(&*fixture.open()).await;
        if found == model.lines() {
            happened += 1;
        } else {
            assert_same(&found, &before.lines(), &format!("step {step}, neither after nor before {op:?}"));
            model = before;
            dice.commits = [0, 1, 2, 3].map(|number| model_last(&model, number));
            did_not += 1;
        }
    }
    eprintln!("of 120 dropped calls {happened} happened and {did_not} did not");
    assert!(did_not > 0, "nothing was dropped in time, so nothing was tested");
}

fn model_last(model: &Model, number: u64) -> u64 {
    model.last_commit(tenant(number))
}
