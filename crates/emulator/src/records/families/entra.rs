//! Entra: sign-ins (15), directory changes (8) and risk detections (294).
//!
//! Never says `ResultStatus` where it means the sign-in's outcome: that stands in `LogonError` and `ErrorNumber`.

use super::super::draw::{DEPARTMENTS, Draw, timestamp};
use super::super::json::{Json, embedded};
use super::Head;

pub(super) fn sign_in(draw: &mut Draw<'_>, json: &mut Json<'_>) {
    let failed = draw.chance(0.13);
    let (error, reason) = if failed {
        draw.pick(&[
            ("50126", "InvalidUserNameOrPassword"),
            ("50053", "IdsLocked"),
            ("50076", "UserStrongAuthClientAuthNRequiredInterrupt"),
            ("50034", "UserAccountNotFound"),
            ("53003", "BlockedByConditionalAccess"),
        ])
    } else {
        ("0", "")
    };
    let unknown_user = error == "50034";
    let user = draw.user.clone();
    let ip = draw.client_ip();
    let app = draw.pick(&APPS);
    let user_id = if unknown_user { "Not Available" } else { &user.upn };
    let object_id = user.object_id();
    let head = Head {
        operation: if failed { "UserLoginFailed" } else { "UserLoggedIn" },
        record_type: 15,
        result: Some(if failed && draw.rng.bool() { "Failed" } else { "Success" }),
        user_key: if unknown_user { "Not Available" } else { &object_id },
        user_type: 0,
        workload: "AzureActiveDirectory",
        client_ip: ip.as_deref(),
        object_id: Some(app),
        user_id,
    };
    head.write(draw, json);
    json.number("AzureActiveDirectoryEventType", 1);
    let detail = if failed { "UserError" } else { draw.pick(&["Success", "Redirect"]) };
    let request =
        draw.pick(&["OAuth2:Authorize", "OAuth2:Token", "Login:login", "Saml2:processrequest", "SAS:ProcessAuth"]);
    json.pairs(
        "ExtendedProperties",
        &[("ResultStatusDetail", detail), ("UserAgent", draw.user_agent()), ("RequestType", request)],
    );
    json.array("ModifiedProperties", |_| {});
    actors(json, "Actor", &[(&object_id, 0), (user_id, 5)]);
    let tenant = draw.tenant.id_text.clone();
    json.text("ActorContextId", &tenant);
    json.text("ActorIpAddress", ip.as_deref().unwrap_or_default());
    json.text("InterSystemsId", &draw.session());
    json.text("IntraSystemId", &draw.guid());
    json.text("SupportTicketId", "");
    actors(json, "Target", &[(app, 0)]);
    json.text("TargetContextId", &tenant);
    json.text("ApplicationId", app);
    device(draw, json);
    json.text("ErrorNumber", error);
    if failed {
        json.text("LogonError", reason);
    }
}

fn device(draw: &mut Draw<'_>, json: &mut Json<'_>) {
    let os = draw.pick(&["Windows 10", "Windows11", "MacOs", "Ios", "Android", "Linux"]);
    let browser = draw.pick(&["Edge", "Chrome", "Safari", "Other", "Firefox"]);
    let session = draw.session();
    if draw.chance(0.6) {
        json.pairs(
            "DeviceProperties",
            &[("OS", os), ("BrowserType", browser), ("IsCompliantAndManaged", "False"), ("SessionId", &session)],
        );
        return;
    }
    let (id, name) = (draw.guid(), format!("DESKTOP-{}", draw.hex(7).to_ascii_uppercase()));
    let trust = draw.pick(&["0", "1", "2"]);
    json.pairs(
        "DeviceProperties",
        &[
            ("Id", &id),
            ("DisplayName", &name),
            ("OS", os),
            ("BrowserType", browser),
            ("IsCompliant", "True"),
            ("IsCompliantAndManaged", "True"),
            ("SessionId", &session),
            ("TrustType", trust),
        ],
    );
}

