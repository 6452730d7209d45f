//! One tenant of the world: who it is, its five feeds, and what its administrators have switched on, off or granted.
//!
//! Never tells Entra's story: tokens and consent pages ask for the state kept here through [`crate::entra::Directory`].

use std::collections::HashMap;
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use protocol::cloud::CloudName;
use protocol::ids::{ClientId, ContentType, TenantId};

use super::feed::Feed;
use super::options::TenantSpec;
use super::timeline::Millis;
use crate::entra::{ServicePrincipal, TenantInfo};
use crate::records::Profile;
use crate::seed::Seed;

/// A tenant. Shared; what can change is behind its lock.
#[derive(Debug)]
pub(crate) struct Tenant {
    pub(crate) profile: Profile,
    /// The last part of its content ids, such as `na0020`.
    pub(crate) region: &'static str,
    pub(crate) cloud: CloudName,
    /// One per [`ContentType::KNOWN`], in that order.
    pub(crate) feeds: Vec<Feed>,
    state: RwLock<TenantState>,
}

/// What of a tenant can change.
#[derive(Debug, Clone)]
pub(crate) struct TenantState {
    pub(crate) deleted: bool,
    /// The service has it half set up (AF20012).
    pub(crate) misconfigured: bool,
    /// When auditing was off: half-open spans; the last one is open-ended while it is off.
    pub(crate) silences: Vec<(Millis, Option<Millis>)>,
    /// Content types it may subscribe to.
    pub(crate) licensed: Vec<ContentType>,
    /// What every application has that is not listed below.
    pub(crate) default_principal: Option<ServicePrincipal>,
    pub(crate) principals: HashMap<ClientId, Option<ServicePrincipal>>,
}

impl TenantState {
    pub(crate) fn auditing(&self) -> bool {
        self.silences.last().is_none_or(|(_, until)| until.is_some())
    }

    pub(crate) fn set_auditing(&mut self, on: bool, now: Millis) {
        match (self.auditing(), on) {
            (true, false) => self.silences.push((now, None)),
            (false, true) => {
                if let Some(last) = self.silences.last_mut() {
                    last.1 = Some(now);
                }
            }
            _ => {}
        }
    }

    /// Whether what was created then was lost because auditing was off.
    pub(crate) fn silent_at(&self, created: Millis) -> bool {
        self.silences.iter().any(|(from, until)| created >= *from && until.is_none_or(|until| created < until))
    }

    pub(crate) fn principal(&self, client: ClientId) -> Option<&ServicePrincipal> {
        match self.principals.get(&client) {
            Some(own) => own.as_ref(),
            None => self.default_principal.as_ref(),
        }
    }
}

/// The application permissions a consent grants: names as in tokens' `roles`.
pub(crate) const FEED_ROLES: [&str; 2] = ["ActivityFeed.Read", "ActivityFeed.ReadDlp"];

const COMPANIES: [&str; 20] = [
    "Contoso",
    "Fabrikam",
    "Northwind Traders",
    "Adventure Works",
    "Tailspin Toys",
    "Wingtip",
    "Litware",
    "Proseware",
    "Trey Research",
    "Woodgrove Bank",
    "Fourth Coffee",
    "Graphic Design Institute",
    "Humongous Insurance",
    "Lamna Healthcare",
    "Munson's Pickles",
    "Relecloud",
    "School of Fine Art",
    "Southridge Video",
    "VanArsdel",
    "Wide World Importers",
];

const REGIONS: [&str; 4] = ["na0020", "emea9037", "emea0036", "apac0012"];

const SEATS: [u32; 8] = [25, 60, 120, 250, 600, 1500, 5000, 20_000];

impl Tenant {
    pub(crate) fn new(spec: &TenantSpec, world: Seed, place: usize) -> Self {
        let drawn = world.named("tenant").child(place as u64);
        let id = spec.id.unwrap_or_else(|| TenantId::from_uuid(drawn.guid()));
        // Its content follows from who it is, not from its place among the others.
        let seed = world.named(&id.to_string());
        let name = spec.name.clone().unwrap_or_else(|| match place / COMPANIES.len() {
            0 => COMPANIES[place].to_owned(),
            round => format!("{} {}", COMPANIES[place % COMPANIES.len()], round + 1),
        });
        let domain = spec.domain.clone().unwrap_or_else(|| {
            let letters: String = name.chars().filter(char::is_ascii_alphanumeric).collect();
            let letters = if letters.is_empty() { format!("tenant{place}") } else { letters };
            format!("{}.onmicrosoft.com", letters.to_ascii_lowercase())
        });
        let pick = |key: u64, length: usize| usize::try_from(seed.child(key).value() % length as u64).unwrap_or(0);
        let seats = spec.seats.unwrap_or(SEATS[pick(2, SEATS.len())]);
        let feeds = ContentType::KNOWN.into_iter().map(|kind| Feed::new(kind, seed)).collect();
        let principal =
            ServicePrincipal { roles: FEED_ROLES.map(str::to_owned).to_vec(), ..ServicePrincipal::default() };
        let state = TenantState {
            deleted: spec.deleted,
            misconfigured: false,
            silences: if spec.auditing { Vec::new() } else { vec![(Millis::MIN, None)] },
            licensed: if spec.content_types.is_empty() {
                ContentType::KNOWN.to_vec()
            } else {
                spec.content_types.clone()
            },
            default_principal: spec.consented.then_some(principal),
            principals: HashMap::new(),
        };
        Self {
            profile: Profile { id, id_text: id.to_string(), name, domain, seats, seed },
            region: REGIONS[pick(1, REGIONS.len())],
            cloud: spec.cloud,
            feeds,
            state: RwLock::new(state),
        }
    }

    pub(crate) fn id(&self) -> TenantId {
        self.profile.id
    }

    pub(crate) fn state(&self) -> RwLockReadGuard<'_, TenantState> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn state_mut(&self) -> RwLockWriteGuard<'_, TenantState> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn feed(&self, kind: &ContentType) -> Option<&Feed> {
        self.feeds.iter().find(|feed| feed.kind == *kind)
    }

    pub(crate) fn info(&self) -> TenantInfo {
        TenantInfo {
            id: self.id(),
            display_name: self.profile.name.clone(),
            domains: vec![self.profile.domain.to_ascii_lowercase()],
            cloud: self.cloud,
            deleted: self.state().deleted,
        }
    }
}
