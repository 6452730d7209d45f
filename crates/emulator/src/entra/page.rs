//! The pages a person sees: choose an account, accept or cancel, an error, and the form that posts an answer back.
//!
//! Never loads anything: no script but the one line that submits a `form_post` answer, no image, no font, one style
//! sheet in the page. Everything printed goes through [`escape`].

use axum::extract::{Query, Request, State};
use axum::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::StatusCode;
use std::collections::HashMap;

use crate::app::{AppRegistration, sha256};
use crate::entra::EntraState;
use crate::entra::errors::{EntraError, row};
use crate::entra::form::Form;
use crate::entra::interaction::Person;
use crate::entra::reply::Call;
use crate::entra::resource::describe_permission;

const STYLE: &str = "\
:root{color-scheme:light dark}\
body{font:1rem/1.5 system-ui,sans-serif;margin:0;background:Canvas;color:CanvasText}\
main{max-width:34rem;margin:2rem auto;padding:1.5rem;border:1px solid GrayText;border-radius:.5rem}\
h1{font-size:1.4rem;margin:.2rem 0 1rem}\
ul{padding:0;list-style:none}li{margin:.4rem 0}\
.facts li{list-style:disc;margin-left:1.2rem}\
button,input{font:inherit;padding:.6rem 1rem;border-radius:.3rem;border:1px solid GrayText}input{flex:1;min-width:14rem}\
.account{width:100%;text-align:left;cursor:pointer}\
.account small{display:block}\
.row{display:flex;gap:.7rem;flex-wrap:wrap;margin-top:1rem}\
.primary{background:#0b57d0;border-color:#0b57d0;color:#fff}\
.problem{border-left:.3rem solid #b3261e;padding-left:.7rem}\
pre{white-space:pre-wrap;word-break:break-word}\
:focus-visible{outline:3px solid #0b57d0;outline-offset:2px}\
footer{font-size:.85rem;margin-top:1.5rem}";

const SUBMIT: &str = "document.forms[0].submit()";

/// A page ready to be sent.
#[derive(Debug)]
pub(crate) struct Page {
    html: String,
    scripted: bool,
}

/// The account picker.
pub(crate) struct AccountsPage<'a> {
    pub(crate) app: &'a AppRegistration,
    pub(crate) people: &'a [Person],
    pub(crate) problem: Option<&'a str>,
    pub(crate) form: &'a Form,
}

/// The consent page.
pub(crate) struct ConsentPage<'a> {
    pub(crate) app: &'a AppRegistration,
    pub(crate) person: &'a Person,
    pub(crate) roles: &'a [String],
    pub(crate) scopes: &'a [String],
    pub(crate) for_organization: bool,
    pub(crate) redirect_uri: &'a str,
    pub(crate) form: &'a Form,
}

impl Page {
    fn new(title: &str, body: &str) -> Self {
        let html = format!(
            "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
             <title>{title}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<main>\n<h1>{title}</h1>\n{body}\
             <footer>Emulated sign-in: choosing an account is enough, no password is asked for.</footer>\n\
             </main>\n</body>\n</html>\n",
            title = escape(title)
        );
        Self { html, scripted: false }
    }

    pub(crate) fn accounts(page: &AccountsPage<'_>) -> Self {
        let action = action(page.form);
        let mut body = String::new();
        if let Some(problem) = page.problem {
            body += &format!("<p class=\"problem\" role=\"alert\">{}</p>\n", escape(problem));
        }
        body += &format!("<p>to continue to <strong>{}</strong></p>\n", escape(&page.app.display_name));
        body += &format!("<form method=\"post\" action=\"{action}\">\n<ul>\n");
        for person in page.people {
            let role = if person.account.admin { "global administrator" } else { "ordinary user" };
            body += &format!(
                "<li><button class=\"account\" name=\"emulator_account\" value=\"{upn}\">{upn}\
                 <small>{role} of {tenant}</small></button></li>\n",
                upn = escape(&person.account.upn),
                tenant = escape(&person.tenant.display_name)
            );
        }
        body += "</ul>\n</form>\n";
        body += &format!(
            "<form method=\"post\" action=\"{action}\">\n<p><label for=\"other\">Another account</label></p>\n\
             <div class=\"row\"><input id=\"other\" name=\"emulator_account\" type=\"email\" required \
             autocomplete=\"off\" placeholder=\"admin@contoso.example\"><button>Next</button></div>\n</form>\n\
             <form method=\"post\" action=\"{action}\"><div class=\"row\">\
             <button name=\"emulator_decision\" value=\"cancel\">Cancel</button></div></form>\n"
        );
        Self::new("Pick an account", &body)
    }

    pub(crate) fn consent(page: &ConsentPage<'_>) -> Self {
        let mut body = format!(
            "<p>{upn}<br><small>{tenant} ({id})</small></p>\n<p><strong>{app}</strong> would like to:</p>\n\
             <ul class=\"facts\">\n",
            upn = escape(&page.person.account.upn),
            tenant = escape(&page.person.tenant.display_name),
            id = page.person.tenant.id,
            app = escape(&page.app.display_name)
        );
        for (name, kind) in page
            .roles
            .iter()
            .map(|name| (name, "application"))
            .chain(page.scopes.iter().map(|name| (name, "delegated")))
        {
            body += &format!(
                "<li>{} <small>({kind} permission <code>{}</code>)</small></li>\n",
                escape(describe_permission(name)),
                escape(name)
            );
        }
        body += "</ul>\n";
        if page.for_organization {
            body += "<p>If you accept, this app will get access to the specified resources for all users in your \
                     organization. No one else will be prompted to review these permissions.</p>\n";
        }
        body += &format!(
            "<p><small>App id {client}. You will be taken to {uri}.</small></p>\n\
             <form method=\"post\" action=\"{action}\">\n\
             <input type=\"hidden\" name=\"emulator_account\" value=\"{upn}\">\n<div class=\"row\">\n\
             <button name=\"emulator_decision\" value=\"cancel\">Cancel</button>\n\
             <button class=\"primary\" name=\"emulator_decision\" value=\"accept\">Accept</button>\n</div>\n</form>\n",
            client = page.app.client_id,
            uri = escape(page.redirect_uri),
            action = action(page.form),
            upn = escape(&page.person.account.upn)
        );
        let title = if page.for_organization {
            "Permissions requested: review for your organization"
        } else {
            "Permissions requested"
        };
        Self::new(title, &body)
    }