pub(super) fn directory(draw: &mut Draw<'_>, json: &mut Json<'_>) {
    let (operation, category, object) = draw.pick(&DIRECTORY_OPERATIONS);
    let user = draw.user.clone();
    let other = draw.other_user();
    let target = if object == "User" { other.object_id() } else { draw.guid() };
    let object_id = if object == "User" { other.upn.clone() } else { target.clone() };
    let key = format!("{}@{}", user.puid, draw.tenant.domain);
    // An administrator is written as a regular user here: Entra never says 2.
    let head = Head {
        operation: if draw.chance(0.05) { operation.trim_end_matches('.') } else { operation },
        record_type: 8,
        result: Some(draw.pick(&["Success", "Success", "success", "Success", "Failure"])),
        user_key: &key,
        user_type: 0,
        workload: "AzureActiveDirectory",
        client_ip: None,
        object_id: Some(&object_id),
        user_id: &user.upn,
    };
    head.write(draw, json);
    json.number("AzureActiveDirectoryEventType", 1);
    let correlation = draw.guid();
    let agent = draw.user_agent();
    let details = embedded(|inner| {
        inner.text("User-Agent", agent);
        inner.text("AppId", "00000003-0000-0000-c000-000000000000");
    });
    json.pairs(
        "ExtendedProperties",
        &[
            ("resultType", "Success"),
            ("auditEventCategory", category),
            ("nCloud", "<null>"),
            ("actorContextId", &draw.tenant.id_text),
            ("actorObjectId", &user.object_id()),
            ("actorObjectClass", "User"),
            ("actorUPN", &user.upn),
            ("actorPUID", &user.puid),
            ("teamName", "MSODS."),
            ("targetObjectId", &target),
            ("targetName", &other.display_name()),
            ("correlationId", &correlation),
            ("version", "2"),
            ("additionalDetails", &details),
        ],
    );
    modified(draw, json, object);
    let user_object = user.object_id();
    actors(
        json,
        "Actor",
        &[(&user.upn, 5), (&user.puid, 3), (&format!("User_{user_object}"), 2), (&user_object, 2), ("User", 2)],
    );
    let tenant = draw.tenant.id_text.clone();
    json.text("ActorContextId", &tenant);
    json.text("ActorIpAddress", if draw.chance(0.3) { "" } else { "<null>" });
    json.text("InterSystemsId", &correlation);
    json.text("IntraSystemId", &draw.guid());
    json.text("SupportTicketId", "");
    actors(
        json,
        "Target",
        &[
            (&format!("{object}_{target}"), 2),
            (&target, 2),
            (object, 2),
            (&object_id, if object == "User" { 5 } else { 1 }),
        ],
    );
    json.text("TargetContextId", &tenant);
}

/// Old and new values are JSON in text; now and then a list of group members that makes the record tens of kilobytes.
fn modified(draw: &mut Draw<'_>, json: &mut Json<'_>, object: &str) {
    let department = draw.pick(&DEPARTMENTS);
    let old = draw.pick(&DEPARTMENTS);
    let count = match draw.rng.u32(0..1000) {
        0..=14 => draw.rng.u32(250..700),
        15..=60 => draw.rng.u32(20..60),
        _ => 0,
    };
    let members: Vec<String> = (0..count).map(|_| draw.guid()).collect();
    let list = if members.is_empty() { "[]".to_owned() } else { format!("[\"{}\"]", members.join("\",\"")) };
    let (new, old) = (format!("[\"{department}\"]"), format!("[\"{old}\"]"));
    let role = draw.guid();
    json.changes(
        "ModifiedProperties",
        &[
            ("Department", &new, &old),
            (
                if object == "Group" { "Group.Members" } else { "Role.ObjectID" },
                if count > 0 { &list } else { &role },
                "",
            ),
            ("Included Updated Properties", "Department", ""),
            ("TargetId.UserType", "Member", ""),
        ],
    );
}

