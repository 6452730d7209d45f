//! `subscriptions/start` and `subscriptions/stop`: the life cycle of a subscription, with its throttle and its
//! validation.
//!
//! Never makes or changes a subscription before the webhook has answered 200.

use std::sync::Arc;

use axum::body::Body;
use http::Response;
use http_body_util::{BodyExt as _, Limited};
use protocol::ids::ContentType;
use serde_json::{Value, json};

use super::gate::Caller;
use super::listing::webhook_json;
use super::reply::{self, Refusal};
use super::{ActivityApi, Asked};
use crate::world::feed::span;
use crate::world::subscription::{StartVerdict, SubscriptionKey, Webhook};
use crate::world::timeline::Millis;

/// The largest body of a start call, in bytes.
const BODY_MAX: usize = 64 << 10;

impl ActivityApi {
    pub(super) async fn start(self: &Arc<Self>, caller: Caller, asked: Asked) -> Result<Response<Body>, Refusal> {
        let (kind, spelling) = asked.query.content_type()?;
        let spelling = spelling.to_owned();
        let body = Limited::new(asked.body, BODY_MAX).collect().await;
        let body = body.map_err(|_| Refusal::bare(413, reply::RefusalBody::Html))?.to_bytes();
        let webhook = self.webhook_of(&body, caller.now)?;
        let key = SubscriptionKey { tenant: caller.tenant.id(), client: caller.client, kind: kind.clone() };
        let limits = &self.world.options().limits;
        let verdict = self.world.subscriptions().judge_start(&key, webhook.as_ref(), limits, caller.now);
        match verdict {
            StartVerdict::Throttled(wait) => return Err(too_many_starts(wait)),
            StartVerdict::NoChange => {
                let message = "The subscription is already enabled. No property change.";
                return Err(Refusal::new(400, "AF20024", message));
            }
            StartVerdict::Go => {}
        }
        self.check_tenant(&caller, &kind)?;
        if let Some(webhook) = &webhook {
            self.validate(webhook).await?;
        }
        // The validation took real time, and the clock may have moved.
        let now = self.world.now_millis();
        let history = self.world.options().history_before_subscription;
        let mut subscriptions = self.world.subscriptions();
        subscriptions.start(key.clone(), webhook.clone(), history, span(limits.phantom_within), now);
        if let Some(subscription) = subscriptions.find_mut(&key) {
            subscription.spelling.clone_from(&spelling);
            subscription.origin = asked.origin.to_string();
        }
        drop(subscriptions);
        let webhook = webhook_json(webhook.as_ref(), now);
        Ok(reply::json(json!({ "contentType": spelling, "status": "enabled", "webhook": webhook }).to_string()))
    }

    /// What keeps a tenant from subscribing.
    fn check_tenant(&self, caller: &Caller, kind: &ContentType) -> Result<(), Refusal> {
        let state = caller.tenant.state().clone();
        if !state.auditing() {
            return Err(Refusal::from_exception(&self.auditing_is_off(caller, kind)));
        }
        // Seen for DLP.All in tenants without the licence (azure-docs #42200).
        if !state.licensed.contains(kind) {
            return Err(Refusal::internal());
        }
        Ok(())
    }

    /// The exception that stands for "the unified audit log is off" (activity-api.md §9, D5).
    fn auditing_is_off(&self, caller: &Caller, kind: &ContentType) -> String {
        let (tenant, client, publisher) = (caller.tenant.id(), caller.client, caller.publisher);
        let correlation = self.correlation();
        format!(
            "StartSubscription [CorrId={correlation}][TenantId={tenant},ContentType={kind},ApplicationId={client},\
             PublisherId={publisher}][AppId:{client}] failed. Exception: \
             Microsoft.Office.Compliance.Audit.DataServiceException: Tenant {tenant} does not exist.\r\n   \
             at Microsoft.Office.Compliance.Audit.DataService.DataServiceClient.GetTenant(Guid tenantId)\r\n   \
             at Microsoft.Office.Compliance.Audit.API.StartController.<StartSubscription>d__4.MoveNext()"
        )
    }

