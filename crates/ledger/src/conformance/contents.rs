//! Contents between their listing and their end.

use engine::model::{ContentState, RefusedEntry};

use super::*;

async fn ids(ledger: &dyn Ledger, now: Timestamp, limit: u32, in_flight: Vec<i64>) -> Vec<String> {
    let pending = ledger.pending(tenant(1), now, limit, in_flight).await.unwrap();
    pending.into_iter().map(|pending| pending.content.content_id.as_str().to_owned()).collect()
}

async fn state(ledger: &dyn Ledger, id: &str) -> Option<ContentState> {
    ledger.content_state(tenant(1), GENERAL, id.to_owned()).await.unwrap()
}

pub async fn a_content_is_listed_once(fixture: &dyn Fixture) {
    let ledger = with_tenant(fixture).await;
    let a = content("a", hours(1));
    assert_eq!(state(&*ledger, "a").await, None);
    assert_eq!(ledger.contents_listed(tenant(1), vec![a.clone(), a.clone()], noon() + hours(2)).await.unwrap(), 1);
    let pending = all_pending(&*ledger, tenant(1)).await;
    let row = pending.first().unwrap().row;
    let seen_at = noon() + hours(2);
    assert_eq!(pending, [Pending { row, content: a.clone(), seen_at, attempts: 0, next_attempt_at: seen_at }]);
    assert_eq!(state(&*ledger, "a").await, Some(ContentState::Listed));
    // Known while it waits, and known when it is archived.
    assert_eq!(ledger.contents_listed(tenant(1), vec![a.clone()], noon() + hours(3)).await.unwrap(), 0);
    assert_eq!(all_pending(&*ledger, tenant(1)).await, pending);
    ledger.commit(Commit { contents: vec![archived(row, 1)], ..commit(1) }).await.unwrap();
    assert_eq!(ledger.contents_listed(tenant(1), vec![a], noon() + hours(4)).await.unwrap(), 0);
    assert_eq!(state(&*ledger, "a").await, Some(ContentState::Archived));
    assert_eq!(all_pending(&*ledger, tenant(1)).await, []);
    assert_eq!(ledger.contents_listed(tenant(1), vec![], noon()).await.unwrap(), 0);
}

pub async fn the_same_id_in_another_tenant_or_type_is_another_content(fixture: &dyn Fixture) {
    let ledger = with_tenant(fixture).await;
    ledger.add_tenant(tenant(2), String::new(), noon(), noon()).await.unwrap();
    let a = content("a", hours(1));
    let other = Listed { content_type: EXCHANGE, ..a.clone() };
    assert_eq!(ledger.contents_listed(tenant(1), vec![a.clone(), other.clone(), a.clone()], noon()).await.unwrap(), 2);
    assert_eq!(ledger.contents_listed(tenant(2), vec![a], noon()).await.unwrap(), 1);
    let elsewhere = row(&*ledger, tenant(2), "a").await;
    assert!(matches!(
        refused(ledger.content_lost(tenant(1), elsewhere, loss(LossKind::Missing), noon())).await,
        LedgerError::NotListed { .. }
    ));
    assert_eq!(all_pending(&*ledger, tenant(1)).await.len(), 2);
}

pub async fn a_content_of_the_greatest_size_is_kept(fixture: &dyn Fixture) {
    let ledger = with_tenant(fixture).await;
    let id = format!("{}$", "Ä".repeat(1023)) + "x";
    assert_eq!(id.len(), 2048);
    let uri = format!("https://manage.office.com/{}", "y".repeat(8192 - 26));
    let content_type: ContentType = "x".repeat(64).parse().unwrap();
    let great = Listed {
        content_id: id.parse().unwrap(),
        content_uri: uri.parse().unwrap(),
        content_type: content_type.clone(),
        created: noon() + TimeDelta::milliseconds(1),
        expires: noon() + days(7) + TimeDelta::milliseconds(999),
    };
    let twin = Listed { content_id: id.replace('x', "z").parse().unwrap(), ..great.clone() };
    assert_eq!(ledger.contents_listed(tenant(1), vec![great.clone(), twin], noon()).await.unwrap(), 2);
    assert_eq!(ledger.contents_listed(tenant(1), vec![great.clone()], noon()).await.unwrap(), 0);
    assert!(all_pending(&*ledger, tenant(1)).await.iter().any(|pending| pending.content == great));
    let long = "m".repeat(100_000);
    let great_row = row(&*ledger, tenant(1), &id).await;
    ledger.content_failed(tenant(1), great_row, long, noon()).await.unwrap();
    let kept = ledger.coverage(tenant(1)).await.unwrap().remove(0).last_failure.unwrap();
    assert!(kept.len() >= 1000 && kept.len() <= 4096, "a message is cut, not refused: {}", kept.len());
    assert_eq!(ledger.content_state(tenant(1), content_type, id).await.unwrap(), Some(ContentState::Listed));
}

