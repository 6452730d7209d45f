//! The families of generated records, one file per workload, and which of them each content type carries.
//!
//! Never aims at one tidy schema: members are missing, empty, doubled, mistyped or escaped differently as often as
//! audit-schema.md §8 to §10 says they are.

mod collaboration;
mod dlp;
mod entra;
mod exchange;
mod platform;
mod security;
mod sharepoint;

use protocol::ids::ContentType;

use super::Wanted;
use super::draw::Draw;
use super::json::{Json, Style};
use crate::seed::Seed;

type Family = fn(&mut Draw<'_>, &mut Json<'_>);

/// Families with their weights, out of 1000.
type Mix = &'static [(u32, Family)];

const ENTRA: Mix = &[(760, entra::sign_in), (225, entra::directory), (15, entra::risk_detection)];
const EXCHANGE: Mix = &[
    (280, exchange::admin),
    (230, exchange::item),
    (110, exchange::item_group),
    (360, exchange::items_accessed),
    (20, exchange::aggregated_operation),
];
const SHAREPOINT: Mix = &[
    (690, sharepoint::file_operation),
    (110, sharepoint::sharing),
    (80, sharepoint::site),
    (120, sharepoint::list_operation),
];
const GENERAL: Mix = &[
    (300, collaboration::teams),
    (140, collaboration::copilot),
    (60, collaboration::yammer),
    (80, collaboration::planner),
    (40, collaboration::forms),
    (80, security::alert),
    (60, security::threat_mail),
    (30, security::investigation),
    (60, security::compliance_cmdlet),
    (50, security::data_insights),
    (60, platform::power_bi),
    (20, platform::dynamics),
    (20, platform::unknown),
];
const DLP: Mix = &[(450, dlp::sharepoint), (350, dlp::exchange), (200, dlp::endpoint)];

fn mix(kind: &ContentType) -> Mix {
    match kind {
        ContentType::AzureActiveDirectory => ENTRA,
        ContentType::Exchange => EXCHANGE,
        ContentType::SharePoint => SHAREPOINT,
        ContentType::DlpAll => DLP,
        ContentType::General | ContentType::Other(_) => GENERAL,
    }
}

/// Appends one generated record.
pub(crate) fn render(wanted: &Wanted<'_>, seed: Seed, event: i64, out: &mut Vec<u8>) {
    let mut draw = Draw::new(wanted.tenant, seed, event, wanted.withheld);
    let style = match draw.rng.u32(0..100) {
        0..=29 => Style { slash: true, ..Style::default() },
        30..=39 => Style { html: true, ..Style::default() },
        40..=44 => Style { ascii: true, slash: true, ..Style::default() },
        _ => Style::default(),
    };
    let families = mix(wanted.kind);
    let mut chance = draw.rng.u32(0..1000);
    let mut chosen: Family = families[0].1;
    for (weight, family) in families {
        if chance < *weight {
            chosen = *family;
            break;
        }
        chance -= weight;
    }
    out.push(b'{');
    let mut json = Json::new(out, style);
    chosen(&mut draw, &mut json);
    oddities(&mut draw, &mut json);
    out.push(b'}');
}

/// The common members, in the order the service writes them.
pub(crate) struct Head<'a> {
    pub(crate) operation: &'a str,
    pub(crate) record_type: i64,
    pub(crate) result: Option<&'a str>,
    pub(crate) user_key: &'a str,
    pub(crate) user_type: i64,
    pub(crate) workload: &'a str,
    pub(crate) client_ip: Option<&'a str>,
    pub(crate) object_id: Option<&'a str>,
    pub(crate) user_id: &'a str,
}

impl Head<'_> {
    pub(crate) fn write(&self, draw: &mut Draw<'_>, json: &mut Json<'_>) {
        match draw.rng.u32(0..1000) {
            0 => json.text("CreationTime", &format!("{}Z", draw.creation_time)),
            1 => json.text("CreationTime", &format!("{}.{:03}", draw.creation_time, draw.event % 1000)),
            _ => json.text("CreationTime", &draw.creation_time),
        }
        json.text("Id", &draw.id);
        json.text("Operation", self.operation);
        json.text("OrganizationId", &draw.tenant.id_text);
        json.number("RecordType", self.record_type);
        json.text_if("ResultStatus", self.result);
        json.text("UserKey", if draw.chance(0.003) { "" } else { self.user_key });
        json.number("UserType", self.user_type);
        if !draw.chance(0.002) {
            json.number("Version", 1);
        }
        json.text("Workload", self.workload);
        json.text_if("ClientIP", self.client_ip);
        json.text_if("ObjectId", self.object_id);
        match draw.rng.u32(0..1000) {
            0..=2 => json.text("UserId", ""),
            3..=4 => json.text("UserId", "Not Available"),
            _ => json.text("UserId", self.user_id),
        }
    }
}

/// What any record may have on top.
fn oddities(draw: &mut Draw<'_>, json: &mut Json<'_>) {
    match draw.rng.u32(0..2000) {
        // A member that is there twice, with another value.
        0..=3 => json.text("Workload", "Exchange"),
        4..=5 => json.raw("ObjectId", "null"),
        6..=7 => json.raw("AppAccessContext", "{}"),
        8..=9 => json.text("Scope", "online"),
        10..=11 => json.number("Scope", 0),
        12 => json.raw("SizeInBytes", "2.0480e3"),
        13 => json.raw("ItemCount", "\"0\""),
        14 => json.raw("Subject", "\"lone \\ud83d surrogate and \\u0000 nul\""),
        15 => json.raw("ReservedField", "null"),
        16..=26 => {
            let session = draw.guid();
            let token = draw.base64(22);
            let app = draw.guid();
            json.object("AppAccessContext", |context| {
                context.text("AADSessionId", &session);
                context.text("ClientAppId", &app);
                context.text("CorrelationId", &session);
                context.text("UniqueTokenId", &token);
            });
        }
        _ => {}
    }
}
