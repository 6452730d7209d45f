//! The steps with Entra ID: each credential's own state, the tenant's cloud, a token by each credential, the roles in it.
//!
//! Never keeps a token longer than the check-up, and never shows one.

use std::time::Duration;

use engine::checkup::{Verdict, judge_expiry};
use engine::problem::ProblemKind;
use protocol::activity::Feed;
use protocol::ids::{ContentType, TenantId};
use protocol::response::Response;
use protocol::time::Timestamp;
use protocol::token::{
    ACTIVITY_FEED_READ, ACTIVITY_FEED_READ_DLP, MAX_TOKEN_BODY, TenantToken, TokenAsk, TokenClaims, TokenError,
    TokenProblem, client_credentials, parse_token,
};
use uuid::Uuid;

use super::report::{Cause, Step};
use super::{App, Surroundings};
use crate::credential::keyring::{Asked, NoProof, prove_once};
use crate::residence::{LookUp, look_up};
use crate::settings::Credential;
use crate::transport::TransportError;

/// The longest time one token request may take.
const REQUEST_TIME: Duration = Duration::from_secs(60);

/// A token that works, and what it says of itself.
pub(super) struct Granted {
    pub(super) token: TenantToken,
    claims: Option<TokenClaims>,
}

/// What a credential says of itself, before anybody is asked.
pub(super) fn credential(name: &str, credential: &Credential, now: Timestamp) -> Step {
    let summary = match credential.describe() {
        Ok(summary) => summary,
        Err(error) => {
            return Step::failed("credential", name, Cause::Configuration, error.to_string())
                .explained("the app cannot prove itself with it", "do what the message says");
        }
    };
    let Some(not_after) = summary.expires else {
        let result = format!("{}, from {}", summary.kind.replace('_', " "), summary.place);
        return Step::ok("credential", name, result).explained("nothing here says when it ends", "");
    };
    let days = (not_after - now).num_days();
    let result = format!("a certificate, valid until {}", not_after.format("%Y-%m-%d %H:%MZ"));
    let mend = "make the next one (`tenantry certificate new --out FILE`), upload it to the app registration, and add it \
                as another [[app.credential]]";
    match judge_expiry(now, not_after) {
        Verdict::Good => Step::ok("credential", name, result),
        Verdict::Doubtful => Step::warning("credential", name, result)
            .explained(format!("in {days} day(s) no tenant can be collected with it any more"), mend),
        Verdict::Bad => Step::failed("credential", name, Cause::Configuration, result)
            .explained("it has ended, and Entra ID refuses it", mend),
    }
}

/// Which cloud the tenant lives in.
pub(super) async fn cloud(around: &Surroundings<'_>, tenant: TenantId) -> Step {
    let name = around.cloud.name();
    let of = tenant.to_string();
    match look_up(around.transport, around.cloud, tenant).await {
        LookUp::Fits(Some(residence)) => Step::ok(
            "cloud",
            of,
            format!("the tenant lives in {}; the configuration is for {}", residence.as_str(), name.as_str()),
        ),
        LookUp::Fits(None) => Step::ok("cloud", of, format!("known to the login authority of {}", name.as_str())),
        LookUp::Elsewhere(residence) => {
            Step::failed("cloud", of, Cause::Refused, format!("the tenant lives in {}", residence.as_str())).explained(
                format!("this configuration is for {}, whose services do not know the tenant", name.as_str()),
                residence.not_in(name),
            )
        }
        LookUp::SomewhereElse(error) => Step::failed("cloud", of, Cause::Refused, error.to_string()).explained(
            format!("the tenant does not live in {}, for which this configuration is", name.as_str()),
            error.remedy(),
        ),
        LookUp::Unknown(error) => Step::failed("cloud", of, Cause::Refused, error.to_string()).explained(
            "the id is mistyped, the tenant was deleted, or it lives in a cloud that could not be asked",
            error.remedy(),
        ),
        LookUp::NotTold(reason) => Step::warning("cloud", of, reason)
            .explained("which cloud the tenant lives in could not be asked", "go by the next steps"),
    }
}

