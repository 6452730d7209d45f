//! Exchange: administrator cmdlets (1), single items (2), groups of items (3), items accessed (50), aggregates (19).
//!
//! Never gives `ModifiedProperties` one type: a cmdlet has pairs of values there, a mailbox item plain names.

use super::super::draw::Draw;
use super::super::json::Json;
use super::Head;

pub(super) fn admin(draw: &mut Draw<'_>, json: &mut Json<'_>) {
    let system = draw.chance(0.6);
    let operation = draw.pick(&CMDLETS);
    let forest = format!("EURPR0{}A00{}.PROD.OUTLOOK.COM", draw.rng.u32(1..9), draw.rng.u32(1..9));
    let domain = &draw.tenant.domain;
    let mailbox =
        format!("QuarantineOrgShard{{{}}}", draw.tenant_guid(50 + draw.event.unsigned_abs() % 5).to_uppercase());
    let person = draw.other_user();
    let target = if system { mailbox } else { person.display_name() };
    let object = format!("{forest}/Microsoft Exchange Hosted Organizations/{domain}/{target}");
    let user = draw.user.clone();
    let user_id =
        if system { "NT AUTHORITY\\SYSTEM (Microsoft.Exchange.ServiceHost)".to_owned() } else { user.upn.clone() };
    let ip = if system { None } else { draw.client_ip() };
    let head = Head {
        operation,
        record_type: 1,
        result: Some(if draw.chance(0.03) { "False" } else { "True" }),
        user_key: &user_id,
        user_type: if system { 3 } else { 2 },
        workload: "Exchange",
        client_ip: ip.as_deref(),
        object_id: Some(&object),
        user_id: &user_id,
    };
    head.write(draw, json);
    json.text("AppId", "");
    json.text("ClientAppId", "");
    json.flag("ExternalAccess", system);
    json.text("OrganizationName", domain);
    json.text("OriginatingServer", &server(draw));
    let count = draw.rng.usize(1..PARAMETERS.len());
    json.array("Parameters", |list| {
        list.item_object(|pair| {
            pair.text("Name", "Identity");
            pair.text("Value", &object);
        });
        for (name, value) in PARAMETERS.iter().take(count) {
            list.item_object(|pair| {
                pair.text("Name", name);
                pair.text("Value", value);
            });
        }
    });
    if draw.chance(0.2) {
        json.changes("ModifiedProperties", &[("HiddenFromAddressListsEnabled", "True", "False")]);
    }
}

pub(super) fn item(draw: &mut Draw<'_>, json: &mut Json<'_>) {
    let operation =
        draw.pick(&["Create", "Update", "Send", "SendAs", "SoftDelete", "MoveToDeletedItems", "UpdateInboxRules"]);
    let owner = mailbox_head(draw, json, operation, 2);
    let subject = draw.subject();
    let (id, internet) = (item_id(draw), message_id(draw));
    let folder = draw.pick(&FOLDERS);
    let folder_id = item_id(draw);
    let size = draw.rng.i64(900..9_000_000);
    let attachment = draw.chance(0.3).then(|| format!("{} ({size}b)", draw.file_name()));
    json.object("Item", |item| {
        item.text_if("Attachments", attachment.as_deref());
        item.text("Id", &id);
        item.text("ImmutableId", "");
        item.text("InternetMessageId", &internet);
        item.flag("IsRecord", false);
        item.object("ParentFolder", |parent| {
            parent.text("Id", &folder_id);
            parent.text("Path", folder);
        });
        item.number("SizeInBytes", size);
        item.text("Subject", &subject);
    });
    if operation == "Update" {
        json.array("ModifiedProperties", |list| {
            list.item_text("RecipientCollection");
            list.item_text("ItemClass");
        });
    }
    json.flag("SaveToSentItems", true);
    if operation == "SendAs" {
        json.text("SendAsUserSmtp", &owner);
        json.text("SendAsUserMailboxGuid", &draw.guid());
    }
    if operation.starts_with("Send") {
        let count = if draw.chance(0.01) { draw.rng.i64(40..300) } else { draw.rng.i64(1..4) };
        let recipients: Vec<_> = (0..count).map(|_| draw.other_user()).collect();
        json.number("recipientCount", count);
        json.array("recipientList", |list| {
            for recipient in &recipients {
                list.item_object(|address| {
                    address.text("Address", &recipient.upn);
                    address.text("Name", &recipient.display_name());
                });
            }
        });
    }
}

