//! Signing in and consenting: the pages, the scripted answers, and what comes back to the reply URL.

use http::StatusCode;

use super::*;
use crate::entra::directory::{DeclineForm, Interaction};

pub(super) const ADMIN: &str = "admin@fabrikam.example";
pub(super) const USER: &str = "user@fabrikam.example";

fn query(parameters: &[(&str, &str)]) -> String {
    url::form_urlencoded::Serializer::new(String::new()).extend_pairs(parameters).finish()
}

/// The seed's consent link at v1, with `change` applied.
pub(super) fn v1_authorize(segment: &str, change: &[(&str, &str)]) -> String {
    let parameters = [
        ("response_type", "code"),
        ("resource", MANAGE),
        ("client_id", CLIENT),
        ("redirect_uri", REDIRECT),
        ("state", "opaque state & more"),
    ];
    format!("/{segment}/oauth2/authorize?{}", query(&changed(&parameters, change)))
}

pub(super) fn v2_authorize(segment: &str, change: &[(&str, &str)]) -> String {
    let parameters = [
        ("response_type", "code"),
        ("scope", "openid profile"),
        ("client_id", CLIENT),
        ("redirect_uri", REDIRECT),
        ("state", "opaque state & more"),
    ];
    format!("/{segment}/oauth2/v2.0/authorize?{}", query(&changed(&parameters, change)))
}

fn admin_consent(segment: &str, change: &[(&str, &str)]) -> String {
    let parameters = [("client_id", CLIENT), ("redirect_uri", REDIRECT), ("state", "s1")];
    format!("/{segment}/adminconsent?{}", query(&changed(&parameters, change)))
}

/// Follows the pages as a browser does: posts each page's form with the button of this value.
async fn click(service: &Service, path: &str, page: &Answer, value: &str) -> Answer {
    assert_eq!(page.status, StatusCode::OK, "{page:?}");
    let pressed = format!("value=\"{value}\"");
    let is_pressed = |form: &&str| form.split("<button").skip(1).any(|button| button.contains(&pressed));
    let form = page.body.split("<form ").skip(1).find(is_pressed).unwrap();
    let action = between(form, "action=\"", "\"").replace("&amp;", "&");
    let button = form.split("<button").skip(1).find(|button| button.contains(&pressed)).unwrap();
    let name = between(button, "name=\"", "\"");
    let mut fields = vec![(name.to_owned(), value.to_owned())];
    for hidden in form.split("<input type=\"hidden\"").skip(1) {
        fields.push((between(hidden, "name=\"", "\"").to_owned(), between(hidden, "value=\"", "\"").to_owned()));
    }
    let form: Vec<_> = fields.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let path = path.split('?').next().unwrap();
    service.post(&format!("{path}{action}"), &form).await
}

#[track_caller]
fn between<'a>(text: &'a str, before: &str, after: &str) -> &'a str {
    let rest = text.split_once(before).unwrap_or_else(|| panic!("no {before} in {text}")).1;
    rest.split_once(after).unwrap().0
}

#[tokio::test]
async fn a_person_picks_an_account_accepts_and_the_app_is_installed() {
    let service = Service::new();
    let path = v1_authorize("common", &[("prompt", "admin_consent")]);
    let accounts = service.get(&path).await;
    for upn in ["admin@contoso.example", USER, ADMIN] {
        assert!(accounts.body.contains(upn), "{upn}");
    }
    assert!(!accounts.body.contains("gone.example"));
    let consent = click(&service, &path, &accounts, ADMIN).await;
    for text in
        ["Read activity data for your organization", "ActivityFeed.ReadDlp", "Fabrikam &lt;Ltd&gt;", "Audit &lt;"]
    {
        assert!(consent.body.contains(text), "{text}");
    }
    let accepted = click(&service, &path, &consent, "accept").await;
    let (to, answer) = accepted.redirect();
    assert_eq!(to, REDIRECT);
    assert_eq!(answer["state"], "opaque state & more");
    assert_eq!(answer["admin_consent"], "True");
    assert!(answer.contains_key("code") && answer.contains_key("session_state"));
    let principal = service.world.service_principal(fabrikam(), client()).unwrap();
    assert_eq!(principal.roles, ["ActivityFeed.Read", "ActivityFeed.ReadDlp"]);
    assert_eq!(service.v1(FABRIKAM, &[]).await.status, StatusCode::OK);
}