/// A token by each credential; the first that works is given back.
pub(super) async fn tokens(
    around: &Surroundings<'_>,
    app: &App<'_>,
    tenant: TenantId,
    steps: &mut Vec<Step>,
) -> Option<Granted> {
    let mut granted: Option<Granted> = None;
    let mut refused: Vec<Step> = Vec::new();
    for (name, credential) in app.credentials {
        let Some(credential) = credential else {
            refused.push(Step::skipped("token", name, "the credential cannot be read"));
            continue;
        };
        match ask(around, app, tenant, credential).await {
            Ok(token) => {
                steps.push(Step::ok("token", name, "Entra ID gives a token for it"));
                granted.get_or_insert(token);
            }
            Err(step) => refused.push(Step { of: name.clone(), ..step }),
        }
    }
    // What fails beside one that works is a rollover, or one that is left over.
    for mut step in refused {
        if granted.is_some() && step.cause.take().is_some() {
            step = Step { status: super::Status::Warning, ..step };
            step.means.push_str("; another credential works, and is used");
        }
        steps.push(step);
    }
    granted
}

async fn ask(
    around: &Surroundings<'_>,
    app: &App<'_>,
    tenant: TenantId,
    credential: &Credential,
) -> Result<Granted, Step> {
    let ask = TokenAsk { cloud: around.cloud, tenant, client_id: app.client_id, endpoint: app.token_endpoint };
    let now = around.clock.now();
    let asked = Asked { client_id: app.client_id, audience: &ask.token_endpoint(), now };
    let exchange = around.cloud.token_exchange_audience();
    let proof = prove_once(credential, around.transport, exchange, &asked).await.map_err(|reason| match reason {
        NoProof::Unusable { step, reason, .. } => {
            Step::failed("token", "", Cause::Configuration, reason).explained(step.problem(), step.remedy())
        }
        NoProof::Passing { reason } => Step::failed("token", "", Cause::Unreachable, reason).explained(
            "who hands out the app's proof did not answer",
            "see that the managed identity is assigned to this machine",
        ),
    })?;
    let unanswered = |error: TransportError| {
        Step::failed("token", "", Cause::Unreachable, error.to_string())
            .explained("Entra ID did not answer", ProblemKind::Unreachable.remedy())
    };
    let request = client_credentials(&ask, &proof, Uuid::new_v4())
        .into_unauthenticated()
        .map_err(|error| unanswered(TransportError::Request { reason: error.to_string() }))?;
    let (status, headers, body) = around.ask(request, REQUEST_TIME, MAX_TOKEN_BODY).await.map_err(unanswered)?;
    match parse_token(&ask, &Response::new(status, &headers, &body), around.clock.now()) {
        Ok(grant) => Ok(Granted { token: grant.token, claims: grant.claims }),
        Err(error) => Err(refusal(&error)),
    }
}

fn refusal(error: &TokenError) -> Step {
    let kind = ProblemKind::of_token_error(error.disposition());
    let cause = if kind.passes_by_itself() { Cause::Unreachable } else { Cause::Refused };
    Step::failed("token", "", cause, crate::chain(error)).explained(kind.problem(), kind.remedy())
}

/// What the token permits.
pub(super) fn roles(granted: Option<&Granted>, content_types: &[ContentType]) -> Step {
    let Some(granted) = granted else { return Step::skipped("roles", "", "without a token there is nothing to read") };
    let Some(claims) = &granted.claims else {
        return Step::warning("roles", "", "the token does not let itself be read")
            .explained("what was granted is not known", "go by the next steps");
    };
    let result = if claims.roles.is_empty() { "none".to_owned() } else { claims.roles.join(", ") };
    let missing = TokenProblem::PermissionMissing { found: claims.roles.clone() };
    if !claims.has_role(ACTIVITY_FEED_READ) {
        let remedy = missing.admin_step().map_or("", |step| step.remedy());
        return Step::failed("roles", "", Cause::Refused, result)
            .explained("the application permission ActivityFeed.Read is not granted in this tenant", remedy);
    }
    if content_types.contains(&ContentType::DlpAll) && !claims.has_role(ACTIVITY_FEED_READ_DLP) {
        return Step::warning("roles", "", result).explained(
            "DLP.All is collected without its sensitive values, which Microsoft withholds",
            "if they are wanted: add the application permission ActivityFeed.ReadDlp and have a tenant admin consent again",
        );
    }
    Step::ok("roles", "", result)
}

/// Whose feed is asked with the token.
pub(super) fn feed<'a>(around: &Surroundings<'a>, app: &App<'_>, tenant: TenantId) -> Feed<'a> {
    Feed::new(around.cloud, tenant, app.publisher_id)
}
