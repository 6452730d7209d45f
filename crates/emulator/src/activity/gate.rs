//! Who may call: the token, the tenant, the permission, the publisher and the quota, in the order the service asks.
//!
//! Never lets a token of one tenant, resource or cloud through to another's feed.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use http::header::AUTHORIZATION;
use protocol::cloud::{Cloud, CloudName};
use protocol::ids::{ClientId, TenantId};
use uuid::Uuid;

use super::reply::{Refusal, RefusalBody};
use super::{ActivityApi, Asked};
use crate::entra::tokens::TokenRefusal;
use crate::faults::Operation;
use crate::world::tenant::Tenant;
use crate::world::timeline::Millis;

/// Who calls, once admitted.
#[derive(Debug, Clone)]
pub(crate) struct Caller {
    pub(crate) tenant: Arc<Tenant>,
    pub(crate) client: ClientId,
    /// `PublisherIdentifier`, or zeros.
    pub(crate) publisher: Uuid,
    /// Whether it may see sensitive values in DLP records.
    pub(crate) reads_dlp: bool,
    pub(crate) now: Millis,
}

impl ActivityApi {
    /// # Errors
    /// The answer for a caller who may not.
    pub(crate) fn admit(&self, asked: &Asked) -> Result<Caller, Refusal> {
        let header = asked.parts.headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
        let bearer = header.and_then(|text| strip_scheme(text)).ok_or_else(Refusal::denied)?;
        let now = self.world.now();
        let token = self.tokens.verify(bearer, now).map_err(|refusal| match refusal {
            // One of the three forms seen (D9); which, is not documented.
            TokenRefusal::Expired(_) => Refusal::bare(401, RefusalBody::Empty),
            _ => Refusal::denied(),
        })?;
        let id: TenantId = asked.target.tenant.parse().map_err(|_| {
            let text: String = asked.target.tenant.chars().take(64).collect();
            Refusal::new(400, "AF20013", format!("The tenant ID passed in the URL ({text}) is not a valid GUID."))
        })?;
        if token.tenant != id {
            let message = format!(
                "The tenant ID passed in the URL ({id}) does not match the tenant ID passed in the access token ({}).",
                token.tenant
            );
            return Err(Refusal::new(401, "AF20010", message));
        }
        let tenant = self.world.tenant(id).ok_or_else(|| Refusal::unknown_tenant(id))?;
        if !is_for_this_api(&token.audience, tenant.cloud, &asked.origin.to_string()) {
            return Err(Refusal::denied());
        }
        let state = tenant.state().clone();
        if state.deleted {
            return Err(Refusal::unknown_tenant(id));
        }
        if state.misconfigured {
            let message = format!("Specified tenant ID ({id}) is incorrectly configured in the system.");
            return Err(Refusal::new(400, "AF20012", message));
        }
        let has = |role: &str| token.roles.iter().any(|held| held == role);
        if !has("ActivityFeed.Read") {
            return Err(Refusal::missing_role(&token.roles));
        }
        let publisher = match asked.query.find("PublisherIdentifier") {
            None => Uuid::nil(),
            Some(text) => Uuid::try_parse(text).map_err(|_| Refusal::wrong_type("PublisherIdentifier", "guid"))?,
        };
        let reads_dlp = has("ActivityFeed.ReadDlp");
        let caller = Caller { tenant, client: token.client_id, publisher, reads_dlp, now: now.timestamp_millis() };
        self.charge(&caller, asked.target.operation)?;
        Ok(caller)
    }

    fn charge(&self, caller: &Caller, operation: Operation) -> Result<(), Refusal> {
        let Some(limit) = self.world.options().limits.requests_per_minute else { return Ok(()) };
        // Anonymous callers of all tenants share one pool.
        let pool = if caller.publisher.is_nil() { None } else { Some(caller.tenant.id()) };
        if self.quota.take(pool, limit, caller.now) {
            return Ok(());
        }
        Err(Refusal::throttled(method_name(operation), &caller.publisher.to_string(), 403))
    }
}

fn strip_scheme(header: &str) -> Option<&str> {
    let (scheme, token) = header.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// The names seen in throttling messages are `GetBlob` and `GetContents`; the rest follow their pattern.
pub(crate) fn method_name(operation: Operation) -> &'static str {
    match operation {
        Operation::Retrieve => "GetBlob",
        Operation::Content => "GetContents",
        Operation::List => "GetSubscriptions",
        Operation::Start => "StartSubscription",
        Operation::Stop => "StopSubscription",
        Operation::Notifications => "GetNotifications",
        _ => "GetResources",
    }
}

/// The service principal's own id is an audience too, in every cloud (entra.md §1).
const SERVICE_ID: &str = "c5393580-f805-4401-95e8-94b7a6ef2fc2";

fn is_for_this_api(audience: &str, cloud: CloudName, origin: &str) -> bool {
    let audience = audience.trim_end_matches('/');
    if audience == SERVICE_ID {
        return true;
    }
    // Called by its own name, on loopback or behind a proxy, the emulator takes tokens that were made for that name.
    let own = audience.eq_ignore_ascii_case(origin);
    own || Cloud::preset(cloud).is_none_or(|cloud| cloud.resource() == audience)
}

/// Requests per minute, by tenant. A minute is one of the clock's, as a budget that fills at full minutes.
#[derive(Debug, Default)]
pub(crate) struct Quota {
    pools: Mutex<HashMap<Option<TenantId>, (Millis, u32)>>,
}

impl Quota {
    fn take(&self, pool: Option<TenantId>, limit: u32, now: Millis) -> bool {
        let minute = now.div_euclid(60_000);
        let mut pools = self.pools.lock().unwrap_or_else(PoisonError::into_inner);
        let used = pools.entry(pool).or_insert((minute, 0));
        if used.0 != minute {
            *used = (minute, 0);
        }
        if used.1 >= limit {
            return false;
        }
        used.1 += 1;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_request_of_a_minutes_budget_is_served_and_the_next_is_not() {
        let quota = Quota::default();
        let taken = |now| quota.take(None, 3, now);
        assert_eq!([taken(0), taken(1), taken(59_999), taken(59_999)], [true, true, true, false]);
        assert!(taken(60_000));
    }

    #[test]
    fn a_token_is_for_the_cloud_it_was_made_for() {
        let for_commercial = |audience| is_for_this_api(audience, CloudName::Commercial, "https://manage.office.com");
        assert!(for_commercial("https://manage.office.com"));
        assert!(for_commercial(SERVICE_ID));
        assert!(!for_commercial("https://manage-gcc.office.com"));
        assert!(!for_commercial("https://graph.microsoft.com"));
        assert!(is_for_this_api("http://127.0.0.1:7000", CloudName::Commercial, "http://127.0.0.1:7000"));
    }
}
