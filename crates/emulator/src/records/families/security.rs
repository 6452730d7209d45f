//! Security and compliance: alerts (40), mail threats (28), investigations (64), cmdlets (18), data insights (52).
//!
//! Never delivers nested data as JSON where the service delivers it as JSON inside a text, up to three levels deep.

use super::super::draw::{Draw, timestamp};
use super::super::json::{Json, embedded};
use super::Head;

pub(super) fn alert(draw: &mut Draw<'_>, json: &mut Json<'_>) {
    let operation = draw.pick(&["AlertTriggered", "AlertEntityGenerated", "AlertUpdated"]);
    let alert = draw.guid();
    let head = Head {
        operation,
        record_type: 40,
        result: None,
        user_key: "SecurityComplianceAlerts",
        user_type: 4,
        workload: "SecurityComplianceCenter",
        client_ip: None,
        object_id: Some(&alert),
        user_id: "SecurityComplianceAlerts",
    };
    head.write(draw, json);
    let other = draw.other_user();
    json.text("AlertEntityId", &other.upn);
    json.text("AlertId", &alert);
    let link = draw.guid();
    json.array("AlertLinks", |list| list.item_object(|object| object.text("AlertLinkHref", &link)));
    json.text("AlertType", "System");
    json.text("Category", draw.pick(&["AccessGovernance", "DataLossPrevention", "MailFlow", "ThreatManagement"]));
    json.text("Comments", "New alert");
    let (at, operation_name) =
        (draw.time_before(4000), draw.pick(&["FileDownloaded", "New-InboxRule", "MailRedirect"]));
    let count = draw.rng.i64(1..90);
    let tenant = draw.tenant.id_text.clone();
    json.text(
        "Data",
        &embedded(|data| {
            data.text("etype", "User");
            data.text("eid", &other.upn);
            data.text("tid", &tenant);
            data.text("ts", &format!("{at}.0000000Z"));
            data.text("te", &format!("{at}.0000000Z"));
            data.text("op", operation_name);
            data.text("wl", "Exchange");
            data.number("tdc", count);
            data.text("rid", &link);
            data.text(
                "dm",
                &embedded(|deeper| {
                    deeper.text("path", "\\\\server\\share");
                    deeper.text("note", &embedded(|deepest| deepest.text("quote", "\"three levels\"")));
                }),
            );
        }),
    );
    json.text("EntityType", "User");
    json.text(
        "Name",
        draw.pick(&[
            "Unusual volume of file deletion",
            "Creation of forwarding/redirect rule",
            "Élévation de privilège Exchange",
        ]),
    );
    json.text("PolicyId", &draw.tenant_guid(80));
    json.text("Severity", draw.pick(&["Low", "Medium", "High"]));
    json.text("Source", "Office 365 Security & Compliance");
    json.text("Status", draw.pick(&["Active", "Investigating", "Resolved", "Dismissed"]));
}

pub(super) fn threat_mail(draw: &mut Draw<'_>, json: &mut Json<'_>) {
    let object = draw.guid();
    let head = Head {
        operation: "TIMailData",
        record_type: 28,
        result: None,
        user_key: "ThreatIntel",
        user_type: 4,
        workload: "ThreatIntelligence",
        client_ip: None,
        object_id: Some(&object),
        user_id: "ThreatIntel",
    };
    head.write(draw, json);
    let files: Vec<_> = (0..draw.rng.usize(0..3)).map(|_| (draw.file_name(), draw.hex(64))).collect();
    json.array("AttachmentData", |list| {
        for (name, digest) in &files {
            list.item_object(|file| {
                file.text("FileName", name);
                file.text("FileType", "docx;xml;zip");
                file.number("FileVerdict", 1);
                file.text("MalwareFamily", "");
                file.text("SHA256", digest);
            });
        }
    });
    json.pairs(
        "AuthDetails",
        &[("SPF", "Pass"), ("DKIM", "None"), ("DMARC", "Best guess pass"), ("Comp Auth", "pass")],
    );
    json.text("DeliveryAction", draw.pick(&["Delivered", "Blocked", "DeliveredAsSpam"]));
    json.text("DetectionMethod", draw.pick(&["Fingerprint matching", "URL detonation reputation", "Spoof DMARC"]));
    json.text("DetectionType", draw.pick(&["Inline", "Delayed", "ZAP"]));
    json.text("Directionality", "InBound");
    json.text(
        "EventDeepLink",
        &format!("https://security.microsoft.com/?hash=/threatexplorer?messageParams={object},{object}"),
    );
    json.text("InternetMessageId", &format!("<{}@mail.fabrikam.example>", draw.hex(24)));
    json.text("LatestDeliveryLocation", "JunkFolder");
    let at = timestamp(draw.event - 900);
    json.text("MessageTime", &at);
    json.text("NetworkMessageId", &object);
    json.text("OriginalDeliveryLocation", "Inbox");
    json.text("P1Sender", "bounce@fabrikam.example");
    json.text("P2Sender", "\"CEO\" <ceo@fabrikam.example>");
    json.text("PhishConfidenceLevel", "High");
    json.number("Policy", draw.rng.i64(1..16));
    json.number("PolicyAction", draw.rng.i64(0..9));
    let recipient = draw.other_user().upn;
    json.array("Recipients", |list| list.item_text(&recipient));
    json.text("SenderIp", &draw.ipv4());
    json.text("Subject", &draw.subject());
    json.array("SystemOverrides", |_| {});
    json.text("ThreatsAndDetectionTech", "[\"Phish: [URL malicious reputation]\",\"Spam: []\"]");
    json.text("Verdict", draw.pick(&["Phish", "Malware", "Spam"]));
}

