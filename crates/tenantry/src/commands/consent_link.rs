//! `consent-link`: makes a link that a customer's admin connects a tenant with; lists and revokes them, and shows what they
//! have connected.
//!
//! Never shows a link twice: its secret is in the link alone, and the ledger has its digest. Works beside a running `serve`,
//! which reads the same ledger.

use chrono::TimeDelta;
use serde_json::json;
use server::engine::consent::{Invitation, InvitationNumber, LABEL_BYTES_MAX, NewInvitation};
use server::protocol::ids::TenantId;
use server::site::consent::LinkSecret;

use super::{load, store};
use crate::cli::{ConsentLinkArgs, ConsentLinkCommand, Global, NewLink};
use crate::config::Config;
use crate::exit::{Code, Failure};
use crate::present;

/// Links in one listing.
const LISTED_MAX: u32 = 1_000;

pub(crate) async fn run(global: &Global, args: ConsentLinkArgs) -> Result<(), Failure> {
    let config = load(global)?;
    match args.command {
        None => make(global, &config, args.link).await,
        Some(ConsentLinkCommand::List) => list(global, &config).await,
        Some(ConsentLinkCommand::Log { tenant, limit }) => log(global, &config, tenant, limit).await,
        Some(ConsentLinkCommand::Revoke { number }) => revoke(global, &config, number).await,
    }
}

async fn make(global: &Global, config: &Config, link: NewLink) -> Result<(), Failure> {
    if link.label.len() > LABEL_BYTES_MAX || link.label.chars().any(char::is_control) {
        let problem = format!("--label must have at most {LABEL_BYTES_MAX} bytes and no control characters");
        return Err(Failure::new(Code::Usage, problem));
    }
    let Some(public) = &config.public else {
        return Err(Failure::new(
            Code::Config,
            "there is no public site a link could lead to: set public.url under [public] to the address that browsers reach \
             it by, such as https://audit.example.com",
        ));
    };
    if let (Some(tenant), Some(allowed)) = (link.tenant, &public.allowed_tenants)
        && !allowed.contains(&tenant)
    {
        return Err(Failure::new(
            Code::Usage,
            format!("tenant {tenant} is not in public.allowed_tenants, so the link could connect nobody: add it there"),
        ));
    }
    let now = store::now();
    let life = TimeDelta::from_std(link.expires).expect("at most 90 days, as the command line was read");
    let secret = LinkSecret::new();
    let invitation = NewInvitation {
        secret: secret.digest(),
        label: link.label,
        tenant: link.tenant,
        expires_at: now + life,
        uses_allowed: link.uses.0,
    };
    let ledger = store::open_ledger(config)?;
    let number = ledger.add_invitation(invitation.clone(), now).await.map_err(store::ledger_failure)?;
    let link = secret.link(&public.url);
    if global.json {
        return present::print_json(&json!({
            "number": number.0,
            "link": link,
            "label": invitation.label,
            "tenant_id": invitation.tenant,
            "expires_at": invitation.expires_at.to_rfc3339(),
            "uses_allowed": invitation.uses_allowed,
        }));
    }
    tracing::info!(number = number.0, expires = %invitation.expires_at.format("%Y-%m-%d %H:%M:%SZ"), "the link is shown once");
    present::print(&link)
}

async fn list(global: &Global, config: &Config) -> Result<(), Failure> {
    let ledger = store::open_ledger_read_only(config)?;
    let links = ledger.invitations(None, LISTED_MAX).await.map_err(store::ledger_failure)?;
    if global.json {
        return present::print_json(&links.iter().map(to_json).collect());
    }
    let now = store::now();
    let rows = links
        .iter()
        .map(|link| {
            vec![
                link.number.0.to_string(),
                link.label.clone(),
                link.standing(now).as_str().to_owned(),
                link.uses_allowed.map_or(format!("{}", link.uses), |allowed| format!("{} of {allowed}", link.uses)),
                link.expires_at.format("%Y-%m-%d %H:%M:%SZ").to_string(),
                link.tenant.map(|tenant| tenant.to_string()).unwrap_or_default(),
            ]
        })
        .collect();
    present::print(&present::table(&["number", "label", "state", "uses", "expires", "tenant"], &["number"], rows))
}

fn to_json(link: &Invitation) -> serde_json::Value {
    json!({
        "number": link.number.0,
        "label": link.label,
        "state": link.standing(store::now()).as_str(),
        "tenant_id": link.tenant,
        "created_at": link.created_at.to_rfc3339(),
        "expires_at": link.expires_at.to_rfc3339(),
        "uses": link.uses,
        "uses_allowed": link.uses_allowed,
        "revoked_at": link.revoked_at.map(|at| at.to_rfc3339()),
    })
}

async fn log(global: &Global, config: &Config, tenant: Option<TenantId>, limit: u32) -> Result<(), Failure> {
    let ledger = store::open_ledger_read_only(config)?;
    let entries = ledger.consents(tenant, limit).await.map_err(store::ledger_failure)?;
    if global.json {
        let entries = entries.iter().map(|entry| {
            json!({
                "at": entry.at.to_rfc3339(),
                "tenant_id": entry.tenant,
                "number": entry.invitation.0,
                "label": entry.label,
                "account": entry.account,
                "outcome": entry.acceptance.as_str(),
            })
        });
        return present::print_json(&entries.collect());
    }
    let rows = entries
        .into_iter()
        .map(|entry| {
            vec![
                entry.at.format("%Y-%m-%d %H:%M:%SZ").to_string(),
                entry.tenant.to_string(),
                entry.account.unwrap_or_default(),
                entry.invitation.0.to_string(),
                entry.label,
                entry.acceptance.as_str().to_owned(),
            ]
        })
        .collect();
    present::print(&present::table(&["when", "tenant", "account", "link", "label", "outcome"], &["link"], rows))
}

async fn revoke(global: &Global, config: &Config, number: u64) -> Result<(), Failure> {
    let ledger = store::open_ledger(config)?;
    let revoked =
        ledger.revoke_invitation(InvitationNumber(number), store::now()).await.map_err(store::ledger_failure)?;
    if !revoked {
        return Err(Failure::new(
            Code::Usage,
            format!("link {number} is not known here: `tenantry consent-link list` shows those that are"),
        ));
    }
    if global.json {
        return present::print_json(&json!({ "number": number, "revoked": true }));
    }
    present::print(&format!("link {number} is revoked; what it connected stays connected"))
}