pub(super) fn item_group(draw: &mut Draw<'_>, json: &mut Json<'_>) {
    let operation = draw.pick(&["SoftDelete", "HardDelete", "MoveToDeletedItems", "Move"]);
    mailbox_head(draw, json, operation, 3);
    let count = if draw.chance(0.02) { draw.rng.usize(15..60) } else { draw.rng.usize(1..3) };
    let items: Vec<_> = (0..count).map(|_| (item_id(draw), message_id(draw), draw.subject())).collect();
    let (folder, folder_id) = (draw.pick(&FOLDERS), item_id(draw));
    json.array("AffectedItems", |list| {
        for (id, internet, subject) in &items {
            list.item_object(|item| {
                item.text("Id", id);
                item.text("InternetMessageId", internet);
                item.object("ParentFolder", |parent| {
                    parent.text("Id", &folder_id);
                    parent.text("Path", folder);
                });
                item.text("Subject", subject);
            });
        }
    });
    json.flag("CrossMailboxOperation", false);
    json.object("Folder", |parent| {
        parent.text("Id", &folder_id);
        parent.text("Path", folder);
    });
}

pub(super) fn items_accessed(draw: &mut Draw<'_>, json: &mut Json<'_>) {
    mailbox_head(draw, json, "MailItemsAccessed", 50);
    let access = draw.pick(&["Bind", "Bind", "Sync"]);
    json.pairs("OperationProperties", &[("MailAccessType", access), ("IsThrottled", "False")]);
    let folders = draw.rng.usize(1..4);
    let mut total = 0;
    let lists: Vec<_> = (0..folders)
        .map(|_| {
            let count = if draw.chance(0.01) { draw.rng.usize(20..90) } else { draw.rng.usize(1..4) };
            total += count;
            let items: Vec<_> = (0..count)
                .map(|_| {
                    (
                        message_id(draw),
                        draw.rng.i64(3000..400_000),
                        format!("AAkALgAAAAAAHYQDEapmEc2byACqAC-EWg0A{}AAA=", draw.base64(16)),
                    )
                })
                .collect();
            (item_id(draw), draw.pick(&FOLDERS), items)
        })
        .collect();
    json.array("Folders", |array| {
        for (id, path, items) in &lists {
            array.item_object(|folder| {
                folder.array("FolderItems", |array| {
                    for (internet, size, immutable) in items {
                        array.item_object(|item| {
                            item.text("ImmutableId", immutable);
                            item.text("InternetMessageId", internet);
                            item.number("SizeInBytes", *size);
                        });
                    }
                });
                folder.text("Id", id);
                folder.text("Path", path);
            });
        }
    });
    json.number("OperationCount", i64::try_from(total).unwrap_or(0));
}

pub(super) fn aggregated_operation(draw: &mut Draw<'_>, json: &mut Json<'_>) {
    mailbox_head(draw, json, "MailItemsAccessed", 19);
    json.number("OperationCount", draw.rng.i64(2..5000));
    json.number("AggregateDurationInSeconds", 120);
}

