//! SharePoint and OneDrive: files (6), sharing (14), sites (4) and lists (36).
//!
//! Never sends `ItemType` or `EventSource` as the numbers their enumerations have: the feed sends the names.

use super::super::draw::{DEPARTMENTS, Draw};
use super::super::json::Json;
use super::Head;

/// Where something is, under one of the two workloads.
struct Place {
    workload: &'static str,
    site_url: String,
    folder: String,
}

fn place(draw: &mut Draw<'_>) -> Place {
    let short = draw.short_name().to_owned();
    if draw.rng.bool() {
        let upn = draw.user.upn.to_ascii_lowercase().replace(['@', '.'], "_");
        let folder = draw.pick(&["Documents", "Documents/Attachments", "Documents/Microsoft Teams Chat Files"]);
        let site_url = format!("https://{short}-my.sharepoint.com/personal/{upn}/");
        return Place { workload: "OneDrive", site_url, folder: folder.to_owned() };
    }
    let department = draw.pick(&DEPARTMENTS);
    let site_url = format!("https://{short}.sharepoint.com/sites/{department}/");
    let folder = draw.pick(&["Shared Documents", "Shared Documents/2026/Q3", "Freigegebene Dokumente/Entwürfe"]);
    Place { workload: "SharePoint", site_url, folder: folder.to_owned() }
}

fn head(draw: &mut Draw<'_>, json: &mut Json<'_>, operation: &str, record_type: i64, place: &Place, object: &str) {
    let user = draw.user.clone();
    let ip = draw.client_ip();
    let (user_id, user_type) = match draw.rng.u32(0..100) {
        0..=3 => ("app@sharepoint", 5),
        4..=5 => ("SHAREPOINT\\system", 4),
        _ => (user.upn.as_str(), 0),
    };
    let key = format!("i:0h.f|membership|{}@live.com", user.puid.to_ascii_lowercase());
    let head = Head {
        operation,
        record_type,
        result: None,
        user_key: &key,
        user_type,
        workload: place.workload,
        client_ip: ip.as_deref(),
        object_id: Some(object),
        user_id,
    };
    head.write(draw, json);
    json.text("CorrelationId", &draw.session());
    json.text("EventSource", draw.pick(&["SharePoint", "SharePoint", "ObjectModel"]));
}

fn tail(draw: &mut Draw<'_>, json: &mut Json<'_>, place: &Place) {
    let site = crate::seed::text_key(&place.site_url);
    json.text("Site", &draw.tenant_guid(site));
    json.text("UserAgent", draw.user_agent());
    json.text("WebId", &draw.tenant_guid(site ^ 1));
}

pub(super) fn file_operation(draw: &mut Draw<'_>, json: &mut Json<'_>) {
    let operation = draw.pick(&FILE_OPERATIONS);
    let place = place(draw);
    let name = draw.file_name();
    let object = format!("{}{}/{name}", place.site_url, place.folder);
    head(draw, json, operation, 6, &place, &object);
    let folder = operation.starts_with("Folder");
    json.text("ItemType", if folder { "Folder" } else { "File" });
    json.text("ListId", &draw.tenant_guid(60));
    json.text("ListItemUniqueId", &draw.guid());
    tail(draw, json, &place);
    if draw.chance(0.4) {
        json.text("ApplicationId", "d3590ed6-52b3-4102-aeff-aad2292ab01c");
        json.text("ApplicationDisplayName", "Microsoft Office");
        json.text("BrowserName", "Edge");
        json.text("BrowserVersion", "138.0.0.0");
        json.flag("IsManagedDevice", draw.rng.bool());
        json.text("Platform", "WinDesktop");
    }
    if operation == "FileSyncUploadedFull" {
        json.text("MachineDomainInfo", &draw.tenant_guid(61));
        json.text("MachineId", &draw.guid());
    }
    json.flag("HighPriorityMediaProcessing", false);
    json.text("SiteUrl", &place.site_url);
    json.text("SourceFileExtension", name.rsplit('.').next().unwrap_or_default());
    json.text("SourceFileName", &name);
    json.text("SourceRelativeUrl", &place.folder);
    if matches!(operation, "FileMoved" | "FileCopied" | "FileRenamed") {
        json.text("DestinationFileExtension", "docx");
        json.text("DestinationFileName", &draw.file_name());
        json.text("DestinationRelativeUrl", &place.folder);
    }
    if draw.chance(0.1) {
        // A number that comes as text.
        let size = draw.rng.u32(1..90_000_000);
        json.text("FileSizeBytes", &size.to_string());
    }
}