    /// The webhook a start body describes. A body that is no object, as a doubly encoded one, is passed over (D14).
    fn webhook_of(&self, body: &[u8], now: Millis) -> Result<Option<Webhook>, Refusal> {
        if body.iter().all(u8::is_ascii_whitespace) {
            return Ok(None);
        }
        let value: Value = serde_json::from_slice(body).map_err(|_| Refusal::wrong_type("webhook", "object"))?;
        let Some(Value::Object(webhook)) = value.get("webhook") else { return Ok(None) };
        let text = |name: &str| webhook.get(name).and_then(Value::as_str);
        let address = text("address").ok_or_else(|| Refusal::missing_parameter("webhook.address"))?;
        let https = address.get(..8).is_some_and(|scheme| scheme.eq_ignore_ascii_case("https://"));
        let plain = self.world.options().webhook_plain_http && address.starts_with("http://");
        if !(https || plain) {
            return Err(not_validated(address, "The address must begin with https."));
        }
        let expiration_text = text("expiration").map(str::to_owned);
        let expiration = match expiration_text.as_deref() {
            None | Some("") => None,
            Some(text) => Some(read_expiration(text)?),
        };
        if expiration.is_some_and(|expiration| expiration <= now) {
            let shown = expiration_text.unwrap_or_default();
            let message = format!("Expiration {shown} provided is set to past date and time.");
            return Err(Refusal::new(400, "AF20003", message));
        }
        Ok(Some(Webhook {
            address: address.to_owned(),
            auth_id: text("authId").map(str::to_owned),
            expiration,
            expiration_text,
            disabled: false,
        }))
    }

    async fn validate(&self, webhook: &Webhook) -> Result<(), Refusal> {
        let code = self.correlation();
        let status = self.notifier.validate(webhook, &code).await;
        match status {
            Ok(200) => Ok(()),
            Ok(other) => {
                Err(not_validated(&webhook.address, &format!("The endpoint answered {other} instead of 200.")))
            }
            Err(error) => Err(not_validated(&webhook.address, &error)),
        }
    }

    pub(super) fn stop(&self, caller: &Caller, asked: &Asked) -> Result<Response<Body>, Refusal> {
        let (kind, _) = asked.query.content_type()?;
        let key = SubscriptionKey { tenant: caller.tenant.id(), client: caller.client, kind };
        if self.world.subscriptions().stop(&key, caller.now) {
            self.notifier.forget(&key);
            return Ok(reply::empty());
        }
        Err(Refusal::new(400, "AF20022", "No subscription found for the specified content type."))
    }
}

/// The wait is in prose, and the code has no `AF` (D4).
fn too_many_starts(wait: Millis) -> Refusal {
    let seconds = (wait + 999) / 1000;
    let message = format!(
        "Too many frequent subscription start requests. Please retry again after {}m {}s.",
        seconds / 60,
        seconds % 60
    );
    Refusal::new(403, "429", message)
}

fn not_validated(address: &str, why: &str) -> Refusal {
    let shown: String = address.chars().take(200).collect();
    Refusal::new(400, "AF20021", format!("The webhook endpoint ({shown}) could not be validated. {why}"))
}

fn read_expiration(text: &str) -> Result<Millis, Refusal> {
    let zoned = chrono::DateTime::parse_from_rfc3339(text).map(|time| time.timestamp_millis());
    let bare = chrono::NaiveDateTime::parse_from_str(text, "%Y-%m-%dT%H:%M:%S%.f")
        .map(|time| time.and_utc().timestamp_millis());
    zoned.or(bare).map_err(|_| Refusal::wrong_type("webhook.expiration", "datetime"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wait_is_told_in_minutes_and_seconds_and_never_as_nothing() {
        let message = |wait| match too_many_starts(wait).body {
            reply::RefusalBody::Envelope { message, .. } => message,
            other => panic!("{other:?}"),
        };
        assert!(message(526_000).ends_with("after 8m 46s."), "{}", message(526_000));
        assert!(message(1).ends_with("after 0m 1s."));
        assert!(message(900_000).ends_with("after 15m 0s."));
    }
}
