//! Webhooks.

use engine::webhook::{Webhook, WebhookState};

use super::*;

fn webhook(content_type: ContentType, number: u8) -> Webhook {
    Webhook {
        content_type,
        path_key: [number; 16],
        address: format!("https://audit.example.com/webhook/{number}"),
        accepted: None,
        offered: Some([number; 32]),
        state: WebhookState::Offered,
        since: noon(),
        expires: None,
        failures: 0,
        drifts: 0,
        refusal: None,
        notified_at: None,
    }
}

pub async fn a_webhook_is_kept_as_written_and_found_by_its_path(fixture: &dyn Fixture) {
    let ledger = with_tenant(fixture).await;
    assert_eq!(ledger.webhooks(tenant(1)).await.unwrap(), []);
    assert_eq!(ledger.webhook_at([1; 16]).await.unwrap(), None);
    let both = [webhook(GENERAL, 1), webhook(EXCHANGE, 2)];
    ledger.write_webhooks(tenant(1), both.to_vec(), noon()).await.unwrap();
    assert_eq!(ledger.webhooks(tenant(1)).await.unwrap().len(), 2);
    for state in WebhookState::ALL {
        let full = Webhook {
            accepted: Some([7; 32]),
            state,
            expires: Some(noon() + days(30)),
            failures: 3,
            drifts: 9,
            refusal: Some("it answered 301".to_owned()),
            ..webhook(GENERAL, 1)
        };
        ledger.write_webhooks(tenant(1), vec![full.clone()], noon()).await.unwrap();
        let (owner, found) = ledger.webhook_at([1; 16]).await.unwrap().unwrap();
        assert_eq!((owner.id, found), (tenant(1), full));
    }
    // Under another path the old one leads nowhere.
    ledger.write_webhooks(tenant(1), vec![webhook(GENERAL, 3)], noon()).await.unwrap();
    assert_eq!(ledger.webhook_at([1; 16]).await.unwrap(), None);
    assert_eq!(ledger.webhook_at([2; 16]).await.unwrap().map(|(_, found)| found), Some(webhook(EXCHANGE, 2)));
    ledger.set_tenant_state(tenant(1), engine::model::TenantState::Removed, noon()).await.unwrap();
    evidence::purged(&*ledger, 1).await;
    assert_eq!(ledger.webhook_at([2; 16]).await.unwrap(), None);
}

pub async fn a_notification_is_noted_where_there_is_a_webhook_and_survives_its_rewriting(fixture: &dyn Fixture) {
    let ledger = with_tenant(fixture).await;
    ledger.write_webhooks(tenant(1), vec![webhook(GENERAL, 1)], noon()).await.unwrap();
    let at = |minute: i64| noon() + minutes(minute);
    ledger.notified(tenant(1), vec![GENERAL, EXCHANGE], at(5)).await.unwrap();
    ledger.notified(tenant(1), vec![GENERAL], at(4)).await.unwrap();
    ledger.write_webhooks(tenant(1), vec![webhook(GENERAL, 1)], noon()).await.unwrap();
    let webhooks = ledger.webhooks(tenant(1)).await.unwrap();
    assert_eq!(webhooks, [Webhook { notified_at: Some(at(5)), ..webhook(GENERAL, 1) }]);
    refused(ledger.notified(tenant(2), vec![GENERAL], at(5))).await;
    refused(ledger.write_webhooks(tenant(2), vec![webhook(GENERAL, 4)], at(5))).await;
}
