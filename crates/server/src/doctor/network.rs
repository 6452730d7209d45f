//! The steps on the way out: proxy variables, names, connections, TLS, and the clock of the other side.
//!
//! Never sends a token or a credential, and never shows what a proxy's address may hold of one.

use std::net::SocketAddr;
use std::time::Duration;

use chrono::TimeDelta;
use engine::checkup::{Verdict, clock_ahead, judge_clock};
use http::{Request, Uri};
use hyper_util::client::proxy::matcher::Matcher;
use protocol::response::Response;
use protocol::time::Timestamp;
use tokio::net::{TcpStream, lookup_host};
use url::Url;

use super::report::{Cause, Step};
use crate::clock::Clock;
use crate::transport::{Transport, TransportError, proxy};

/// The longest time one name or one connection may take.
const CONNECT_TIME: Duration = Duration::from_secs(10);

/// A host to be reached, and what it is to us.
pub(super) struct Target<'a> {
    /// Such as `Entra ID`.
    pub(super) role: &'a str,
    /// What is asked for there.
    pub(super) url: Url,
}

/// What a host answered, whatever it was.
pub(super) struct Contact {
    /// Our clock's distance from the server's; `None` without a `Date`.
    pub(super) ahead: Option<TimeDelta>,
}

/// Which hosts go through which proxy.
pub(super) fn proxies(targets: &[Target<'_>]) -> Step {
    let set = proxy::set();
    let matcher = Matcher::from_system();
    let ways: Vec<String> = targets
        .iter()
        .map(|target| match via(&matcher, &target.url) {
            Some((host, port)) => format!("{} through {host}:{port}", host_of(&target.url)),
            None => format!("{} directly", host_of(&target.url)),
        })
        .collect();
    let variables = if set.is_empty() { "no variable set".to_owned() } else { format!("{} set", set.join(", ")) };
    Step::ok("proxy", "", format!("{variables}: {}", ways.join(", ")))
}

/// Goes to a host step by step; `None` when there was no answer.
pub(super) async fn reach(
    transport: &dyn Transport,
    clock: &dyn Clock,
    target: &Target<'_>,
    steps: &mut Vec<Step>,
) -> Option<Contact> {
    let (host, port, role) = match via(&Matcher::from_system(), &target.url) {
        Some((host, port)) => (host, port, format!("the proxy for {}", target.role)),
        None => (host_of(&target.url), target.url.port_or_known_default().unwrap_or(443), target.role.to_owned()),
    };
    let Some(addresses) = resolve(&host, port, &role, steps).await else {
        for step in ["connection", "tls"] {
            steps.push(Step::skipped(step, &host, "the name has no address"));
        }
        return None;
    };
    if !connect(&host, port, &role, &addresses, steps).await {
        steps.push(Step::skipped("tls", host_of(&target.url), "there is no connection"));
        return None;
    }
    exchange(transport, clock, target, steps).await
}

async fn resolve(host: &str, port: u16, role: &str, steps: &mut Vec<Step>) -> Option<Vec<SocketAddr>> {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let found = match tokio::time::timeout(CONNECT_TIME, lookup_host((bare, port))).await {
        Ok(Ok(addresses)) => Ok(addresses.collect::<Vec<_>>()),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err("no answer in time".to_owned()),
    };
    let reason = match found {
        Ok(addresses) if !addresses.is_empty() => {
            let shown: Vec<String> = addresses.iter().take(4).map(|address| address.ip().to_string()).collect();
            steps.push(Step::ok("dns", host, shown.join(", ")));
            return Some(addresses);
        }
        Ok(_) => "no address".to_owned(),
        Err(reason) => reason,
    };
    steps.push(Step::failed("dns", host, Cause::Unreachable, reason).explained(
        format!("the name of {role} has no address here"),
        "check this machine's DNS servers (/etc/resolv.conf), and whether names outside are resolved at all; where only a \
         proxy may go out, set HTTPS_PROXY",
    ));
    None
}

async fn connect(host: &str, port: u16, role: &str, addresses: &[SocketAddr], steps: &mut Vec<Step>) -> bool {
    let mut last = String::new();
    for address in addresses.iter().take(4) {
        match tokio::time::timeout(CONNECT_TIME, TcpStream::connect(address)).await {
            Ok(Ok(_)) => {
                steps.push(Step::ok("connection", host, format!("{address} accepts connections")));
                return true;
            }
            Ok(Err(error)) => last = format!("{address}: {error}"),
            Err(_) => last = format!("{address}: no answer in time"),
        }
    }
    steps.push(Step::failed("connection", host, Cause::Unreachable, last).explained(
        format!("{role} cannot be reached from here"),
        format!(
            "let this machine out to {host}:{port} in the firewall, or set HTTPS_PROXY to a proxy that may go there"
        ),
    ));
    false
}

async fn exchange(
    transport: &dyn Transport,
    clock: &dyn Clock,
    target: &Target<'_>,
    steps: &mut Vec<Step>,
) -> Option<Contact> {
    let host = host_of(&target.url);
    let request = Request::get(target.url.as_str()).body(Vec::new()).ok()?;
    let sent = clock.now();
    match transport.send(request).await {
        Ok(answer) => {
            let received = clock.now();
            if target.url.scheme() == "https" {
                steps.push(Step::ok("tls", host, "the certificate is trusted"));
            } else {
                steps.push(Step::skipped("tls", host, "plain http, as the configuration says"));
            }
            let date = Response::new(answer.status, &answer.headers, &[]).date();
            let ahead = date.map(|date: Timestamp| clock_ahead(sent, received, date));
            Some(Contact { ahead })
        }
        Err(error) => {
            steps.push(no_answer(&host, &error));
            None
        }
    }
}

/// The connection stood a moment ago; so what fails now is TLS, the proxy, or the other side.
fn no_answer(host: &str, error: &TransportError) -> Step {
    let failed = Step::failed("tls", host, Cause::Unreachable, error.to_string());
    let text = error.to_string().to_ascii_lowercase();
    // A CA that bears the name of a trusted one and is not it shows in the signature.
    if ["unknownissuer", "unknown issuer", "badsignature"].iter().any(|word| text.contains(word)) {
        return failed.explained(
            "the certificate is signed by a CA this machine does not trust: mostly a proxy that looks into TLS, or no CA \
             certificates are installed",
            "install the system's CA certificates; where a proxy looks into TLS, add its CA, or point SSL_CERT_FILE to a \
             PEM file with both",
        );
    }
    if text.contains("certificate") {
        return failed.explained(
            "the certificate is not this host's, or outside its validity by this machine's clock",
            "check this machine's clock, and who answers for that name",
        );
    }
    if matches!(error, TransportError::Connect { .. }) {
        return failed.explained(
            "the connection stands and TLS does not come about: mostly a firewall or a proxy in between that refuses",
            "ask whoever runs the firewall or proxy to let this host through",
        );
    }
    failed.explained(
        "the host accepts connections and does not answer",
        "try again; if it stays, look at what is in between",
    )
}

/// This machine's clock against the server's.
pub(super) fn clock(contact: Option<&Contact>, host: &str) -> Step {
    let Some(contact) = contact else {
        return Step::skipped("clock", host, "nobody answered whose clock could be compared");
    };
    let Some(ahead) = contact.ahead else {
        return Step::skipped("clock", host, "the answer does not say what time it is there");
    };
    let seconds = ahead.num_milliseconds().unsigned_abs() as f64 / 1000.0;
    let side = if ahead < TimeDelta::zero() { "behind" } else { "ahead of" };
    let result = format!("this machine's clock is {seconds:.1} s {side} the server's");
    let mend = "set this machine's clock by NTP";
    match judge_clock(ahead) {
        Verdict::Good => Step::ok("clock", host, format!("{result}, within what it takes to measure")),
        Verdict::Doubtful => Step::warning("clock", host, result)
            .explained("it is allowed for, and times in coverage and logs are off by as much", mend),
        Verdict::Bad => Step::failed("clock", host, Cause::Refused, result)
            .explained("assertions and windows are refused as being of another time (AADSTS700024, AF20055)", mend),
    }
}

/// The proxy for a URL: host and port.
fn via(matcher: &Matcher, url: &Url) -> Option<(String, u16)> {
    let uri: Uri = url.as_str().parse().ok()?;
    let proxy = matcher.intercept(&uri)?;
    let default = if proxy.uri().scheme_str() == Some("https") { 443 } else { 80 };
    Some((proxy.uri().host()?.to_owned(), proxy.uri().port_u16().unwrap_or(default)))
}

pub(super) fn host_of(url: &Url) -> String {
    url.host_str().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Status;

    fn contact(milliseconds: i64) -> Contact {
        Contact { ahead: Some(TimeDelta::milliseconds(milliseconds)) }
    }

    #[test]
    fn a_clock_says_by_how_much_and_to_which_side() {
        for (milliseconds, status, words) in [
            (400, Status::Ok, "0.4 s ahead of"),
            (-90_000, Status::Warning, "90.0 s behind"),
            (600_000, Status::Failed, "600.0 s ahead of"),
        ] {
            let step = clock(Some(&contact(milliseconds)), "login.example");
            assert_eq!(step.status, status, "{step:?}");
            assert!(step.result.contains(words), "{step:?}");
        }
        assert_eq!(clock(None, "x").status, Status::Skipped);
    }

    #[test]
    fn what_spoils_tls_is_told_apart() {
        let connect = |reason: &str| TransportError::Connect { origin: "https://h".into(), reason: reason.into() };
        for (error, words) in [
            (connect("invalid peer certificate: UnknownIssuer"), "SSL_CERT_FILE"),
            (connect("invalid peer certificate: BadSignature"), "SSL_CERT_FILE"),
            (connect("invalid peer certificate: Expired"), "clock"),
            (connect("tunnel error: unsuccessful"), "proxy"),
            (TransportError::Timeout { origin: "https://h".into() }, "in between"),
        ] {
            let step = no_answer("h", &error);
            assert!(step.mend.contains(words), "{step:?}");
        }
    }

    #[tokio::test]
    async fn a_name_without_an_address_and_a_port_without_a_listener_end_the_chain() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        drop(listener);
        let mut steps = Vec::new();
        let addresses = resolve("127.0.0.1", port, "x", &mut steps).await.unwrap();
        assert!(!connect("127.0.0.1", port, "x", &addresses, &mut steps).await);
        // Too long for a name (RFC 1035 §2.3.4), so no server is asked.
        assert!(resolve(&format!("{}.invalid", "a".repeat(64)), 443, "x", &mut steps).await.is_none());
        let statuses: Vec<Status> = steps.iter().map(|step| step.status).collect();
        assert_eq!(statuses, [Status::Ok, Status::Failed, Status::Failed]);
        assert!(steps[1..].iter().all(|step| !step.mend.is_empty()), "{steps:?}");
    }
}