    pub(crate) fn needs_admin(app: &AppRegistration, person: &Person, form: &Form) -> Self {
        let body = format!(
            "<p>{upn}</p>\n<p><strong>{app}</strong> needs permission to access resources in your organization that only \
             an admin can grant. Please ask an admin to grant permission to this app before you can use it.</p>\n\
             <form method=\"post\" action=\"{action}\">\n<div class=\"row\">\n\
             <button name=\"emulator_choose\" value=\"1\">Have an admin account? Sign in with that account</button>\n\
             </div></form>\n<form method=\"post\" action=\"{action}\">\n\
             <input type=\"hidden\" name=\"emulator_account\" value=\"{upn}\">\n<div class=\"row\">\n\
             <button name=\"emulator_decision\" value=\"cancel\">Return to the application without granting \
             consent</button>\n</div>\n</form>\n",
            upn = escape(&person.account.upn),
            app = escape(&app.display_name),
            action = action(form)
        );
        Self::new("Need admin approval", &body)
    }

    pub(crate) fn respond(self, call: &Call, status: StatusCode) -> Response {
        let source = |text: &str| format!("'sha256-{}'", STANDARD.encode(sha256(text.as_bytes())));
        let script = if self.scripted { format!("; script-src {}", source(SUBMIT)) } else { String::new() };
        // No form-action: browsers apply it to the redirect that follows a form as well, which leads to the app.
        let policy =
            format!("default-src 'none'; style-src {}; base-uri 'none'; frame-ancestors 'none'{script}", source(STYLE));
        call.page(status, self.html, &policy)
    }
}

/// An error that is shown here and told to nobody else.
pub(crate) fn error(call: &Call, error: &EntraError) -> Response {
    let body = format!(
        "<p>Sorry, but we're having trouble signing you in.</p>\n<pre class=\"problem\">{}</pre>\n",
        escape(&call.describe(error).replace('\r', ""))
    );
    Page::new("Sign in", &body).respond(call, StatusCode::BAD_REQUEST)
}

/// `response_mode=form_post`: the answer as a form that posts itself, with a button for browsers without script.
pub(crate) fn form_post(call: &Call, redirect_uri: &str, answer: &[(&str, String)]) -> Response {
    let mut body = format!("<form method=\"post\" action=\"{}\">\n", escape(redirect_uri));
    for (name, value) in answer {
        body += &format!("<input type=\"hidden\" name=\"{}\" value=\"{}\">\n", escape(name), escape(value));
    }
    body += &format!("<button class=\"primary\">Continue</button>\n</form>\n<script>{SUBMIT}</script>\n");
    let mut page = Page::new("Working…", &body);
    page.scripted = true;
    page.respond(call, StatusCode::OK)
}

/// The page behind `error_uri`.
pub(crate) async fn error_number(
    State(state): State<EntraState>,
    Query(query): Query<HashMap<String, String>>,
    request: Request,
) -> Response {
    let (parts, _) = request.into_parts();
    let call = state.call(&parts);
    let code = query.get("code").and_then(|code| code.trim_start_matches("AADSTS").parse().ok()).unwrap_or(0);
    let row = row(code);
    let body = format!(
        "<dl><dt>Error code</dt><dd>{}</dd><dt>OAuth error</dt><dd><code>{}</code></dd><dt>Message</dt><dd>{}</dd></dl>\n",
        row.code,
        row.error,
        escape(row.text)
    );
    Page::new("Error", &body).respond(&call, StatusCode::OK)
}

/// There is no session to end; the person is told so, or taken to where the app asked.
pub(crate) async fn signed_out(
    State(state): State<EntraState>,
    Query(query): Query<HashMap<String, String>>,
    request: Request,
) -> Response {
    let (parts, _) = request.into_parts();
    let call = state.call(&parts);
    let registered = |uri: &&String| state.apps().apps().iter().any(|app| app.redirect_uris.contains(*uri));
    match query.get("post_logout_redirect_uri").filter(registered) {
        Some(uri) => call.redirect(uri),
        None => Page::new("You signed out of your account", "").respond(&call, StatusCode::OK),
    }
}

/// The same request again, as a relative URL: the page posts back to where it came from.
fn action(form: &Form) -> String {
    format!("?{}", escape(&form.to_query_without("emulator_")))
}

/// Makes any text safe inside an element or a quoted attribute.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            // A carriage return in an attribute would come back as a line feed.
            '\r' => out.push_str("&#13;"),
            '\n' => out.push_str("&#10;"),
            other => out.push(other),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_printed_can_leave_its_place() {
        assert_eq!(escape(r#"<a href='x' id="y">&"#), "&lt;a href=&#39;x&#39; id=&quot;y&quot;&gt;&amp;");
        assert_eq!(escape("a\r\nb"), "a&#13;&#10;b");
    }
}
