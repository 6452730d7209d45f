//! Which cloud a tenant lives in, asked of the login authorities themselves.
//!
//! Never sends a credential: the metadata is public, and nothing but the tenant's id leaves. Never decides whether to
//! collect: it is for telling the operator.

use std::time::Duration;

use protocol::cloud::{Cloud, CloudName};
use protocol::entra::EntraError;
use protocol::ids::TenantId;
use protocol::response::Response;
use protocol::tenant_metadata::{
    CloudFit, MAX_METADATA_BODY, MetadataError, Residence, TenantMetadata, parse_tenant_metadata, tenant_metadata,
};

use crate::transport::{Transport, TransportError};

/// The longest time one look-up may take.
const LOOK_UP_TIME: Duration = Duration::from_secs(20);

/// The number for a tenant that the authority does not know (entra.md §6).
const TENANT_NOT_FOUND: u32 = 90_002;

/// The numbers for a tenant of another cloud.
const OTHER_CLOUD: [u32; 3] = [90_038, 900_382, 900_432];

/// One cloud of each login authority that Microsoft runs.
const AUTHORITIES: [CloudName; 3] = [CloudName::Commercial, CloudName::GccHigh, CloudName::China];

/// What is known of where a tenant lives.
#[derive(Debug)]
pub enum LookUp {
    /// The configured cloud's authority knows it, and nothing speaks against that cloud.
    Fits(Option<Residence>),
    /// It lives in another cloud.
    Elsewhere(Residence),
    /// It lives in another cloud, and none of those we could ask says which.
    SomewhereElse(EntraError),
    /// No authority that could be asked knows it.
    Unknown(EntraError),
    /// The configured cloud's authority could not be asked, or answered something else.
    NotTold(String),
}

/// Asks the configured cloud's authority, and the other ones when that one does not know the tenant. A cloud that the
/// operator described has no others.
pub async fn look_up(transport: &dyn Transport, cloud: &Cloud, tenant: TenantId) -> LookUp {
    let error = match ask(transport, cloud, tenant).await {
        Ok(metadata) => {
            return match metadata.fit(cloud.name()) {
                CloudFit::Fits(residence) => LookUp::Fits(residence),
                CloudFit::Elsewhere(residence) => LookUp::Elsewhere(residence),
            };
        }
        Err(Failure::Metadata(MetadataError::Entra(error))) => *error,
        Err(Failure::Metadata(error)) => return LookUp::NotTold(error.to_string()),
        Err(Failure::Transport(error)) => return LookUp::NotTold(error.to_string()),
    };
    let elsewhere = error.codes.iter().any(|code| OTHER_CLOUD.contains(code));
    let unknown = error.codes.contains(&TENANT_NOT_FOUND) || error.error.as_deref() == Some("invalid_tenant");
    if !elsewhere && !unknown {
        return LookUp::NotTold(error.to_string());
    }
    if cloud.name() != CloudName::Custom
        && let Some(residence) = ask_the_others(transport, cloud, tenant).await
    {
        return LookUp::Elsewhere(residence);
    }
    if elsewhere { LookUp::SomewhereElse(error) } else { LookUp::Unknown(error) }
}

async fn ask_the_others(transport: &dyn Transport, cloud: &Cloud, tenant: TenantId) -> Option<Residence> {
    for other in AUTHORITIES.into_iter().filter_map(Cloud::preset).filter(|other| other.login() != cloud.login()) {
        // One that cannot be reached from here says nothing; another may.
        if let Ok(metadata) = ask(transport, &other, tenant).await
            && let Some(residence) = metadata.residence()
            && !residence.may_be(cloud.name())
        {
            return Some(residence);
        }
    }
    None
}

enum Failure {
    Transport(TransportError),
    Metadata(MetadataError),
}

async fn ask(transport: &dyn Transport, cloud: &Cloud, tenant: TenantId) -> Result<TenantMetadata, Failure> {
    let request = tenant_metadata(cloud, tenant)
        .into_unauthenticated()
        .map_err(|error| Failure::Transport(TransportError::Request { reason: error.to_string() }))?;
    let origin = crate::transport::origin_of(request.uri());
    let exchange = async {
        let answer = transport.send(request).await?;
        let body = answer.body.read(MAX_METADATA_BODY).await?;
        Ok((answer.status, answer.headers, body))
    };
    let (status, headers, body) = tokio::time::timeout(LOOK_UP_TIME, exchange)
        .await
        .unwrap_or(Err(TransportError::Timeout { origin }))
        .map_err(Failure::Transport)?;
    parse_tenant_metadata(&Response::new(status, &headers, &body)).map_err(Failure::Metadata)
}
