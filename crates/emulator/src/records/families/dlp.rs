//! Data loss prevention: matches in SharePoint (11), mail (13) and on endpoints (63).
//!
//! Never holds a real secret: detected values are test card numbers and made-up words in the places where real ones
//! stand.

use super::super::draw::{Draw, timestamp};
use super::super::json::Json;
use super::Head;

pub(super) fn sharepoint(draw: &mut Draw<'_>, json: &mut Json<'_>) {
    let user = draw.user.clone();
    let name = draw.file_name();
    let site =
        format!("https://{}-my.sharepoint.com/personal/{}/", draw.short_name(), user.upn.replace(['@', '.'], "_"));
    let path = format!("{site}Documents/{name}");
    head(draw, json, 11, draw_workload(&path), &path, &user.upn);
    let (site_id, unique) = (draw.tenant_guid(90), draw.guid());
    let (created, modified) = (timestamp(draw.event - 90_000), timestamp(draw.event - 30));
    json.object("SharePointMetaData", |meta| {
        meta.text("DocumentLastModifier", &user.display_name());
        meta.text("DocumentSharer", &user.display_name());
        meta.text("FileName", &name);
        meta.text("FileOwner", &user.display_name());
        meta.text("FilePathUrl", &path);
        meta.text("From", &user.upn);
        meta.flag("IsViewableByExternalUsers", false);
        meta.text("LastModifiedTime", &modified);
        meta.text("SiteCollectionGuid", &site_id);
        meta.text("SiteCollectionUrl", &site);
        meta.text("UniqueID", &unique);
        meta.text("itemCreationTime", &created);
    });
    policies(draw, json);
    exception(draw, json);
}

pub(super) fn exchange(draw: &mut Draw<'_>, json: &mut Json<'_>) {
    let user = draw.user.clone();
    let message = format!("<{}@{}.eurprd04.prod.outlook.com>", draw.hex(32), "DB6PR04MB3206");
    head(draw, json, 13, "Exchange", &message, &user.upn);
    let subject = draw.subject();
    let recipients: Vec<_> = (0..draw.rng.usize(1..4)).map(|_| draw.other_user().upn).collect();
    let sent = timestamp(draw.event - 20);
    json.object("ExchangeMetaData", |meta| {
        meta.array("BCC", |_| {});
        meta.array("CC", |_| {});
        meta.text("From", &user.upn);
        meta.text("MessageID", &message);
        meta.number("RecipientCount", i64::try_from(recipients.len()).unwrap_or(0));
        meta.text("Sent", &sent);
        meta.text("Subject", &subject);
        meta.array("To", |list| recipients.iter().for_each(|to| list.item_text(to)));
        meta.text("UniqueID", &message);
    });
    policies(draw, json);
}

pub(super) fn endpoint(draw: &mut Draw<'_>, json: &mut Json<'_>) {
    let user = draw.user.clone();
    let name = draw.file_name();
    let path = format!("C:\\Users\\{}\\Desktop\\{name}", user.first);
    head(draw, json, 63, "Endpoint", &path, &user.upn);
    let findings = findings(draw);
    let withheld = draw.withheld;
    let mode = draw.rng.i64(1..6);
    let device = format!("desktop-{}", draw.hex(7));
    json.object("EndpointMetaData", |meta| {
        meta.text("DeviceName", &device);
        meta.number("EnforcementMode", mode);
        meta.text("FileExtension", name.rsplit('.').next().unwrap_or_default());
        meta.text("FileType", "Office");
        meta.array("SensitiveInformation", |list| sensitive(list, &findings, withheld));
    });
    policies(draw, json);
}

fn draw_workload(path: &str) -> &'static str {
    if path.contains("-my.") { "OneDrive" } else { "SharePoint" }
}

fn head(draw: &mut Draw<'_>, json: &mut Json<'_>, record_type: i64, workload: &str, object: &str, user: &str) {
    let head = Head {
        operation: draw.pick(&["DlpRuleMatch", "DlpRuleMatch", "DlpRuleMatch", "DlpRuleUndo", "DlpInfo"]),
        record_type,
        result: None,
        user_key: "DlpAgent",
        user_type: 4,
        workload,
        client_ip: None,
        object_id: Some(object),
        user_id: user,
    };
    head.write(draw, json);
    json.text("IncidentId", &draw.guid());
    json.flag("SensitiveInfoDetectionIsIncluded", !draw.withheld);
}

