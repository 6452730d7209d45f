//! What a record is drawn from: people, machines, files and words of one tenant, always the same ones for the same
//! seed.
//!
//! Never draws a real person, company or public address: names are common first and last names, domains end in
//! `onmicrosoft.com` or `example`, and addresses are of the documentation ranges.

use std::fmt::Write as _;

use chrono::{DateTime, Datelike as _, Timelike as _};
use fastrand::Rng;
use uuid::Uuid;

use super::Profile;
use crate::seed::Seed;

/// `yyyy-MM-ddTHH:mm:ss`: UTC without a zone, as the feed writes `CreationTime` (audit-schema.md §1).
pub(crate) fn timestamp(seconds: i64) -> String {
    // Chrono's own formatting takes longer than the rest of a record.
    let Some(at) = DateTime::from_timestamp(seconds, 0) else { return String::new() };
    let mut text = String::with_capacity(19);
    let _ = write!(text, "{:04}", at.year());
    for (mark, number) in [('-', at.month()), ('-', at.day()), ('T', at.hour()), (':', at.minute()), (':', at.second())]
    {
        text.push(mark);
        text.push(digit(number / 10));
        text.push(digit(number));
    }
    text
}

fn digit(number: u32) -> char {
    char::from_digit(number % 10, 10).unwrap_or('0')
}

/// A GUID as text, in lower case.
pub(crate) fn guid_text(seed: Seed) -> String {
    let mut text = Uuid::encode_buffer();
    seed.guid().hyphenated().encode_lower(&mut text).to_owned()
}

/// The hand that draws one record.
pub(crate) struct Draw<'a> {
    pub(crate) rng: Rng,
    pub(crate) tenant: &'a Profile,
    /// Without sensitive values.
    pub(crate) withheld: bool,
    /// The event's time, in seconds of Unix time.
    pub(crate) event: i64,
    /// The record's `Id`.
    pub(crate) id: String,
    /// The event's `CreationTime`.
    pub(crate) creation_time: String,
    /// Who did it.
    pub(crate) user: Person,
}

/// A user of the tenant.
#[derive(Debug, Clone)]
pub(crate) struct Person {
    pub(crate) first: &'static str,
    pub(crate) last: &'static str,
    pub(crate) upn: String,
    /// The 16 hex digits of a PUID.
    pub(crate) puid: String,
    pub(crate) seed: Seed,
}

impl Person {
    pub(crate) fn display_name(&self) -> String {
        format!("{} {}", self.first, self.last)
    }

    /// The object id in the directory.
    pub(crate) fn object_id(&self) -> String {
        guid_text(self.seed.child(7))
    }

    pub(crate) fn sid(&self) -> String {
        let draw = |key: u64| self.seed.child(key).value() % 4_000_000_000;
        format!("S-1-5-21-{}-{}-{}-{}", draw(11), draw(12), draw(13), draw(14) % 30_000_000)
    }
}

impl<'a> Draw<'a> {
    pub(crate) fn new(tenant: &'a Profile, seed: Seed, event: i64, withheld: bool) -> Self {
        let mut rng = seed.child(3).rng();
        let user = person(tenant, rng.u32(..));
        let creation_time = timestamp(event);
        Self { rng, tenant, withheld, event, id: guid_text(seed), creation_time, user }
    }