pub(super) fn investigation(draw: &mut Draw<'_>, json: &mut Json<'_>) {
    let id = draw.hex(16);
    let head = Head {
        operation: "AirInvestigationData",
        record_type: 64,
        result: None,
        user_key: "AirInvestigation",
        user_type: 4,
        workload: "AirInvestigation",
        client_ip: None,
        object_id: Some(&id),
        user_id: "AirInvestigation",
    };
    head.write(draw, json);
    let other = draw.other_user();
    let actions: Vec<_> = (0..draw.rng.usize(1..4)).map(|_| draw.guid()).collect();
    json.array("Actions", |list| {
        for action in &actions {
            let fill = |object: &mut Json<'_>| {
                object.text("ActionId", action);
                object.text("ActionStatus", "Pending");
            };
            // The same member holds texts of JSON, and sometimes objects (audit-schema.md §8).
            if action.starts_with('0') { list.item_object(fill) } else { list.item_text(&embedded(fill)) }
        }
    });
    let digest = draw.hex(64);
    let data = embedded(|data| {
        data.text("Version", "3.0");
        data.array("Entities", |list| {
            list.item_object(|entity| {
                entity.text("Type", "mailbox");
                entity.text("MailboxPrimaryAddress", &other.upn);
            });
            list.item_object(|entity| {
                entity.text("Type", "filehash");
                entity.text("Value", &digest);
            });
        });
    });
    json.text("Data", &data);
    json.text(
        "DeeplinkURL",
        &format!("https://security.microsoft.com/mtp-investigation/urn:ZappedUrlInvestigation:{id}"),
    );
    json.text("InvestigationId", &format!("urn:ZappedUrlInvestigation:{id}"));
    json.text("InvestigationName", "Mail with malicious urls is zapped");
    json.text("InvestigationType", "ZappedUrlInvestigation");
    json.text("LastUpdateTimeUtc", &timestamp(draw.event));
    json.text("StartTimeUtc", &timestamp(draw.event - 3600));
    json.text("Status", draw.pick(&["Pending Approval", "Remediated", "Partially Investigated"]));
}

pub(super) fn compliance_cmdlet(draw: &mut Draw<'_>, json: &mut Json<'_>) {
    let user = draw.user.clone();
    let operation =
        draw.pick(&["Get-DlpCompliancePolicy", "New-ComplianceSearch", "Get-ComplianceTag", "Set-CaseHoldRule"]);
    let head = Head {
        operation,
        record_type: 18,
        result: Some("Success"),
        user_key: &user.puid,
        user_type: 2,
        workload: "SecurityComplianceCenter",
        client_ip: None,
        object_id: Some(""),
        user_id: &user.upn,
    };
    head.write(draw, json);
    json.number("SecurityComplianceCenterEventType", 0);
    json.text("ClientApplication", "EMC");
    json.text("ClientRequestId", &draw.guid());
    json.text("CmdletVersion", "");
    json.text("EffectiveOrganization", &draw.tenant.domain);
    json.text("NonPIIParameters", "-Identity \"<SNIP-PII>\" -Confirm:$false");
    // One text, where Exchange has a list of pairs.
    json.text("Parameters", &format!("-Identity \"{}\" -ContentMatchQuery \"subject:'R&D'\"", user.display_name()));
    json.text("StartTime", &timestamp(draw.event));
    json.text("UserServicePlan", "");
}

pub(super) fn data_insights(draw: &mut Draw<'_>, json: &mut Json<'_>) {
    let user = draw.user.clone();
    let (operation, data_type) = draw.pick(&[
        ("Get-DlpSiDetectionsReport", "DlpSiDetectionsReport"),
        ("SearchDataInsightsSubscription", "DataInsightsSubscription"),
        ("ValidaterbacAccessCheck", "rbacAccessCheck"),
        ("SearchMtpStatus", "MtpStatus"),
    ]);
    let head = Head {
        operation,
        record_type: 52,
        result: None,
        user_key: &user.upn,
        user_type: 5,
        workload: "SecurityComplianceCenter",
        client_ip: None,
        object_id: None,
        user_id: &user.upn,
    };
    head.write(draw, json);
    json.text("AadAppId", "80ccca67-54bd-44ab-8625-4b79c4dc7775");
    json.text("DataType", data_type);
    json.text("DatabaseType", "Directory");
    let tenant = &draw.tenant.id_text;
    json.text(
        "RelativeUrl",
        &format!(
            "/DataInsights/DataInsightsService.svc/find/{data_type}?tenantid={tenant}&filter=IncludeDeleted%20eq%20True"
        ),
    );
    json.text("ResultCount", &draw.rng.u32(0..40).to_string());
}