pub async fn the_urgent_come_first_and_then_the_newest(fixture: &dyn Fixture) {
    let ledger = with_tenant(fixture).await;
    let created = [("older", 30), ("newest", 100), ("soon", 2), ("gone", -200), ("newer", 50), ("soonest", 1)];
    let contents = created.map(|(id, created)| content(id, hours(created)));
    ledger.contents_listed(tenant(1), contents.to_vec(), noon()).await.unwrap();
    // Contents of noon + 2 h expire exactly one day after this.
    let now = noon() + hours(2) + days(6);
    let order = ["gone", "soonest", "soon", "newest", "newer", "older"];
    assert_eq!(ids(&*ledger, now, 100, vec![]).await, order);
    assert_eq!(ids(&*ledger, now, 4, vec![]).await, order[..4]);
    assert_eq!(ids(&*ledger, now, 0, vec![]).await, [""; 0]);
    // A moment earlier the last of the urgent is not urgent yet, but the oldest of the others.
    let earlier = now - TimeDelta::milliseconds(1);
    assert_eq!(ids(&*ledger, earlier, 100, vec![]).await, ["gone", "soonest", "newest", "newer", "older", "soon"]);
}

pub async fn what_is_in_flight_or_not_due_is_left_out(fixture: &dyn Fixture) {
    let ledger = with_tenant(fixture).await;
    let contents = (0..6).map(|number| content(&format!("{number}"), hours(number))).collect();
    ledger.contents_listed(tenant(1), contents, noon() + hours(6)).await.unwrap();
    let now = noon() + hours(6);
    let (five, three) = (row(&*ledger, tenant(1), "5").await, row(&*ledger, tenant(1), "3").await);
    assert_eq!(ids(&*ledger, now, 2, vec![five, three, 99_999]).await, ["4", "2"]);
    ledger
        .content_failed(tenant(1), row(&*ledger, tenant(1), "4").await, String::new(), now + minutes(1))
        .await
        .unwrap();
    assert_eq!(ids(&*ledger, now + minutes(1) - TimeDelta::milliseconds(1), 2, vec![five]).await, ["3", "2"]);
    assert_eq!(ids(&*ledger, now + minutes(1), 2, vec![five]).await, ["4", "3"]);
    assert_eq!(ids(&*ledger, now - minutes(1), 9, vec![]).await, [""; 0], "nothing is tried before it was seen");
}

pub async fn the_next_attempt_is_the_earliest(fixture: &dyn Fixture) {
    let ledger = with_tenant(fixture).await;
    assert_eq!(ledger.next_attempt_at(tenant(1)).await.unwrap(), None);
    ledger.contents_listed(tenant(1), vec![content("a", hours(1)), content("b", hours(1))], noon()).await.unwrap();
    assert_eq!(ledger.next_attempt_at(tenant(1)).await.unwrap(), Some(noon()));
    for (id, minute) in [("a", 7), ("b", 3)] {
        let row = row(&*ledger, tenant(1), id).await;
        ledger.content_failed(tenant(1), row, String::new(), noon() + minutes(minute)).await.unwrap();
    }
    assert_eq!(ledger.next_attempt_at(tenant(1)).await.unwrap(), Some(noon() + minutes(3)));
}