#[tokio::test]
async fn pages_load_nothing_and_run_nothing() {
    let service = Service::new();
    let page = service.get(&v1_authorize("common", &[])).await;
    let policy = page.header("content-security-policy");
    assert!(policy.starts_with("default-src 'none'; style-src 'sha256-"), "{policy}");
    assert!(!policy.contains("script-src") && !policy.contains("unsafe"), "{policy}");
    assert_eq!(page.header("x-frame-options"), "DENY");
    assert_eq!(page.header("cache-control"), "no-store, no-cache");
    for outside in ["http://", "src=", "@import", "url("] {
        assert!(!page.body.contains(outside), "{outside}");
    }
}

#[tokio::test]
async fn what_the_query_says_cannot_leave_its_attribute() {
    let service = Service::new();
    let page = service.get(&v1_authorize("common", &[("state", "\"><script>alert(1)</script>")])).await;
    assert_eq!(page.status, StatusCode::OK);
    assert!(!page.body.contains("<script"), "{}", page.body);
    let wrong = service.get(&v1_authorize("common", &[("redirect_uri", "https://x/<script>")])).await;
    assert_eq!(wrong.status, StatusCode::BAD_REQUEST);
    assert!(!wrong.body.contains("<script"), "{}", wrong.body);
}

#[tokio::test]
async fn cancel_comes_back_as_access_denied_with_subcode() {
    let service = Service::new();
    let path = v1_authorize("common", &[]);
    let accounts = service.get(&path).await;
    let first = click(&service, &path, &accounts, "cancel").await;
    let consent = click(&service, &path, &accounts, ADMIN).await;
    let second = click(&service, &path, &consent, "cancel").await;
    for (to, answer) in [first.redirect(), second.redirect()] {
        assert_eq!(to, REDIRECT);
        assert_eq!((answer["error"].as_str(), answer["error_subcode"].as_str()), ("access_denied", "cancel"));
        assert!(answer["error_description"].starts_with("AADSTS65004: "), "{answer:?}");
        assert!(answer["error_description"].contains("\r\nTrace ID: "));
        assert_eq!(answer["state"], "opaque state & more");
        assert!(!answer.contains_key("code"));
    }
    assert!(service.world.service_principal(fabrikam(), client()).is_none());
}

#[tokio::test]
async fn an_ordinary_user_cannot_consent_to_application_permissions() {
    let service = Service::new();
    let path = v1_authorize("common", &[("login_hint", USER)]);
    let page = service.get(&path).await;
    assert!(page.body.contains("Need admin approval"), "{}", page.body);
    let accounts = click(&service, &path, &page, "1").await;
    assert!(accounts.body.contains("Pick an account"));
    let path = format!("{path}&emulator_decision=accept");
    let (_, answer) = service.get(&path).await.redirect();
    assert_eq!(answer["error"], "access_denied");
    assert!(answer["error_description"].starts_with("AADSTS90094: "));
    assert!(service.world.service_principal(fabrikam(), client()).is_none());
}

#[tokio::test]
async fn signing_in_at_v2_grants_no_roles() {
    let service = Service::new();
    let path = v2_authorize("organizations", &[("emulator_account", USER), ("emulator_decision", "accept")]);
    assert!(service.get(&path).await.redirect().1.contains_key("code"));
    assert!(service.world.service_principal(fabrikam(), client()).unwrap().roles.is_empty());
    let answer = service.v1(FABRIKAM, &[]).await;
    assert!(answer.claims().get("roles").is_none());
    let again = service.get(&v2_authorize("organizations", &[("emulator_account", USER)])).await;
    assert!(again.redirect().1.contains_key("code"), "what is granted is not asked again");
    let asked = service.get(&v2_authorize("organizations", &[("login_hint", USER), ("prompt", "consent")])).await;
    assert!(asked.body.contains("Permissions requested"));
}