    pub(crate) fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        // Every list handed in is a constant with at least one element.
        from[self.rng.usize(0..from.len())]
    }

    pub(crate) fn chance(&mut self, share: f64) -> bool {
        self.rng.f64() < share
    }

    pub(crate) fn guid(&mut self) -> String {
        guid_text(Seed::new(self.rng.u64(..)))
    }

    /// A GUID that belongs to the tenant: the same number gives the same one in every record.
    pub(crate) fn tenant_guid(&self, key: u64) -> String {
        guid_text(self.tenant.seed.child(key))
    }

    pub(crate) fn other_user(&mut self) -> Person {
        person(self.tenant, self.rng.u32(..))
    }

    /// Another time near the event, in the same form.
    pub(crate) fn time_before(&mut self, seconds_max: i64) -> String {
        let ago = self.rng.i64(0..=seconds_max);
        timestamp(self.event - ago)
    }

    /// Lower-case hex digits.
    pub(crate) fn hex(&mut self, digits: usize) -> String {
        self.letters(b"0123456789abcdef", 4, digits)
    }

    pub(crate) fn base64(&mut self, length: usize) -> String {
        self.letters(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/", 6, length)
    }

    /// Letters of an alphabet of `2^bits`.
    fn letters(&mut self, alphabet: &[u8], bits: u32, length: usize) -> String {
        let mut text = String::with_capacity(length);
        let (mut drawn, mut left) = (0u64, 0u32);
        for _ in 0..length {
            if left < bits {
                (drawn, left) = (self.rng.u64(..), 64);
            }
            let place = usize::try_from(drawn & ((1 << bits) - 1)).unwrap_or(0);
            text.push(char::from(alphabet[place]));
            drawn >>= bits;
            left -= bits;
        }
        text
    }

    /// An id of the person's present session: the same one in most records of an hour.
    pub(crate) fn session(&mut self) -> String {
        let number = self.event.unsigned_abs() / 3600 * 2 + self.rng.u64(0..2);
        guid_text(self.user.seed.child(40).child(number))
    }

    /// A plain IPv4 address.
    pub(crate) fn ipv4(&mut self) -> String {
        // A person works from two or three places.
        let place = self.user.seed.child(20 + self.rng.u64(0..3)).value();
        let net = ["192.0.2", "198.51.100", "203.0.113"][usize::try_from(place % 3).unwrap_or(0)];
        format!("{net}.{}", (place >> 8) % 254 + 1)
    }

    fn ipv6(&mut self) -> String {
        let place = self.user.seed.child(30 + self.rng.u64(0..2)).value();
        format!("2001:db8:{:x}:{:x}::{:x}", place & 0xffff, (place >> 16) & 0xffff, (place >> 32) & 0xffff)
    }

    /// A `ClientIP` in one of the forms the field really has (audit-schema.md §9); `None`: the member is missing.
    pub(crate) fn client_ip(&mut self) -> Option<String> {
        Some(match self.rng.u32(0..1000) {
            0..=549 => self.ipv4(),
            550..=679 => self.ipv6(),
            680..=759 => format!("{}:{}", self.ipv4(), self.rng.u16(1024..)),
            760..=799 => format!("[{}]:{}", self.ipv4(), self.rng.u16(1024..)),
            800..=849 => format!("[{}]:{}", self.ipv6(), self.rng.u16(1024..)),
            850..=859 => format!("[{}]", self.ipv6()),
            860..=869 => format!("::ffff:{}", self.ipv4()),
            870..=874 => "fe80::1%3".to_owned(),
            875..=879 => format!("ffff:{}", self.ipv4()),
            880..=889 => "<null>".to_owned(),
            890..=894 => "null".to_owned(),
            895..=904 => "::1".to_owned(),
            905..=909 => format!("{}, {}", self.ipv4(), self.ipv4()),
            910..=914 => "mail.fabrikam.example".to_owned(),
            915..=939 => String::new(),
            _ => return None,
        })
    }

    pub(crate) fn file_name(&mut self) -> String {
        let subject = self.pick(&SUBJECTS);
        let extension = self.extension();
        match self.rng.u32(0..6) {
            0 => format!("{subject} {}.{extension}", 2020 + self.rng.u32(0..7)),
            1 => format!("{subject} (final) v{}.{extension}", self.rng.u32(1..9)),
            2 => format!("{subject}_{}.{extension}", self.pick(&DEPARTMENTS)),
            _ => format!("{subject}.{extension}"),
        }
    }

    pub(crate) fn extension(&mut self) -> &'static str {
        self.pick(&["docx", "xlsx", "pptx", "pdf", "pdf", "docx", "txt", "csv", "png", "msg", "loop", "zip"])
    }

    pub(crate) fn subject(&mut self) -> String {
        let subject = self.pick(&SUBJECTS);
        match self.rng.u32(0..5) {
            0 => format!("RE: {subject}"),
            1 => format!("FW: {subject} <urgent> & more"),
            2 => format!("{subject} – “{}”", self.pick(&DEPARTMENTS)),
            _ => subject.to_owned(),
        }
    }

    pub(crate) fn user_agent(&mut self) -> &'static str {
        self.pick(&USER_AGENTS)
    }

    /// The tenant's short name: `contoso` of `contoso.onmicrosoft.com`.
    pub(crate) fn short_name(&self) -> &'a str {
        self.tenant.domain.split('.').next().unwrap_or_default()
    }
}

