//! A check-up: everything from the data folder to a listed window, one step after another, each with its mend.
//!
//! Never starts, stops, writes or keeps anything, so that it can be run beside a collector at any time. Where a later step
//! cannot make sense it is skipped, and says why.

mod feed;
mod files;
mod identity;
mod network;
mod report;
mod site;
mod tables;

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use archive::ArchiveOptions;
use engine::model::TenantState;
use engine::tile::Grid;
use http::{HeaderMap, StatusCode};
use ledger::Location;
use protocol::cloud::Cloud;
use protocol::ids::{ClientId, ContentType, PublisherId, TenantId};
use protocol::token::TokenEndpoint;
use url::Url;

pub use report::{Cause, Report, Status, Step};

use crate::clock::Clock;
use crate::settings::Credential;
use crate::transport::{HttpTransport, Timeouts, Transport, TransportError, TransportSetupError};
use crate::vault::KeySource;

/// A check-up's requests are few, and a person waits for them.
const TIMEOUTS: Timeouts =
    Timeouts { connect: Duration::from_secs(10), silence: Duration::from_secs(60), idle: Duration::from_secs(10) };

/// What is looked at.
pub struct Subject<'a> {
    /// The configured cloud.
    pub cloud: &'a Cloud,
    /// The app registration; `None` when the configuration has none, and nothing can be asked of Microsoft.
    pub app: Option<App<'a>>,
    /// What is to be collected.
    pub content_types: &'a [ContentType],
    /// The windows it is collected in.
    pub tile: Grid,
    /// Where everything lies.
    pub data_dir: &'a Path,
    /// The ledger.
    pub ledger: &'a Location,
    /// What the archive is opened with, or why that cannot be said.
    pub archive: &'a Result<ArchiveOptions, String>,
    /// Whether the archive is to be published as tables.
    pub tables: bool,
    /// Where the vault's keys come from.
    pub keys: KeySource,
    /// Where the console listens.
    pub console: SocketAddr,
    /// Where the public site is reached.
    pub public_url: Option<&'a str>,
    /// The tenant to ask for; the ledger's first active one when `None`.
    pub tenant: Option<TenantId>,
    /// What time it is here.
    pub clock: &'a dyn Clock,
}

/// The app registration, as far as it could be read.
pub struct App<'a> {
    /// The application (client) id.
    pub client_id: ClientId,
    /// Sent on every request.
    pub publisher_id: PublisherId,
    /// Which of Entra's two token endpoints is asked.
    pub token_endpoint: TokenEndpoint,
    /// Each credential with the name it is shown by; `None` for one that could not be read.
    pub credentials: &'a [(String, Option<Credential>)],
}

/// What the steps with the other side have in common.
struct Surroundings<'a> {
    transport: &'a dyn Transport,
    clock: &'a dyn Clock,
    cloud: &'a Cloud,
}

impl Surroundings<'_> {
    /// One request and its whole answer, in bounded time and size.
    async fn ask(
        &self,
        request: http::Request<Vec<u8>>,
        time: Duration,
        limit: usize,
    ) -> Result<(StatusCode, HeaderMap, Vec<u8>), TransportError> {
        let origin = crate::transport::origin_of(request.uri());
        let exchange = async {
            let answer = self.transport.send(request).await?;
            let body = answer.body.read(limit).await?;
            Ok((answer.status, answer.headers, body))
        };
        tokio::time::timeout(time, exchange).await.unwrap_or(Err(TransportError::Timeout { origin }))
    }
}