#[tokio::test]
async fn errors_about_client_or_reply_url_stay_on_the_page() {
    let service = Service::new();
    let stranger = "11111111-2222-3333-4444-555555555555";
    let cases = [
        ("common", vec![("redirect_uri", "https://evil.example/")], 50011),
        ("common", vec![("redirect_uri", "https://collector.example/consent/callback/")], 50011),
        ("common", vec![("redirect_uri", "https://collector.example/consent")], 50011),
        ("common", vec![("client_id", stranger)], 700_016),
        ("common", vec![("client_id", "")], 900_144),
        (DELETED, vec![], 90002),
    ];
    for (segment, change, code) in cases {
        for path in [v1_authorize(segment, &change), v2_authorize(segment, &change)] {
            let answer = service.get(&path).await;
            assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{path}");
            assert!(answer.body.contains(&format!("AADSTS{code}: ")), "{path}: {}", answer.body);
        }
    }
    service.apps.update(client(), |app| app.multitenant = false);
    let answer = service.get(&v1_authorize("common", &[])).await;
    assert!(answer.body.contains("AADSTS50194: "), "{}", answer.body);
    assert!(service.get(&v1_authorize(FABRIKAM, &[])).await.body.contains("AADSTS700016: "));
    assert_eq!(service.get(&v1_authorize(CONTOSO, &[])).await.status, StatusCode::OK);
}

#[tokio::test]
async fn a_loopback_reply_url_may_have_any_port() {
    let service = Service::new();
    service.apps.update(client(), |app| app.redirect_uris.push("http://localhost/back".to_owned()));
    let status = async |uri: &str| service.get(&v1_authorize("common", &[("redirect_uri", uri)])).await.status;
    assert_eq!(status("http://localhost:49152/back").await, StatusCode::OK);
    for uri in ["https://localhost:49152/back", "http://localhost:1/other", "http://localhost.example/back"] {
        assert_eq!(status(uri).await, StatusCode::BAD_REQUEST, "{uri}");
    }
}

#[tokio::test]
async fn other_errors_go_to_the_reply_url() {
    let service = Service::new();
    let short = "a".repeat(42);
    let long = "a".repeat(129);
    let v1 = [
        (vec![("response_type", "")], "invalid_request", 900_144),
        (vec![("response_type", "token")], "unsupported_response_type", 70005),
        (vec![("response_mode", "pigeon")], "invalid_request", 70007),
        (vec![("resource", "https://example.com")], "invalid_resource", 500_011),
        (vec![("code_challenge", short.as_str())], "invalid_request", 501_491),
        (vec![("code_challenge", long.as_str())], "invalid_request", 501_491),
        (vec![("code_challenge_method", "S256")], "invalid_request", 50147),
        (vec![("prompt", "none")], "login_required", 50058),
        (vec![("prompt", "nonsense")], "invalid_request", 90023),
    ];
    for (change, error, code) in v1 {
        let (to, answer) = service.get(&v1_authorize("common", &change)).await.redirect();
        assert_eq!((to.as_str(), answer["error"].as_str()), (REDIRECT, error), "{change:?}");
        assert!(answer["error_description"].starts_with(&format!("AADSTS{code}: ")), "{answer:?}");
        assert_eq!(answer["state"], "opaque state & more");
    }
    let v2 = [
        (vec![("resource", MANAGE)], 901_002),
        (vec![("scope", "")], 900_144),
        (vec![("scope", "https://manage.office.com/.default https://graph.microsoft.com/User.Read")], 28000),
        (vec![("prompt", "admin_consent")], 90023),
        (vec![("response_type", "id_token"), ("response_mode", "form_post")], 900_144),
        (vec![("response_type", "id_token"), ("response_mode", "query"), ("nonce", "n")], 70007),
    ];
    for (change, code) in v2 {
        let answer = service.get(&v2_authorize("common", &change)).await;
        let text = if answer.status == StatusCode::FOUND {
            answer.redirect().1["error_description"].clone()
        } else {
            answer.body.clone()
        };
        assert!(text.contains(&format!("AADSTS{code}: ")), "{change:?}: {text}");
    }
}