pub async fn a_failure_counts_and_waits(fixture: &dyn Fixture) {
    let ledger = with_tenant(fixture).await;
    ledger.contents_listed(tenant(1), vec![content("a", hours(1))], noon()).await.unwrap();
    let row = row(&*ledger, tenant(1), "a").await;
    for attempt in 1..=3 {
        let next = noon() + minutes(i64::from(attempt));
        ledger.content_failed(tenant(1), row, format!("failure {attempt}"), next).await.unwrap();
        let pending = all_pending(&*ledger, tenant(1)).await.remove(0);
        assert_eq!((pending.row, pending.attempts, pending.next_attempt_at), (row, attempt, next));
    }
    assert_eq!(ledger.coverage(tenant(1)).await.unwrap().remove(0).last_failure, Some("failure 3".to_owned()));
}

pub async fn what_is_not_waiting_can_neither_fail_nor_be_lost_nor_archived(fixture: &dyn Fixture) {
    let ledger = with_tenant(fixture).await;
    let contents = vec![content("archived", hours(1)), content("lost", hours(1))];
    ledger.contents_listed(tenant(1), contents, noon()).await.unwrap();
    let done = row(&*ledger, tenant(1), "archived").await;
    let lost = row(&*ledger, tenant(1), "lost").await;
    let one = Commit { contents: vec![archived(done, 1)], lost: vec![(lost, loss(LossKind::Expired))], ..commit(1) };
    ledger.commit(one).await.unwrap();
    for row in [done, lost, 4711] {
        let errors = [
            refused(ledger.content_failed(tenant(1), row, String::new(), noon())).await,
            refused(ledger.content_lost(tenant(1), row, loss(LossKind::Missing), noon())).await,
            refused(ledger.commit(Commit { contents: vec![archived(row, 1)], ..commit(2) })).await,
            refused(ledger.commit(Commit { lost: vec![(row, loss(LossKind::Missing))], ..commit(2) })).await,
        ];
        for error in errors {
            assert!(matches!(error, LedgerError::NotListed { row: named, .. } if named == row), "{error:?}");
        }
    }
    assert_eq!(ledger.tenant(tenant(1)).await.unwrap().unwrap().last_commit, CommitNumber(1));
}

pub async fn a_lost_content_waits_again_only_when_there_is_hope(fixture: &dyn Fixture) {
    let ledger = with_tenant(fixture).await;
    for (number, kind) in LossKind::ALL.into_iter().enumerate() {
        let listed = content(kind.as_str(), hours(1));
        let later = noon() + minutes(i64::try_from(number).unwrap());
        ledger.contents_listed(tenant(1), vec![listed.clone()], noon()).await.unwrap();
        let row = row(&*ledger, tenant(1), kind.as_str()).await;
        ledger.content_lost(tenant(1), row, loss(kind), later).await.unwrap();
        assert_eq!(state(&*ledger, kind.as_str()).await, Some(ContentState::Lost));
        let told = ledger.losses(tenant(1), 1).await.unwrap().remove(0);
        assert_eq!((told.content_id.as_str(), told.loss, told.lost_at), (kind.as_str(), loss(kind), later));
        assert_eq!((told.content_type, told.created, told.expires), (GENERAL, listed.created, listed.expires));
        // Listed again as it was; then, if that brings no hope, with another URL.
        let again = ledger.contents_listed(tenant(1), vec![listed.clone()], noon() + hours(2)).await.unwrap();
        assert_eq!(again, 0, "it is known");
        let waits = kind == LossKind::Missing;
        assert_eq!(state(&*ledger, kind.as_str()).await == Some(ContentState::Listed), waits, "{kind:?}");
        let moved = Listed { content_uri: "https://manage.office.com/elsewhere".parse().unwrap(), ..listed.clone() };
        if !waits {
            ledger.contents_listed(tenant(1), vec![moved.clone()], noon() + hours(3)).await.unwrap();
            let waits = kind == LossKind::RefusedUrl;
            assert_eq!(state(&*ledger, kind.as_str()).await == Some(ContentState::Listed), waits, "{kind:?}");
        }
    }
    let pending = all_pending(&*ledger, tenant(1)).await;
    assert!(pending.iter().all(|pending| pending.attempts == 0 && pending.seen_at >= noon() + hours(2)), "{pending:?}");
    assert!(pending.iter().any(|pending| pending.content.content_uri.as_str().ends_with("elsewhere")));
    let kinds: Vec<LossKind> =
        ledger.losses(tenant(1), 9).await.unwrap().into_iter().map(|lost| lost.loss.kind).collect();
    assert_eq!(kinds, [LossKind::Unreadable, LossKind::Expired], "the latest first");
    // After it has expired there is no hope.
    let row = row(&*ledger, tenant(1), "missing").await;
    ledger.content_lost(tenant(1), row, loss(LossKind::Missing), noon() + hours(4)).await.unwrap();
    let listed = content("missing", hours(1));
    ledger.contents_listed(tenant(1), vec![listed.clone()], listed.expires).await.unwrap();
    assert_eq!(state(&*ledger, "missing").await, Some(ContentState::Lost));
    ledger.contents_listed(tenant(1), vec![listed.clone()], listed.expires - minutes(1)).await.unwrap();
    assert_eq!(state(&*ledger, "missing").await, Some(ContentState::Listed));
}