pub(super) fn sharing(draw: &mut Draw<'_>, json: &mut Json<'_>) {
    let operation = draw.pick(&[
        "SharingSet",
        "SharingInheritanceBroken",
        "AnonymousLinkCreated",
        "SecureLinkUsed",
        "AddedToGroup",
        "SharingRevoked",
    ]);
    let place = place(draw);
    let name = draw.file_name();
    let object = format!("{}{}/{name}", place.site_url, place.folder);
    head(draw, json, operation, 14, &place, &object);
    json.text("ItemType", "File");
    json.text("ListItemUniqueId", &draw.guid());
    tail(draw, json, &place);
    let level = draw.pick(&["Read", "Limited Access", "Contribute", "Edit"]);
    json.text("EventData", &format!("<Type>{level}</Type><MembersCanShareApplied>False</MembersCanShareApplied>"));
    json.text("SiteUrl", &place.site_url);
    json.text("SourceFileExtension", name.rsplit('.').next().unwrap_or_default());
    json.text("SourceFileName", &name);
    json.text("SourceRelativeUrl", &place.folder);
    let guest = draw.chance(0.3);
    let target = draw.other_user();
    let target_name = if guest { format!("{}#ext#", target.upn.replace('@', "_")) } else { target.upn };
    json.text("TargetUserOrGroupName", &target_name);
    json.text("TargetUserOrGroupType", if guest { "Guest" } else { "Member" });
    json.text("UniqueSharingId", &draw.guid());
}

pub(super) fn site(draw: &mut Draw<'_>, json: &mut Json<'_>) {
    let operation = draw.pick(&[
        "PageViewed",
        "SiteCollectionCreated",
        "SiteCollectionQuotaModified",
        "AddedToGroup",
        "WebMembersCanShareModified",
    ]);
    let place = place(draw);
    let object = place.site_url.clone();
    head(draw, json, operation, 4, &place, &object);
    json.text("ItemType", draw.pick(&["Page", "Site", "Web"]));
    tail(draw, json, &place);
    if operation != "PageViewed" {
        let group = format!("{} Owners", draw.pick(&DEPARTMENTS));
        json.text("EventData", &format!("<Group>{group}</Group>"));
        json.changes("ModifiedProperties", &[("StorageQuota", "26214400", "1048576"), ("Name", &group, "")]);
    }
    if draw.chance(0.2) {
        json.text("CustomEvent", "");
    }
    json.flag("IsWorkflow", false);
}

pub(super) fn list_operation(draw: &mut Draw<'_>, json: &mut Json<'_>) {
    let operation =
        draw.pick(&["ListUpdated", "ListViewed", "ListColumnCreated", "ListItemCreated", "ListItemUpdated"]);
    let place = place(draw);
    let title = draw.pick(&["Issue tracker", "Aufgaben", "Documents", "TaxonomyHiddenList", "Assets & licences"]);
    let object = format!("{}Lists/{title}", place.site_url);
    head(draw, json, operation, 36, &place, &object);
    json.text("ItemType", "List");
    json.text("ListId", &draw.tenant_guid(62));
    tail(draw, json, &place);
    json.number("DoNotDistributeEvent", 1);
    json.text("CustomizedDoclib", "False");
    json.text("FromApp", "False");
    json.flag("IsDocLib", title == "Documents");
    json.flag("IsHiddenList", title == "TaxonomyHiddenList");
    json.text("ItemCount", &draw.rng.u32(0..20_000).to_string());
    json.text("ListBaseTemplateType", "100");
    json.text("ListBaseType", "GenericList");
    json.text("ListTitle", title);
    json.text("ListName", title);
    json.text("ListUrl", &format!("Lists/{title}"));
    json.text("ListColor", "");
    json.text("ListIcon", "");
    let created_by = format!("{}Z", draw.time_before(80_000_000));
    json.text("CreatedDate", &created_by);
}

const FILE_OPERATIONS: [&str; 16] = [
    "FileAccessed",
    "FileAccessed",
    "FileAccessed",
    "FileAccessedExtended",
    "FilePreviewed",
    "FilePreviewed",
    "FileModified",
    "FileModified",
    "FileModifiedExtended",
    "FileUploaded",
    "FileDownloaded",
    "FileSyncUploadedFull",
    "FileRenamed",
    "FileMoved",
    "FolderCreated",
    "FileDeleted",
];