#[tokio::test]
async fn form_post_delivers_in_a_form_that_submits_itself() {
    let service = Service::new();
    let change = [
        ("response_mode", "form_post"),
        ("emulator_account", ADMIN),
        ("emulator_decision", "accept"),
        ("state", "a\"b"),
    ];
    let page = service.get(&v1_authorize("common", &change)).await;
    assert_eq!(page.status, StatusCode::OK);
    assert_eq!(between(&page.body, "<form method=\"post\" action=\"", "\""), REDIRECT);
    assert!(page.body.contains("name=\"code\" value=\"0.AX"));
    assert!(page.body.contains("name=\"state\" value=\"a&quot;b\""));
    assert!(page.header("content-security-policy").contains("script-src 'sha256-"));
}

#[tokio::test]
async fn an_account_of_another_directory_is_refused() {
    let service = Service::new();
    for path in
        [v1_authorize(CONTOSO, &[("login_hint", ADMIN)]), admin_consent(CONTOSO, &[("emulator_account", ADMIN)])]
    {
        let (_, answer) = service.get(&path).await.redirect();
        assert_eq!(answer["error"], "access_denied");
        assert!(answer["error_description"].starts_with("AADSTS50020: "), "{answer:?}");
    }
    let unknown = service.get(&v1_authorize("common", &[("emulator_account", "nobody@fabrikam.example")])).await;
    assert!(unknown.body.contains("does not exist in any directory"), "{}", unknown.body);
}

#[tokio::test]
async fn admin_consent_names_the_tenant_and_grants_the_static_list() {
    let service = Service::new();
    let scripted = [("emulator_account", ADMIN), ("emulator_decision", "accept")];
    for segment in [FABRIKAM, "common", "organizations"] {
        service.uninstall(fabrikam());
        let (to, answer) = service.get(&admin_consent(segment, &scripted)).await.redirect();
        assert_eq!(to, REDIRECT);
        let mut names: Vec<_> = answer.keys().map(String::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, ["admin_consent", "state", "tenant"]);
        assert_eq!((answer["tenant"].as_str(), answer["admin_consent"].as_str()), (FABRIKAM, "True"));
        let principal = service.world.service_principal(fabrikam(), client()).unwrap();
        assert_eq!(principal.roles, ["ActivityFeed.Read", "ActivityFeed.ReadDlp"]);
    }
    let page = service.get(&admin_consent(FABRIKAM, &[("emulator_account", ADMIN)])).await;
    assert!(page.body.contains("review for your organization"), "granted or not, it asks");
}

#[tokio::test]
async fn v2_admin_consent_wants_a_scope_and_no_common() {
    let service = Service::new();
    let path = |segment: &str, change: &[(&str, &str)]| {
        let scripted = [
            ("scope", "https://manage.office.com/.default"),
            ("emulator_account", ADMIN),
            ("emulator_decision", "accept"),
        ];
        admin_consent(&format!("{segment}/v2.0"), &changed(&scripted, change))
    };
    let (_, answer) = service.get(&path("organizations", &[])).await.redirect();
    assert_eq!(answer["scope"], "https://manage.office.com/.default");
    assert_eq!((answer["tenant"].as_str(), answer["admin_consent"].as_str()), (FABRIKAM, "True"));
    assert_eq!(service.world.service_principal(fabrikam(), client()).unwrap().roles.len(), 2);

    service.uninstall(fabrikam());
    let delegated = [("scope", "https://graph.microsoft.com/User.Read")];
    service.get(&path(FABRIKAM, &delegated)).await.redirect();
    let principal = service.world.service_principal(fabrikam(), client()).unwrap();
    assert_eq!((principal.roles.len(), principal.scopes), (0, vec!["User.Read".to_owned()]));

    for (segment, change, missing) in
        [("common", [("state", "s1")], "response_type"), (FABRIKAM, [("scope", "")], "scope")]
    {
        let (_, answer) = service.get(&path(segment, &change)).await.redirect();
        assert_eq!(answer["error"], "invalid_request");
        assert!(
            answer["error_description"]
                .contains(&format!("AADSTS900144: The request body must contain the following parameter: '{missing}'"))
        );
    }
}