/// Takes every step; `tell` hears of each as soon as it is taken, those in `before` (what was found out while the
/// configuration was read) first.
pub async fn examine(subject: &Subject<'_>, before: Vec<Step>, tell: &mut (dyn FnMut(&Step) + Send)) -> Report {
    let mut book = Book { report: Report::default(), tell };
    book.extend(before);
    if let Some(app) = &subject.app {
        let now = subject.clock.now();
        for (name, credential) in app.credentials {
            if let Some(credential) = credential {
                book.push(identity::credential(name, credential, now));
            }
        }
    }
    book.push(files::key(subject.keys.clone()));
    book.push(files::data_dir(subject.data_dir));
    let ledger = subject.ledger.file().map(|path| ("ledger", path.as_path()));
    let folder = subject.archive.as_ref().ok().map(|options| ("archive", options.root.as_path()));
    let places: Vec<(&str, &Path)> = ledger.into_iter().chain(folder).collect();
    book.extend(files::disk(&places));
    let (step, known) = files::ledger(subject.ledger).await;
    book.push(step);
    book.extend(files::workers(known.as_ref(), subject.tenant).await.into_iter().collect());
    book.push(files::sealed(subject.keys.clone(), known.as_ref()).await);
    book.push(files::archive(subject.archive, known.as_ref()).await);
    if let Ok(options) = subject.archive {
        book.extend(files::aside(options).into_iter().collect());
        book.extend(tables::tables(options, known.as_ref(), subject.tables).await.into_iter().collect());
    }
    let (step, is_running) = site::collector(subject.data_dir, subject.console).await;
    book.push(step);
    let tenant = subject.tenant.or_else(|| {
        let (_, tenants) = known.as_ref()?;
        tenants.iter().find(|tenant| tenant.state == TenantState::Active).map(|tenant| tenant.id)
    });
    match HttpTransport::new(&TIMEOUTS) {
        Ok(transport) => {
            let around = Surroundings { transport: &transport, clock: subject.clock, cloud: subject.cloud };
            outside(subject, &around, tenant, &mut book).await;
            book.push(site::public_url(&around, subject.public_url, is_running).await);
        }
        Err(error) => {
            let (step, why) = match error {
                TransportSetupError::Proxy { .. } => {
                    ("proxy", "requests would go out where they may not, so none does")
                }
                _ => ("tls", "no connection can be trusted, so none is made"),
            };
            book.push(
                Step::failed(step, "", Cause::Configuration, crate::chain(&error))
                    .explained(why, "do what the message says"),
            );
            let because = "no connection can be made";
            for step in
                ["dns", "connection", "clock", "cloud", "token", "roles", "subscriptions", "listing", "public_url"]
            {
                book.push(Step::skipped(step, "", because));
            }
        }
    }
    book.report
}

/// The steps with Microsoft's side.
async fn outside(subject: &Subject<'_>, around: &Surroundings<'_>, tenant: Option<TenantId>, book: &mut Book<'_>) {
    let address = |text: String| Url::parse(&text).ok();
    let login = address(format!("{}/common/v2.0/.well-known/openid-configuration", subject.cloud.login()));
    let any = tenant.unwrap_or(TenantId::from_uuid(uuid::Uuid::nil()));
    let activity = address(format!("{}/subscriptions/list", subject.cloud.feed_root(any)));
    let (Some(login), Some(activity)) = (login, activity) else { return };
    let login = network::Target { role: "Entra ID", url: login };
    let activity = network::Target { role: "the Activity API", url: activity };
    book.push(network::proxies(&[
        network::Target { role: login.role, url: login.url.clone() },
        network::Target { role: activity.role, url: activity.url.clone() },
    ]));
    let mut steps = Vec::new();
    let entra = network::reach(around.transport, around.clock, &login, &mut steps).await;
    book.extend(std::mem::take(&mut steps));
    let api = if activity.url.origin() == login.url.origin() {
        entra.is_some()
    } else {
        let contact = network::reach(around.transport, around.clock, &activity, &mut steps).await;
        book.extend(std::mem::take(&mut steps));
        contact.is_some()
    };
    book.push(network::clock(entra.as_ref(), &network::host_of(&login.url)));
    if entra.is_none() {
        return skip(book, &["cloud", "token", "roles", "subscriptions", "listing"], "Entra ID cannot be reached");
    }
    let Some(tenant) = tenant else {
        let because = "there is no tenant to ask for: name one with --tenant, or add one";
        return skip(book, &["cloud", "token", "roles", "subscriptions", "listing"], because);
    };
    let step = identity::cloud(around, tenant).await;
    let is_elsewhere = step.status == Status::Failed;
    book.push(step);
    let Some(app) = &subject.app else {
        return skip(book, &["token", "roles", "subscriptions", "listing"], "the configuration names no app to ask as");
    };
    if is_elsewhere {
        return skip(book, &["token", "roles", "subscriptions", "listing"], "the tenant is not in this cloud");
    }
    let granted = identity::tokens(around, app, tenant, &mut steps).await;
    book.extend(steps);
    book.push(identity::roles(granted.as_ref(), subject.content_types));
    let Some(granted) = granted else {
        return skip(book, &["subscriptions", "listing"], "there is no token to ask with");
    };
    if !api {
        return skip(book, &["subscriptions", "listing"], "the Activity API cannot be reached");
    }
    let feed = identity::feed(around, app, tenant);
    let (step, list) = feed::subscriptions(around, feed, &granted.token, subject.content_types).await;
    book.push(step);
    book.push(feed::listing(around, feed, &granted.token, subject.content_types, list.as_ref(), subject.tile).await);
}

fn skip(book: &mut Book<'_>, steps: &[&'static str], because: &str) {
    for step in steps {
        book.push(Step::skipped(step, "", because));
    }
}

/// The report as it is written, and who hears of it.
struct Book<'a> {
    report: Report,
    tell: &'a mut (dyn FnMut(&Step) + Send),
}

impl Book<'_> {
    fn push(&mut self, step: Step) {
        (self.tell)(&step);
        self.report.steps.push(step);
    }

    fn extend(&mut self, steps: Vec<Step>) {
        for step in steps {
            self.push(step);
        }
    }
}