/// A sensitive type with what was found of it: name, type id, confidence, detected values with context.
struct Finding {
    name: &'static str,
    id: &'static str,
    confidence: i64,
    values: Vec<(String, String)>,
}

fn findings(draw: &mut Draw<'_>) -> Vec<Finding> {
    (0..draw.rng.usize(1..3))
        .map(|_| {
            let (name, id) = draw.pick(&[
                ("Credit Card Number", "50842eb7-edc8-4019-85dd-5a5c1f2bb085"),
                ("International Banking Account Number (IBAN)", "e7dc4711-11b7-4cb0-b88b-2c394a771f0e"),
                ("U.S. Social Security Number (SSN)", "a44669fe-0d48-453d-a9b1-2cc83f2cba77"),
            ]);
            let count = if draw.chance(0.02) { draw.rng.usize(40..120) } else { draw.rng.usize(1..4) };
            let values = (0..count)
                .map(|_| {
                    let value = format!("4111 1111 1111 {:04}", draw.rng.u32(0..10_000));
                    let context = format!("… please charge {value} / exp 12/29, \"{}\" …", draw.subject());
                    (value, context)
                })
                .collect();
            Finding { name, id, confidence: draw.pick(&[65, 75, 85]), values }
        })
        .collect()
}

fn sensitive(list: &mut Json<'_>, findings: &[Finding], withheld: bool) {
    for finding in findings {
        let count = i64::try_from(finding.values.len()).unwrap_or(0);
        list.item_object(|item| {
            item.text("ClassifierType", "Content");
            item.number("Confidence", finding.confidence);
            item.number("Count", count);
            item.text("Location", "Message Body");
            item.array("SensitiveInformationDetailedClassificationAttributes", |list| {
                for confidence in [65, 75, 85] {
                    list.item_object(|attribute| {
                        attribute.number("Confidence", confidence);
                        attribute.number("Count", count);
                        attribute.flag("IsMatch", confidence <= finding.confidence);
                    });
                }
            });
            if !withheld {
                item.object("SensitiveInformationDetections", |detections| detected(detections, finding));
            }
            item.text("SensitiveInformationTypeName", finding.name);
            item.text("SensitiveType", finding.id);
            item.number("UniqueCount", count);
        });
    }
}

fn detected(detections: &mut Json<'_>, finding: &Finding) {
    detections.array("DetectedValues", |list| {
        for (value, context) in &finding.values {
            list.item_object(|pair| {
                pair.text("Name", value);
                pair.text("Value", context);
            });
        }
    });
    detections.flag("ResultsTruncated", finding.values.len() > 100);
}

fn policies(draw: &mut Draw<'_>, json: &mut Json<'_>) {
    let findings = findings(draw);
    let withheld = draw.withheld;
    let (policy, rule) = (draw.tenant_guid(91), draw.tenant_guid(92));
    let severity = draw.pick(&["Low", "Medium", "High"]);
    json.array("PolicyDetails", |list| {
        list.item_object(|details| {
            details.text("PolicyId", &policy);
            details.text("PolicyName", "Default policy for cards & accounts");
            details.array("Rules", |rules| {
                rules.item_object(|object| {
                    object.array("Actions", |actions| {
                        actions.item_text("GenerateAlert");
                        actions.item_text("NotifyUser");
                    });
                    object.object("ConditionsMatched", |conditions| {
                        conditions.flag("ConditionMatchedInNewScheme", true);
                        conditions.pairs("OtherConditions", &[("AccessScope", "NotInOrganization")]);
                        conditions.array("SensitiveInformation", |list| sensitive(list, &findings, withheld));
                    });
                    object.text("ManagementRuleId", &rule);
                    object.text("RuleId", &rule);
                    object.text("RuleMode", "Enable");
                    object.text("RuleName", "Low volume of content detected");
                    object.text("Severity", severity);
                });
            });
        });
    });
}

/// Declared as a text, and shaped as an object (audit-schema.md §6).
fn exception(draw: &mut Draw<'_>, json: &mut Json<'_>) {
    match draw.rng.u32(0..10) {
        0 => json.object("ExceptionInfo", |info| {
            info.flag("FalsePositive", true);
            info.text("Justification", "test data");
            info.text("Reason", "Override");
        }),
        1 => json.text("ExceptionInfo", "{\"Reason\":\"Override\",\"FalsePositive\":false}"),
        _ => {}
    }
}
