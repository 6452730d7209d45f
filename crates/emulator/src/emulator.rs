//! The emulator as one thing: a world, its login service, its Activity API and its control paths behind one router.
//!
//! Never decides anything about the protocol: it puts the rooms together, listens, and stops.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use protocol::ids::{ClientId, TenantId};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

use crate::activity::{ActivityApi, RequestCount};
use crate::app::{AppRegistration, AppRegistry};
use crate::clock::EmulatorClock;
use crate::entra::{self, EntraState, KeyError, SigningKey, TokenIssuer};
use crate::faults::FaultPlan;
use crate::seed::Seed;
use crate::webhook::client::NetworkOutbound;
use crate::webhook::{HookPolicy, Notifier, Outbound};
use crate::world::{World, WorldError, WorldOptions, format_time};

/// What an emulator is made from. The default has a real clock, the application of [`default_app`], and no faults.
pub struct EmulatorOptions {
    /// The world.
    pub world: WorldOptions,
    /// Its clock; real time when `None`.
    pub clock: Option<EmulatorClock>,
    /// The registered applications.
    pub apps: Vec<AppRegistration>,
    /// What goes wrong.
    pub faults: FaultPlan,
    /// How stubborn the service is with webhooks.
    pub hooks: HookPolicy,
    /// How webhooks are reached; the network when `None`.
    pub outbound: Option<Arc<dyn Outbound>>,
    /// What tokens are signed with; the key of this process when `None`.
    pub key: Option<SigningKey>,
}

impl Default for EmulatorOptions {
    fn default() -> Self {
        let world = WorldOptions::default();
        let apps = vec![default_app(world.seed)];
        Self {
            world,
            clock: None,
            apps,
            faults: FaultPlan::default(),
            hooks: HookPolicy::default(),
            outbound: None,
            key: None,
        }
    }
}

/// The client secret of [`default_app`]. It opens nothing but emulators.
pub const DEFAULT_SECRET: &str = "emulator~secret.that/opens+nothing=";

/// An application every tenant has consented to, with a fixed client id and [`DEFAULT_SECRET`].
pub fn default_app(seed: u64) -> AppRegistration {
    let client = ClientId::from_uuid(Seed::new(0).named("client").guid());
    let home = TenantId::from_uuid(Seed::new(seed).named("publisher").guid());
    // Any port of this machine: the login service compares none on loopback.
    AppRegistration::new(client, home)
        .with_secret(DEFAULT_SECRET)
        .with_redirect_uri("http://localhost/consent/callback")
        .with_redirect_uri("http://127.0.0.1/consent/callback")
}

/// Why an emulator cannot be made or started.
#[derive(Debug, thiserror::Error)]
pub enum EmulatorError {
    /// The world's options do not work.
    #[error("the emulated world cannot be made")]
    World(#[from] WorldError),
    /// No key to sign tokens with.
    #[error("no key can be made to sign tokens with")]
    Key(#[from] KeyError),
    /// The address is taken, or not this machine's.
    #[error("the emulator cannot listen on {address}; choose another --listen address or end what uses it")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system says.
        #[source]
        source: io::Error,
    },
}

/// Microsoft's side, in this process. Cheap to clone.
#[derive(Clone)]
pub struct Emulator(Arc<Inner>);

struct Inner {
    world: Arc<World>,
    apps: Arc<AppRegistry>,
    tokens: Arc<TokenIssuer>,
    notifier: Arc<Notifier>,
    activity: Arc<ActivityApi>,
    entra: EntraState,
}

impl Emulator {
    /// Makes one; reads recorded records, and opens no socket.
    ///
    /// # Errors
    /// When the world's options do not work.
    pub fn new(options: EmulatorOptions) -> Result<Self, EmulatorError> {
        let clock = options.clock.unwrap_or_else(EmulatorClock::real);
        let seed = options.world.seed;
        let world = Arc::new(World::new(options.world, clock)?);
        world.set_faults(options.faults);
        let apps = Arc::new(AppRegistry::new());
        for app in options.apps {
            apps.register(app);
        }
        let key = match options.key {
            Some(key) => key,
            None => SigningKey::shared()?,
        };
        let tokens = Arc::new(TokenIssuer::new(key, seed));
        let outbound = options.outbound.unwrap_or_else(|| Arc::new(NetworkOutbound));
        let notifier = Arc::new(Notifier::new(Arc::clone(&world), outbound, options.hooks));
        let activity = Arc::new(ActivityApi::new(Arc::clone(&world), Arc::clone(&tokens), Arc::clone(&notifier)));
        let directory: Arc<dyn entra::Directory> = Arc::clone(&world) as _;
        let entra = EntraState::new(directory, Arc::clone(&apps), Arc::clone(&tokens), seed);
        Ok(Self(Arc::new(Inner { world, apps, tokens, notifier, activity, entra })))
    }

    /// The world.
    pub fn world(&self) -> &Arc<World> {
        &self.0.world
    }

    /// The registered applications.
    pub fn apps(&self) -> &Arc<AppRegistry> {
        &self.0.apps
    }

    /// The token issuer, for tests that want a token without asking for one.
    pub fn tokens(&self) -> &Arc<TokenIssuer> {
        &self.0.tokens
    }

    /// What sends notifications; [`Emulator::start`] calls it by itself, in-process users call it when they like.
    pub fn notifier(&self) -> &Arc<Notifier> {
        &self.0.notifier
    }

