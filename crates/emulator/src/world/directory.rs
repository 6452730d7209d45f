//! The world as the login service sees it.
//!
//! Never mints or checks a token; see [`crate::entra`].

use chrono::{DateTime, Utc};
use protocol::ids::{ClientId, TenantId};

use super::World;
use crate::entra::{
    Directory, EntraCall, EntraEndpoint, EntraFailure, EntraFault, EntraPolicy, Grant, ServicePrincipal, TenantInfo,
};
use crate::faults::{Call, Effect, Operation};

impl Directory for World {
    fn now(&self) -> DateTime<Utc> {
        self.clock.now()
    }

    fn find_tenant(&self, name: &str) -> Option<TenantInfo> {
        self.tenant_named(&name.to_ascii_lowercase()).map(|tenant| tenant.info())
    }

    fn tenants(&self, limit: usize) -> Vec<TenantInfo> {
        let tenants = World::tenants(self);
        tenants.iter().map(|tenant| tenant.info()).filter(|info| !info.deleted).take(limit).collect()
    }

    fn service_principal(&self, tenant: TenantId, client: ClientId) -> Option<ServicePrincipal> {
        self.tenant(tenant)?.state().principal(client).cloned()
    }

    fn consent(&self, tenant: TenantId, client: ClientId, granted: &Grant) {
        self.change_tenant(tenant, |state| {
            let mut principal = state.principal(client).cloned().unwrap_or_default();
            for (have, more) in [(&mut principal.roles, &granted.roles), (&mut principal.scopes, &granted.scopes)] {
                for name in more {
                    if !have.contains(name) {
                        have.push(name.clone());
                    }
                }
            }
            state.principals.insert(client, Some(principal));
        });
    }

    fn entra_fault(&self, call: &EntraCall) -> Option<EntraFault> {
        let operation = match call.endpoint {
            EntraEndpoint::Token => Operation::Token,
            EntraEndpoint::Authorize => Operation::Authorize,
            EntraEndpoint::AdminConsent => Operation::AdminConsent,
            EntraEndpoint::Metadata => Operation::Metadata,
            EntraEndpoint::ManagedIdentity => Operation::ManagedIdentity,
        };
        let subject = call.client.map(|client| client.to_string()).unwrap_or_default();
        let asked = Call { operation, tenant: call.tenant, kind: None, subject: &subject, now: self.clock.now() };
        let instead = match self.faults().decide(&asked)? {
            Effect::Aadsts(number) => EntraFailure::Aadsts(number),
            Effect::Throttle { retry_after, .. } => EntraFailure::Throttled { retry_after },
            Effect::ServerError { status, .. } => EntraFailure::Status(status),
            Effect::Unauthorized(_) => EntraFailure::Status(401),
            Effect::Truncate { .. } => EntraFailure::TruncatedJson,
            Effect::Reset | Effect::Close | Effect::LostAnswer => EntraFailure::Reset,
            Effect::Delay(by) => return Some(EntraFault { delay: Some(by), ..EntraFault::default() }),
            _ => return None,
        };
        Some(EntraFault { instead: Some(instead), ..EntraFault::default() })
    }

    fn policy(&self) -> EntraPolicy {
        self.options.entra.clone()
    }
}