/// The user of a tenant that a number stands for. A tenth of the people does most of the work.
pub(crate) fn person(tenant: &Profile, draw: u32) -> Person {
    let seats = tenant.seats.max(1);
    let busy = seats.div_ceil(10);
    let number = if draw % 10 < 7 { (draw / 10) % busy } else { (draw / 10) % seats };
    let seed = tenant.seed.child(1000).child(u64::from(number));
    let index = |key: u64, length: usize| usize::try_from(seed.child(key).value() % length as u64).unwrap_or(0);
    let first = FIRST_NAMES[index(1, FIRST_NAMES.len())];
    let last = LAST_NAMES[index(2, LAST_NAMES.len())];
    let mut upn = format!("{}.{}", ascii(first), ascii(last));
    if number >= 20 {
        let _ = write!(upn, "{number}");
    }
    let _ = write!(upn, "@{}", tenant.domain);
    if seed.child(3).unit() > 0.04 {
        upn.make_ascii_lowercase();
    }
    let puid = format!("1003{:012X}", seed.child(4).value() & 0xffff_ffff_ffff);
    Person { first, last, upn, puid, seed }
}

fn ascii(name: &str) -> String {
    name.chars().filter(char::is_ascii_alphabetic).collect()
}

/// Departments, as they appear in file and group names.
pub(crate) const DEPARTMENTS: [&str; 10] =
    ["Finance", "Sales", "HR", "Legal", "Engineering", "Marketing", "Vertrieb", "Rechnungswesen", "Élysée", "営業部"];

/// Subjects of mails and names of documents.
pub(crate) const SUBJECTS: [&str; 22] = [
    "Quarterly report",
    "Budget forecast",
    "Meeting notes",
    "Contract draft",
    "Onboarding checklist",
    "Travel expenses",
    "Project plan",
    "Invoice 2026-0417",
    "Q3 roadmap",
    "Customer list",
    "Weekly status",
    "Überstunden März",
    "Présentation équipe",
    "Résumé",
    "会議の議事録",
    "Отчёт за квартал",
    "Lunch 🍕?",
    "Press release",
    "Salary review",
    "Incident 2231 / follow-up",
    "Team offsite: \"what's next\"",
    "R&D budget",
];

const FIRST_NAMES: [&str; 24] = [
    "Anna", "Ben", "Chiara", "David", "Elif", "Frank", "Grace", "Hiro", "Ingrid", "Jamal", "Katya", "Liam", "Mei",
    "Noah", "Olga", "Priya", "Quentin", "Rosa", "Søren", "Tariq", "Ursula", "Víctor", "Wei", "Zoë",
];

const LAST_NAMES: [&str; 24] = [
    "Adams", "Bauer", "Costa", "Dubois", "Eriksen", "Fischer", "Garcia", "Haddad", "Ivanova", "Jansen", "Kowalski",
    "Larsen", "Müller", "Nakamura", "O'Brien", "Patel", "Quist", "Rossi", "Schmidt", "Tanaka", "Ueda", "Virtanen",
    "Wang", "Yilmaz",
];

const USER_AGENTS: [&str; 8] = [
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/138.0.0.0 Safari/537.36 Edg/138.0.0.0",
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.4 Safari/605.1.15",
    "Mozilla/5.0 (iPhone; CPU iPhone OS 18_3 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Mobile/15E148",
    "Microsoft Office/16.0 (Windows NT 10.0; Microsoft Outlook 16.0.18623; Pro)",
    "Microsoft SkyDriveSync 26.041.0302.0003 ship; Windows NT 10.0 (22631)",
    "python-requests/2.32.3",
    "MSWACONSVC",
    "",
];