    /// Requests to the login service and the Activity API so far, by operation, tenant and status.
    pub fn requests(&self) -> Vec<RequestCount> {
        let login = self.0.entra.requests().into_iter().map(|asked| RequestCount {
            operation: asked.endpoint.as_str(),
            tenant: asked.tenant,
            status: asked.status,
            count: asked.count,
        });
        login.chain(self.0.activity.stats.all()).collect()
    }

    /// Starts counting requests anew.
    pub fn clear_requests(&self) {
        self.0.entra.clear_requests();
        self.0.activity.stats.clear();
    }

    /// Everything on one router: login service, Activity API, and `/_emulator/` for control. Routes go by path; the
    /// host
    /// a request names comes back in the URLs of its answer and decides nothing else.
    pub fn router(&self) -> Router {
        Router::new()
            .merge(self.0.activity.router())
            .merge(entra::router(self.0.entra.clone()))
            .merge(crate::control::router(self.clone()))
    }

    /// What a person needs to point a client here: applications with their secrets, tenants, seed, clock.
    pub fn about(&self) -> Value {
        let world = &self.0.world;
        let apps: Vec<Value> = self.0.apps.apps().iter().map(|app| about_app(app)).collect();
        let tenants: Vec<Value> = world.tenants().iter().map(|tenant| crate::control::about_tenant(tenant)).collect();
        json!({
            "seed": world.options().seed,
            "clock": crate::control::about_clock(world.clock()),
            "start": format_time(world.start()),
            "records": if world.options().records_files.is_empty() { "generated" } else { "replayed" },
            "live_records_per_minute": world.options().live_rate,
            "apps": apps,
            "tenants": tenants,
            "fault_rules": world.fault_plan().rules.len(),
        })
    }

    /// Listens, in clear and, when asked, over TLS, and serves until [`Running::stop`].
    ///
    /// # Errors
    /// When an address cannot be listened on.
    pub async fn start(
        &self,
        listen: SocketAddr,
        tls: Option<(SocketAddr, TlsAcceptor)>,
    ) -> Result<Running, EmulatorError> {
        let plain = bind(listen).await?;
        let secure = match tls {
            Some((address, acceptor)) => Some((bind(address).await?, acceptor)),
            None => None,
        };
        let (stop, _) = watch::channel(false);
        let mut tasks = Vec::new();
        let addr = plain.local_addr().unwrap_or(listen);
        let tls_addr = secure.as_ref().and_then(|(listener, _)| listener.local_addr().ok());
        let listeners =
            std::iter::once((plain, None)).chain(secure.map(|(listener, acceptor)| (listener, Some(acceptor))));
        for (listener, acceptor) in listeners {
            let (router, stopped) = (self.router(), wait_for(stop.subscribe()));
            tasks.push(tokio::spawn(crate::tls::serve(listener, router, acceptor, stopped)));
        }
        tasks.push(tokio::spawn(notify(Arc::clone(&self.0.notifier), wait_for(stop.subscribe()))));
        Ok(Running { addr, tls_addr, stop, tasks })
    }
}

impl fmt::Debug for Emulator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Emulator").field("seed", &self.0.world.options().seed).finish_non_exhaustive()
    }
}

fn about_app(app: &AppRegistration) -> Value {
    let secrets: Vec<&str> = app.secrets.iter().map(|secret| secret.value.as_str()).collect();
    let thumbprints: Vec<String> = app.certificates.iter().map(crate::app::AppCertificate::thumbprint).collect();
    json!({
        "client_id": app.client_id.to_string(),
        "display_name": app.display_name,
        "home_tenant": app.home_tenant.to_string(),
        "secrets": secrets,
        "certificate_thumbprints": thumbprints,
        "redirect_uris": app.redirect_uris,
    })
}

async fn bind(address: SocketAddr) -> Result<TcpListener, EmulatorError> {
    TcpListener::bind(address).await.map_err(|source| EmulatorError::Listen { address, source })
}

async fn wait_for(mut stop: watch::Receiver<bool>) {
    // An error means that `Running` is gone: that is a stop too.
    let _ = stop.wait_for(|stopped| *stopped).await;
}

/// Between two looks for notifications that are due.
const NOTIFY_EVERY: Duration = Duration::from_millis(500);

async fn notify(notifier: Arc<Notifier>, stopped: impl Future<Output = ()>) {
    let mut stopped = std::pin::pin!(stopped);
    loop {
        tokio::select! {
            // Stopping here is safe: what was not delivered is nowhere promised.
            () = &mut stopped => return,
            () = tokio::time::sleep(NOTIFY_EVERY) => {}
        }
        tokio::select! {
            () = &mut stopped => return,
            _ = notifier.deliver_due() => {}
        }
    }
}

/// An emulator that listens. Dropping it stops it without waiting.
#[derive(Debug)]
pub struct Running {
    addr: SocketAddr,
    tls_addr: Option<SocketAddr>,
    stop: watch::Sender<bool>,
    tasks: Vec<JoinHandle<()>>,
}

impl Running {
    /// Where it listens in clear.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Where it listens over TLS.
    pub fn tls_addr(&self) -> Option<SocketAddr> {
        self.tls_addr
    }

    /// Ends it, and waits until requests in flight have ended.
    pub async fn stop(self) {
        let _ = self.stop.send(true);
        for task in self.tasks {
            // A task that panicked has ended too.
            let _ = task.await;
        }
    }
}