#[tokio::test]
async fn a_declined_admin_consent_says_so_in_one_of_two_ways() {
    let service = Service::new();
    let decline =
        [("emulator_account", ADMIN), ("emulator_decision", "cancel"), ("scope", "https://manage.office.com/.default")];
    let v1 = admin_consent(FABRIKAM, &decline);
    let v2 = admin_consent(&format!("{FABRIKAM}/v2.0"), &decline);
    for path in [&v1, &v2] {
        let (_, answer) = service.get(path).await.redirect();
        assert_eq!((answer["error"].as_str(), answer["admin_consent"].as_str()), ("access_denied", "True"));
        assert!(answer["error_description"].starts_with("AADSTS65004: "));
        assert_eq!(answer["error_uri"], "https://login.microsoftonline.com/error?code=65004");
        assert_eq!(answer["state"], "s1");
        assert!(!answer.contains_key("tenant"));
    }
    service.policy(|policy| policy.decline_form = DeclineForm::Documented);
    let (_, answer) = service.get(&v1).await.redirect();
    assert_eq!(answer["error"], "permission_denied");
    assert!(!answer.contains_key("admin_consent") && !answer.contains_key("tenant"));
    let (_, answer) = service.get(&v2).await.redirect();
    assert_eq!((answer["error"].as_str(), answer["admin_consent"].as_str()), ("consent_required", "True"));
}

#[tokio::test]
async fn the_policy_can_answer_for_the_person() {
    let service = Service::new();
    let ask = async |policy: Interaction, path: String| {
        service.policy(|switches| switches.interaction = policy);
        service.get(&path).await.redirect().1
    };
    let accepted = ask(Interaction::Accept, admin_consent(FABRIKAM, &[])).await;
    assert_eq!(accepted["tenant"], FABRIKAM);
    let hinted = [("domain_hint", "fabrikam.example")];
    assert_eq!(ask(Interaction::Accept, admin_consent("common", &hinted)).await["tenant"], FABRIKAM);
    assert_eq!(ask(Interaction::Accept, admin_consent("common", &[])).await["tenant"], CONTOSO);
    assert_eq!(ask(Interaction::Decline, admin_consent(FABRIKAM, &[])).await["error"], "access_denied");
    let wrong = ask(Interaction::WrongUser, admin_consent(FABRIKAM, &[])).await;
    assert!(wrong["error_description"].starts_with("AADSTS50020: "));
    assert!(ask(Interaction::Accept, v1_authorize(FABRIKAM, &[])).await.contains_key("code"));
}

#[tokio::test]
async fn any_error_can_be_had_at_the_sign_in_endpoints_too() {
    let service = Service::new();
    service.fail(EntraFailure::Aadsts(650_052));
    for path in [v1_authorize(FABRIKAM, &[]), admin_consent(FABRIKAM, &[])] {
        let (_, answer) = service.get(&path).await.redirect();
        assert!(answer["error_description"].starts_with("AADSTS650052: "));
    }
    service.fail(EntraFailure::Aadsts(50011));
    assert_eq!(service.get(&v1_authorize(FABRIKAM, &[])).await.status, StatusCode::BAD_REQUEST);
    service.fail(EntraFailure::Status(502));
    assert_eq!(service.get(&v1_authorize(FABRIKAM, &[])).await.status, StatusCode::BAD_GATEWAY);
}

#[tokio::test]
async fn the_error_page_explains_a_number() {
    let service = Service::new();
    let page = service.get("/error?code=7000215").await;
    assert!(page.body.contains("Invalid client secret provided"), "{}", page.body);
    assert_eq!(service.get("/error?code=%3Cscript%3E").await.status, StatusCode::OK);
}
