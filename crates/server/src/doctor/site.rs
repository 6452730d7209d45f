//! The steps of our own listeners: whether a collector is running here, and whether the public address leads to it.
//!
//! Never starts or stops one, and takes no lock: a collector that begins at this moment must find its place free.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use http::Request;
use tokio::net::TcpStream;
use url::Url;

use super::Surroundings;
use super::report::Step;

const CONNECT_TIME: Duration = Duration::from_secs(3);
const REQUEST_TIME: Duration = Duration::from_secs(20);

/// What [`crate::listen`] answers at `/healthz`.
const HEALTHY: &[u8] = b"ok";

/// Whether a collector is running on this data folder.
pub(super) async fn collector(data_dir: &Path, console: SocketAddr) -> (Step, bool) {
    let holder = std::fs::read_to_string(data_dir.join(crate::instance::FILE_NAME)).ok();
    let pid = holder.and_then(|text| text.trim().parse::<u32>().ok());
    let answers = console.port() != 0
        && tokio::time::timeout(CONNECT_TIME, TcpStream::connect(console))
            .await
            .is_ok_and(|connected| connected.is_ok());
    let of = console.to_string();
    match (answers, pid) {
        (true, Some(pid)) => (Step::ok("collector", of, format!("running (pid {pid}): its console answers")), true),
        (true, None) => {
            let step =
                Step::warning("collector", of, "something answers at console.listen, and no collector has been here")
                    .explained(
                        "another program, or a collector with another data folder, has the console's address",
                        "choose another console.listen, or the other's data_dir",
                    );
            (step, false)
        }
        (false, _) => (Step::ok("collector", of, "not running here; `tenantry serve` starts it"), false),
    }
}

/// Whether the public site is reached by its public address.
pub(super) async fn public_url(around: &Surroundings<'_>, url: Option<&str>, is_running: bool) -> Step {
    let Some(text) = url else {
        return Step::skipped(
            "public_url",
            "",
            "public.url is not set: without it there are no consent links and no webhooks",
        );
    };
    let health = Url::parse(text).and_then(|url| url.join("/healthz"));
    let request = health.ok().and_then(|url| Request::get(url.as_str()).body(Vec::new()).ok());
    let Some(request) = request else {
        return Step::warning("public_url", text, "is no address")
            .explained("nobody can be sent there", "write it as https://audit.example.com");
    };
    let mend = if is_running {
        "look at what is in front of it: name, certificate, and where requests go (to public.listen); from inside, some \
         networks cannot reach their own public address, so try from outside as well"
    } else {
        "start the collector (`tenantry serve`) and look again"
    };
    match around.ask(request, REQUEST_TIME, 4096).await {
        Ok((status, _, body)) if status.is_success() && body.trim_ascii().starts_with(HEALTHY) => {
            Step::ok("public_url", text, "leads to a collector's public site")
        }
        Ok((status, _, _)) => {
            Step::warning("public_url", text, format!("answers, and not as this program (HTTP {})", status.as_u16()))
                .explained("admins who follow a consent link, and Microsoft's notifications, end somewhere else", mend)
        }
        Err(error) => Step::warning("public_url", text, error.to_string())
            .explained("consent links and Microsoft's notifications lead nowhere; polling goes on without them", mend),
    }
}