/// The members all mailbox records share; gives back the mailbox's owner.
fn mailbox_head(draw: &mut Draw<'_>, json: &mut Json<'_>, operation: &str, record_type: i64) -> String {
    let user = draw.user.clone();
    let owner = if draw.chance(0.85) { user.clone() } else { draw.other_user() };
    let ip = draw.client_ip();
    let head = Head {
        operation,
        record_type,
        result: Some(draw.pick(&["Succeeded", "Succeeded", "Succeeded", "Succeeded", "Failed", "PartiallySucceeded"])),
        user_key: &user.puid,
        user_type: 0,
        workload: "Exchange",
        client_ip: ip.as_deref(),
        object_id: None,
        user_id: &user.upn,
    };
    head.write(draw, json);
    json.text(
        "AppId",
        draw.pick(&["", "00000002-0000-0ff1-ce00-000000000000", "d3590ed6-52b3-4102-aeff-aad2292ab01c"]),
    );
    json.text_if("ClientIPAddress", ip.as_deref());
    json.text("ClientInfoString", draw.pick(&CLIENTS));
    json.text("ClientRequestId", &draw.guid());
    json.flag("ExternalAccess", false);
    json.number("InternalLogonType", 0);
    json.number("LogonType", if owner.upn == user.upn { 0 } else { 2 });
    json.text("LogonUserSid", &user.sid());
    json.text("MailboxGuid", &owner.seed.child(40).guid().to_string());
    json.text("MailboxOwnerSid", &owner.sid());
    json.text("MailboxOwnerUPN", &owner.upn);
    json.text("OrganizationName", &draw.tenant.domain);
    json.text("OriginatingServer", &server(draw));
    json.text("SessionId", &draw.session());
    owner.upn
}

/// Ends with a build in brackets, and often with a line feed (seen in recorded records).
fn server(draw: &mut Draw<'_>) -> String {
    let end = if draw.chance(0.3) { "\n" } else { "" };
    let (site, number, build) =
        (draw.pick(&["DB6PR04", "AM6PR04", "HE1PR01", "BN8PR12"]), draw.rng.u32(1000..6000), draw.rng.u32(1000..9999));
    format!("{site}MB{number} (15.20.{build}.0{:02}){end}", draw.rng.u32(10..40))
}

fn item_id(draw: &mut Draw<'_>) -> String {
    // The mailbox's part of an item id is the same in all of them.
    let mailbox = draw.user.seed.child(41).value();
    format!("LgAAAADn{mailbox:016x}kT6QpDfGkAQBoZ{mailbox:016x}Aw9AAAA{}AAAA", draw.base64(8))
}

fn message_id(draw: &mut Draw<'_>) -> String {
    format!(
        "<{}@{}.eurprd04.prod.outlook.com>",
        draw.hex(24).to_ascii_uppercase(),
        draw.pick(&["DB6PR04MB3206", "AM6PR04MB5112"])
    )
}

const FOLDERS: [&str; 6] =
    ["\\Inbox", "\\Sent Items", "\\Drafts", "\\Deleted Items", "\\Inbox\\Projekte", "\\Calendar"];

const CLIENTS: [&str; 4] = [
    "Client=OWA;Action=ViaProxy",
    "Client=MSExchangeRPC",
    "Client=Outlook-iOS/2.0;",
    "Client=REST;Client=RESTSystem;Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko)[NoUserAgent][AppId=d3590ed6-52b3-4102-aeff-aad2292ab01c];",
];

const CMDLETS: [&str; 10] = [
    "Set-Mailbox",
    "Set-Mailbox",
    "Set-MailboxPlan",
    "Set-User",
    "Add-MailboxPermission",
    "New-InboxRule",
    "Set-TransportConfig",
    "Set-OwaMailboxPolicy",
    "Remove-DistributionGroupMember",
    "Install-DataClassificationConfig",
];

const PARAMETERS: [(&str, &str); 12] = [
    ("DomainController", ""),
    ("Force", "True"),
    ("RecoverableItemsQuota", "30 GB (32,212,254,720 bytes)"),
    ("Arbitration", "True"),
    ("ProhibitSendQuota", "99 GB (106,300,440,576 bytes)"),
    ("SCLDeleteEnabled", "False"),
    ("UseDatabaseQuotaDefaults", "False"),
    ("IssueWarningQuota", "90 GB (96,636,764,160 bytes)"),
    ("PrivacyStatementURL", "http://go.microsoft.com/fwlink/?LinkID=259417&clcid=0x409"),
    ("ErrorAction", "Stop"),
    ("AccessRights", "FullAccess"),
    ("SupervisionTags", "Reject;Allow"),
];