pub async fn a_failing_content_takes_another_url(fixture: &dyn Fixture) {
    let ledger = with_tenant(fixture).await;
    let listed = content("a", hours(1));
    let moved = Listed { content_uri: "https://manage.office.com/true".parse().unwrap(), ..listed.clone() };
    ledger.contents_listed(tenant(1), vec![listed.clone()], noon()).await.unwrap();
    ledger.contents_listed(tenant(1), vec![moved.clone()], noon()).await.unwrap();
    assert_eq!(all_pending(&*ledger, tenant(1)).await.remove(0).content, listed, "not as long as it has not failed");
    let row = row(&*ledger, tenant(1), "a").await;
    ledger.content_failed(tenant(1), row, "refused".to_owned(), noon() + hours(9)).await.unwrap();
    ledger.contents_listed(tenant(1), vec![listed], noon() + minutes(1)).await.unwrap();
    assert_eq!(ledger.next_attempt_at(tenant(1)).await.unwrap(), Some(noon() + hours(9)), "the same URL is no news");
    ledger.contents_listed(tenant(1), vec![moved.clone()], noon() + minutes(2)).await.unwrap();
    let pending = all_pending(&*ledger, tenant(1)).await.remove(0);
    assert_eq!((pending.content, pending.attempts), (moved, 1));
    assert_eq!(pending.next_attempt_at, noon() + minutes(2));
}

pub async fn an_entry_without_a_blob_is_lost_from_the_start_and_once(fixture: &dyn Fixture) {
    let ledger = with_tenant(fixture).await;
    let entry = |id: Option<&str>, raw: &str, kind| RefusedEntry {
        content_type: GENERAL,
        content_id: id.map(|id| id.parse().unwrap()),
        created: id.map(|_| noon()),
        raw: raw.to_owned(),
        loss: Loss { kind, message: "contentUri is missing".to_owned() },
    };
    let named = entry(Some("a"), r#"{"contentId":"a","contentUri":null}"#, LossKind::Unreadable);
    let entries = vec![named.clone(), entry(None, "{}", LossKind::Unreadable), entry(None, "[]", LossKind::RefusedUrl)];
    assert_eq!(ledger.entries_refused(tenant(1), entries.clone(), noon() + hours(1)).await.unwrap(), 3);
    assert_eq!(ledger.entries_refused(tenant(1), entries, noon() + hours(2)).await.unwrap(), 0);
    let losses = ledger.losses(tenant(1), 9).await.unwrap();
    assert_eq!(losses.len(), 3);
    let a = losses.iter().find(|lost| lost.content_id == "a").unwrap();
    assert_eq!((a.created, a.expires, a.lost_at), (noon(), noon() + days(7), noon() + hours(1)));
    assert!(a.loss.message.starts_with("contentUri is missing: {"), "{a:?}");
    let coverage = ledger.coverage(tenant(1)).await.unwrap().remove(0);
    assert_eq!(coverage.lost, [(LossKind::Unreadable, 2), (LossKind::RefusedUrl, 1)]);
    // The listing mends itself: the content waits after all.
    ledger.contents_listed(tenant(1), vec![content("a", hours(0))], noon() + hours(3)).await.unwrap();
    assert_eq!(state(&*ledger, "a").await, Some(ContentState::Listed));
    // And one that is known to wait, or to be archived, is not lost by a later entry.
    assert_eq!(ledger.entries_refused(tenant(1), vec![named], noon() + hours(4)).await.unwrap(), 0);
    assert_eq!(state(&*ledger, "a").await, Some(ContentState::Listed));
}
