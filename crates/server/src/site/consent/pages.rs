//! What the customer's admin reads. Every way a consent can end has a page that says what happened and what to do next.
//!
//! Never repeats what came with the address: headings and sentences are ours, and of an error there are only numbers.

use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use engine::consent::{Standing, TenantRefusal};
use protocol::consent::{CallbackFault, ConsentFault, Mender};
use protocol::entra::EntraError;
use protocol::ids::TenantId;

use super::html::Html;

/// How a consent ended without a tenant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending {
    /// The address has no link's secret, or one that nobody was given.
    UnknownLink,
    /// The invitation is over.
    Link(Standing),
    /// What came back is not of the form that Microsoft sends.
    Malformed(CallbackFault),
    /// What came back is of no flow: never begun, over, or taken before.
    UnknownFlow,
    /// Another browser began it.
    OtherBrowser,
    /// What came back does not answer what was asked.
    WrongAnswer,
    /// The tenant that signed in is not the one that was named.
    OtherTenant,
    /// The operator's rules say no.
    Refused(TenantRefusal),
    /// Microsoft said no, or could not be asked.
    Microsoft(ConsentFault),
    /// Too many people at once.
    Crowded,
    /// The ledger does not answer.
    Unwell,
    /// There is no visit of this browser.
    NoVisit,
}