pub(super) fn risk_detection(draw: &mut Draw<'_>, json: &mut Json<'_>) {
    let user = draw.user.clone();
    let ip = draw.ipv4();
    let head = Head {
        operation: "UserRiskDetection",
        record_type: 294,
        result: Some("Success"),
        user_key: &user.object_id(),
        user_type: 4,
        workload: "AzureActiveDirectory",
        client_ip: Some(&ip),
        object_id: None,
        user_id: &user.upn,
    };
    head.write(draw, json);
    let at = format!("{}Z", timestamp(draw.event - 600));
    json.text("Activity", "signin");
    json.text("ActivityDateTime", &at);
    json.text("DetectedDateTime", &at);
    json.text("LastUpdatedDateTime", &format!("{}Z", draw.creation_time));
    let agent = draw.user_agent();
    let info = embedded(|inner| {
        inner.text("Key", "userAgent");
        inner.text("Value", agent);
    });
    json.text("AdditionalInfo", &format!("[{info}]"));
    json.text("CorrelationId", &draw.guid());
    json.text("RequestId", &draw.guid());
    json.text("DetectionTimingType", draw.pick(&["realtime", "offline"]));
    json.text("RiskDetail", "none");
    json.text(
        "RiskEventType",
        draw.pick(&["unfamiliarFeatures", "anonymizedIPAddress", "leakedCredentials", "unlikelyTravel"]),
    );
    json.text("RiskId", &draw.hex(64));
    json.text("RiskLevel", draw.pick(&["low", "medium", "high"]));
    json.text("RiskState", "atRisk");
    json.text("Source", "IdentityProtection");
    json.text("TokenIssuerType", "AzureAD");
    json.text("UserDisplayName", &user.display_name());
    let (latitude, longitude) = (draw.rng.i32(-60..60), draw.rng.i32(-180..180));
    json.object("Location", |location| {
        location.text("City", "Springfield");
        location.text("CountryOrRegion", "US");
        location.text("State", "");
        location.object("GeoCoordinates", |geo| {
            geo.text("Altitude", "0");
            geo.text("Latitude", &format!("{latitude}.25"));
            geo.text("Longitude", &format!("{longitude}.5"));
        });
    });
}

fn actors(json: &mut Json<'_>, name: &str, list: &[(&str, i64)]) {
    json.array(name, |array| {
        for (id, kind) in list {
            array.item_object(|actor| {
                actor.text("ID", id);
                actor.number("Type", *kind);
            });
        }
    });
}

const APPS: [&str; 6] = [
    "00000002-0000-0ff1-ce00-000000000000",
    "00000003-0000-0ff1-ce00-000000000000",
    "4765445b-32c6-49b0-83e6-1d93765276ca",
    "5e3ce6c0-2b1f-4285-8d4b-75ee78787346",
    "c44b4083-3bb0-49c1-b47d-974e53cbdf3c",
    "Unknown",
];

const DIRECTORY_OPERATIONS: [(&str, &str, &str); 12] = [
    ("Add user.", "UserManagement", "User"),
    ("Update user.", "UserManagement", "User"),
    ("Update user.", "UserManagement", "User"),
    ("Delete user.", "UserManagement", "User"),
    ("Reset user password.", "UserManagement", "User"),
    ("Add member to group.", "GroupManagement", "Group"),
    ("Update group.", "GroupManagement", "Group"),
    ("Add member to role.", "RoleManagement", "User"),
    ("Consent to application.", "ApplicationManagement", "ServicePrincipal"),
    ("Add service principal.", "ApplicationManagement", "ServicePrincipal"),
    ("Update application – Certificates and secrets management ", "ApplicationManagement", "Application"),
    ("Update StsRefreshTokenValidFrom Timestamp.", "UserManagement", "User"),
];
