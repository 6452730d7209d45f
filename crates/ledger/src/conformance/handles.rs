//! Several handles, several callers, and coming back after an end.

use futures::join_all;

use super::*;

/// Just enough to poll many calls together.
mod futures {
    use std::future::{Future, poll_fn};
    use std::pin::Pin;
    use std::task::Poll;

    pub(super) async fn join_all<T>(futures: Vec<Pin<Box<dyn Future<Output = T> + Send + '_>>>) -> Vec<T> {
        let mut waiting: Vec<_> = futures.into_iter().map(|future| (Some(future), None)).collect();
        poll_fn(|context| {
            for (future, result) in &mut waiting {
                if let Some(running) = future
                    && let Poll::Ready(value) = running.as_mut().poll(context)
                {
                    *result = Some(value);
                    *future = None;
                }
            }
            if waiting.iter().all(|(future, _)| future.is_none()) { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
        waiting.into_iter().filter_map(|(_, result)| result).collect()
    }
}

pub async fn what_was_acknowledged_is_there_after_reopening(fixture: &dyn Fixture) {
    for number in 0..20_u32 {
        let ledger = fixture.open();
        if number == 0 {
            ledger.add_tenant(tenant(1), String::new(), noon(), noon()).await.unwrap();
        }
        let id = format!("{number}");
        assert_eq!(all_pending(&*ledger, tenant(1)).await.len(), usize::from(number > 0), "number {number}");
        ledger.contents_listed(tenant(1), vec![content(&id, hours(1))], noon()).await.unwrap();
        // The handle ends between the calls of a batch.
        drop(ledger);
        let ledger = fixture.open();
        let first = all_pending(&*ledger, tenant(1)).await.remove(0);
        if number > 0 {
            assert_eq!(first.content.content_id.as_str(), id);
        }
        let one = Commit {
            contents: vec![archived(first.row, 1)],
            segments: vec![segment(u64::from(number) + 1, 0)],
            ..commit(u64::from(number) + 1)
        };
        ledger.commit(one).await.unwrap();
        drop(ledger);
        let ledger = fixture.open();
        assert_eq!(ledger.segments(tenant(1)).await.unwrap().len(), usize::try_from(number).unwrap() + 1);
        ledger.contents_listed(tenant(1), vec![content(&format!("{}", number + 1), hours(1))], noon()).await.unwrap();
    }
}

pub async fn two_handles_see_each_other_and_take_turns(fixture: &dyn Fixture) {
    let one = with_tenant(fixture).await;
    let two = fixture.open();
    assert!(!two.add_tenant(tenant(1), String::new(), noon(), noon()).await.unwrap());
    for number in 0..20 {
        let (writer, reader) = if number % 2 == 0 { (&one, &two) } else { (&two, &one) };
        let id = format!("{number}");
        assert_eq!(writer.contents_listed(tenant(1), vec![content(&id, hours(1))], noon()).await.unwrap(), 1);
        assert_eq!(reader.contents_listed(tenant(1), vec![content(&id, hours(1))], noon()).await.unwrap(), 0);
        assert_eq!(all_pending(&**reader, tenant(1)).await.len(), usize::try_from(number).unwrap() + 1);
    }
    // Both at once.
    let calls = (0..100).map(|number| {
        let ledger = if number % 2 == 0 { &one } else { &two };
        ledger.contents_listed(tenant(1), vec![content(&format!("x{number}"), hours(1))], noon())
    });
    for result in join_all(calls.collect()).await {
        assert_eq!(result.unwrap(), 1);
    }
    assert_eq!(all_pending(&*one, tenant(1)).await.len(), 120);
}

pub async fn of_two_workers_with_one_number_one_wins(fixture: &dyn Fixture) {
    let one = with_tenant(fixture).await;
    let two = fixture.open();
    for number in 1..=20 {
        let mine = |part| Commit { segments: vec![segment(number, part)], ..commit(number) };
        let results = join_all(vec![one.commit(mine(0)), two.commit(mine(1))]).await;
        let lost: Vec<&LedgerError> = results.iter().filter_map(|result| result.as_ref().err()).collect();
        assert!(matches!(lost.as_slice(), [LedgerError::CommitOutOfOrder { .. }]), "{results:?}");
        assert_eq!(one.segments(tenant(1)).await.unwrap().len(), usize::try_from(number).unwrap());
    }
}

pub async fn a_hundred_calls_at_once_each_succeed_or_fail_on_their_own(fixture: &dyn Fixture) {
    let ledger = with_tenant(fixture).await;
    for round in 0..5 {
        let mut calls: Vec<LedgerFuture<'_, u64>> = Vec::new();
        for number in 0..100 {
            let id = format!("{round}-{number}");
            calls.push(match number % 4 {
                // A stranger's tenant: refused, and nobody else is harmed.
                0 => ledger.contents_listed(tenant(77), vec![content(&id, hours(1))], noon()),
                // Good first, then bad: nothing of it may stay.
                1 => {
                    let ledger = ledger.clone();
                    let bad = Commit { segments: vec![segment(1, 0), segment(2, 0)], ..commit(1) };
                    Box::pin(async move { ledger.commit(bad).await.map(|()| 0) })
                }
                _ => ledger.contents_listed(tenant(1), vec![content(&id, hours(1))], noon()),
            });
        }
        for (number, result) in join_all(calls).await.into_iter().enumerate() {
            match number % 4 {
                0 => assert!(matches!(result, Err(LedgerError::UnknownTenant { .. })), "{result:?}"),
                1 => assert!(matches!(result, Err(LedgerError::SegmentRefused { .. })), "{result:?}"),
                _ => assert_eq!(result.unwrap(), 1),
            }
        }
        assert_eq!(all_pending(&*ledger, tenant(1)).await.len(), 50 * (round + 1));
    }
    assert_eq!(ledger.segments(tenant(1)).await.unwrap(), []);
    assert_eq!(ledger.tenant(tenant(1)).await.unwrap().unwrap().last_commit, CommitNumber(0));
}

pub async fn a_reader_reads_while_another_writes_and_cannot_write(fixture: &dyn Fixture) {
    let writer = with_tenant(fixture).await;
    let reader = fixture.open_read_only();
    for number in 0..10 {
        writer.contents_listed(tenant(1), vec![content(&format!("{number}"), hours(1))], noon()).await.unwrap();
        assert_eq!(all_pending(&*reader, tenant(1)).await.len(), number + 1);
    }
    let error = refused(reader.add_tenant(tenant(2), String::new(), noon(), noon())).await;
    assert!(matches!(error, LedgerError::ReadOnly { .. }), "{error:?}");
    drop(writer);
    assert_eq!(all_pending(&*reader, tenant(1)).await.len(), 10, "also when the writer has gone");
    let reader = fixture.open_read_only();
    assert_eq!(all_pending(&*reader, tenant(1)).await.len(), 10, "also when it had gone before");
}