impl Ending {
    /// The word for logs.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::UnknownLink => "unknown_link",
            Self::Link(Standing::Open) => "link",
            Self::Link(standing) => standing.as_str(),
            Self::Malformed(CallbackFault::NoState) => "state_missing",
            Self::Malformed(_) => "malformed",
            Self::UnknownFlow => "unknown_flow",
            Self::OtherBrowser => "other_browser",
            Self::WrongAnswer => "wrong_answer",
            Self::OtherTenant => "other_tenant",
            Self::Refused(refusal) => refusal.as_str(),
            Self::Microsoft(fault) => fault.as_str(),
            Self::Crowded => "crowded",
            Self::Unwell => "unwell",
            Self::NoVisit => "no_visit",
        }
    }

    fn status(self) -> StatusCode {
        match self {
            Self::UnknownLink | Self::NoVisit => StatusCode::NOT_FOUND,
            Self::Link(_) => StatusCode::GONE,
            Self::Malformed(_) | Self::WrongAnswer => StatusCode::BAD_REQUEST,
            Self::UnknownFlow | Self::OtherBrowser => StatusCode::CONFLICT,
            Self::OtherTenant | Self::Refused(_) => StatusCode::FORBIDDEN,
            Self::Microsoft(fault) => match fault.mender() {
                Mender::Customer => StatusCode::FORBIDDEN,
                Mender::Sender => StatusCode::BAD_GATEWAY,
                Mender::Nobody => StatusCode::SERVICE_UNAVAILABLE,
            },
            Self::Crowded | Self::Unwell => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    fn texts(self) -> [&'static str; 3] {
        match self {
            Self::UnknownLink => [
                "This link is not known",
                "The address is incomplete or mistyped, or the link was never given out by this service.",
                "Open the link from the message you got, as a whole. If it still ends here, ask whoever sent it for a new one.",
            ],
            Self::Link(Standing::Revoked) => [
                "This link has been withdrawn",
                "Whoever sent you the link has taken it back.",
                "Ask whoever sent it whether a new one is on its way.",
            ],
            Self::Link(Standing::UsedUp) => [
                "This link has been used",
                "It has connected as many organizations as it was made for. What it connected stays connected.",
                "If your organization is connected, there is nothing to do. If not, ask whoever sent the link for a new one.",
            ],
            Self::Link(Standing::Expired | Standing::Open) => [
                "This link has expired",
                "Links are good for a limited time only, and this one's is over. Nothing was connected.",
                "Ask whoever sent it for a new one.",
            ],
            Self::Malformed(CallbackFault::NoState) | Self::UnknownFlow => [
                "This answer belongs to no attempt of yours",
                "It was used already, took too long, or was not begun here. Nothing was connected by it.",
                "Open the link you were sent again and go through the steps without a long pause.",
            ],
            Self::OtherBrowser => [
                "This was begun in another browser",
                "For your safety, a connection must end in the browser it was begun in, with cookies allowed. Nothing was \
                 connected.",
                "Open the link you were sent in this browser and go through all the steps here.",
            ],
            Self::Malformed(_) | Self::WrongAnswer => [
                "This answer cannot be read",
                "It is not in the form that Microsoft sends. Nothing was connected.",
                "Open the link you were sent again. If it ends here once more, tell whoever sent it.",
            ],
            Self::OtherTenant => [
                "You signed in to another organization",
                "The organization that was named and the one you signed in to are not the same. Nothing was connected.",
                "Open the link again in a private window, and use the same administrator's account in every step.",
            ],
            Self::Refused(TenantRefusal::NotInvited) => [
                "This link is for another organization",
                "It was made for one organization, and you signed in to a different one. Nothing was connected.",
                "Open the link again in a private window and sign in with an administrator's account of the organization it \
                 is meant for, or ask whoever sent it for one of your own.",
            ],
            Self::Refused(TenantRefusal::NotAllowed) => [
                "This organization is not on the list",
                "This service connects certain organizations only, and yours is not among them. Nothing was connected.",
                "Tell whoever sent you the link your organization's tenant id, so that they can add it.",
            ],
            Self::Refused(TenantRefusal::NotAnAdmin) => [
                "An administrator is needed",
                "The permission is for your whole organization, and your account has no role that may give it. Nothing was \
                 connected.",
                "Send the link to an administrator of your organization (a Global Administrator, for example), or open it \
                 again and sign in with an administrator's account. If you may consent by a role that your organization has \
                 made itself, ask whoever sent the link for one that is made for your organization.",
            ],
            Self::Refused(TenantRefusal::RoleUntold) => [
                "Your role could not be seen",
                "This service connects an organization only when Microsoft tells it that an administrator has signed in, and \
                 Microsoft told it nothing of your role. There is nothing wrong with your account. Nothing was connected.",
                "Tell whoever sent you the link: the app registration has to ask for directory roles (groupMembershipClaims).",
            ],
            Self::Refused(TenantRefusal::Offboarded) => [
                "Your organization was disconnected before",
                "It was connected once and taken off again, so that a link for anyone cannot bring it back. Nothing was \
                 connected.",
                "Ask whoever sent you the link for one that is made for your organization, with the tenant id below.",
            ],
            Self::Microsoft(fault) => [fault.heading(), fault.explanation(), fault.next_step()],
            Self::Crowded => [
                "Too many people are here at once",
                "So many connections are being made at this moment that yours was not begun.",
                "Open the link again in a minute.",
            ],
            Self::Unwell => [
                "Something is wrong on our side",
                "This service cannot write down anything at the moment. Nothing was connected.",
                "Open the link again in a few minutes. If it ends here once more, tell whoever sent it.",
            ],
            Self::NoVisit => [
                "There is nothing to see here",
                "This page is for the browser that connected the organization, for a day after it did.",
                "If you have just connected an organization, open this page in the same browser.",
            ],
        }
    }

    /// The page, with what support asks for.
    pub(super) fn page(self, error: Option<&EntraError>) -> Response {
        let [heading, explanation, next_step] = self.texts();
        let mut details = Vec::new();
        if let Some(error) = error {
            let number = error.code().map(|code| format!("AADSTS{code}"));
            details.extend(number.map(|number| ("Microsoft's number", number)));
            let id = |text: &Option<String>| text.clone().filter(|text| text.parse::<uuid::Uuid>().is_ok());
            details.extend(id(&error.trace_id).map(|trace| ("Trace id", trace)));
            details.extend(id(&error.correlation_id).map(|correlation| ("Correlation id", correlation)));
        }
        let mut html = Html::default();
        html.element("<h1>", heading, "</h1>")
            .element("<p>", explanation, "</p>")
            .raw("<h2>What to do next</h2>\n")
            .element("<p>", next_step, "</p>");
        if !details.is_empty() {
            html.raw("<h2>For support</h2>\n<dl>\n");
            for (name, value) in details {
                html.raw("<div>")
                    .element("<dt>", name, "</dt>")
                    .element("<dd><code>", value, "</code></dd>")
                    .raw("</div>\n");
            }
            html.raw("</dl>\n");
        }
        (self.status(), axum::response::Html(html.into_page(heading, false))).into_response()
    }
}

/// What the page of a connected organization shows: its own counts and nobody else's.
pub(super) struct Live {
    pub(super) heading: &'static str,
    pub(super) explanation: &'static str,
    /// A word for scripts.
    pub(super) state: &'static str,
    pub(super) now: String,
    pub(super) counts: Option<LiveCounts>,
    pub(super) trouble: Option<String>,
    pub(super) tenant: TenantId,
    /// Whether there is something to come back for.
    pub(super) goes_on: bool,
}

/// The numbers on it.
#[derive(Debug, Clone, Copy)]
pub(super) struct LiveCounts {
    pub(super) records: u64,
    pub(super) pending: u64,
    pub(super) subscriptions: usize,
    pub(super) wanted: usize,
}

impl Live {
    pub(super) fn page(&self) -> Response {
        let mut html = Html::default();
        html.element("<h1>", self.heading, "</h1>")
            .element("<p>", self.explanation, "</p>")
            .raw("<div role=\"status\" aria-live=\"polite\" data-state=\"")
            .text(self.state)
            .raw("\">\n")
            .element("<p>", &self.now, "</p>");
        if let Some(counts) = &self.counts {
            counts.write(&mut html);
        }
        if let Some(trouble) = &self.trouble {
            html.element("<p class=\"trouble\"><strong>In the way:</strong> ", trouble, ".</p>");
        }
        html.raw("</div>\n").element(
            "<p class=\"tenant\">Organization (tenant) id: <code>",
            self.tenant,
            "</code></p>",
        );
        axum::response::Html(html.into_page(self.heading, self.goes_on)).into_response()
    }
}

impl LiveCounts {
    fn write(&self, html: &mut Html) {
        html.raw("<dl class=\"counts\">\n")
            .raw("<div><dt>Audit records stored</dt>")
            .element("<dd data-count=\"records\">", self.records, "</dd></div>")
            .raw("<div><dt>Content types switched on</dt>")
            .element(
                "<dd data-count=\"subscriptions\">",
                format_args!("{} of {}", self.subscriptions, self.wanted),
                "</dd></div>",
            )
            .raw("<div><dt>Audit logs waiting to be read</dt>")
            .element("<dd data-count=\"pending\">", self.pending, "</dd></div>")
            .raw("</dl>\n");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_ending_has_a_word_a_heading_and_a_next_step() {
        let mut endings = vec![
            Ending::UnknownLink,
            Ending::Malformed(CallbackFault::NoState),
            Ending::Malformed(CallbackFault::Repeated),
            Ending::UnknownFlow,
            Ending::OtherBrowser,
            Ending::WrongAnswer,
            Ending::OtherTenant,
            Ending::Crowded,
            Ending::Unwell,
            Ending::NoVisit,
        ];
        endings.extend([Standing::Expired, Standing::UsedUp, Standing::Revoked].map(Ending::Link));
        endings.extend(TenantRefusal::ALL.map(Ending::Refused));
        endings.extend(ConsentFault::ALL.map(Ending::Microsoft));
        for ending in endings {
            let [heading, explanation, next_step] = ending.texts();
            assert!(!heading.is_empty() && !heading.ends_with('.'), "{ending:?}");
            assert!(explanation.ends_with('.') && next_step.ends_with('.'), "{ending:?}");
            assert!(ending.status().is_client_error() || ending.status().is_server_error(), "{ending:?}");
            assert!(!ending.word().is_empty());
        }
    }
}
