//! What people do together: Teams (25), Copilot (261), Viva Engage (22), Planner (188 to 193), Forms (66).
//!
//! Never gives `MessageId` and `ThreadId` one type: they are 64-bit numbers in Viva Engage and text in Teams and
//! Copilot.

use super::super::draw::{DEPARTMENTS, Draw};
use super::super::json::{Json, embedded};
use super::Head;

pub(super) fn teams(draw: &mut Draw<'_>, json: &mut Json<'_>) {
    let operation = draw.pick(&[
        "MessageSent",
        "MessageSent",
        "ChatCreated",
        "MemberAdded",
        "TeamsSessionStarted",
        "ChannelAdded",
        "BotAddedToTeam",
        "MessageCreatedHasLink",
    ]);
    let user = draw.user.clone();
    let ip = draw.client_ip();
    let head = Head {
        operation,
        record_type: 25,
        result: None,
        user_key: &user.object_id(),
        user_type: 0,
        workload: "MicrosoftTeams",
        client_ip: ip.as_deref(),
        object_id: if operation == "TeamsSessionStarted" { Some("Unknown (Unknown)") } else { None },
        user_id: &user.upn,
    };
    head.write(draw, json);
    let team = format!("19:{}@thread.tacv2", draw.tenant_guid(70 + draw.event.unsigned_abs() % 9).replace('-', ""));
    let department = draw.pick(&DEPARTMENTS);
    let message = format!("{}", draw.event * 1000 + draw.rng.i64(0..1000));
    match operation {
        "MessageSent" | "MessageCreatedHasLink" => {
            json.text("ChatThreadId", &format!("19:{}@unq.gbl.spaces", draw.hex(32)));
            json.text("CommunicationType", draw.pick(&["OneOnOne", "GroupChat", "Team"]));
            json.array("ExtraProperties", |list| {
                for (key, value) in [
                    ("TimeZone", "Europe/Berlin"),
                    ("OsName", "windows"),
                    ("OsVersion", "11"),
                    ("Country", "de"),
                    ("ClientName", "skypeteams"),
                ] {
                    list.item_object(|pair| {
                        pair.text("Key", key);
                        pair.text("Value", value);
                    });
                }
            });
            json.text("MessageId", &message);
            json.text("MessageVersion", &message);
            json.number("MessageSizeInBytes", draw.rng.i64(20..28_000));
            if operation == "MessageCreatedHasLink" {
                json.array("MessageURLs", |list| list.item_text("https://example.com/a?b=1&c=<2>"));
            }
        }
        "TeamsSessionStarted" => json.text("ClientApplication", "Teams Desktop"),
        _ => {
            members(draw, json);
            json.text("TeamGuid", &team);
            json.text("TeamName", department);
            json.text("AADGroupId", &draw.tenant_guid(71));
            json.text("ChannelGuid", &team);
            json.text("ChannelName", "General");
            json.text("ChannelType", "Standard");
        }
    }
    json.text("ItemName", department);
}

fn members(draw: &mut Draw<'_>, json: &mut Json<'_>) {
    let count = if draw.chance(0.02) { draw.rng.usize(50..250) } else { draw.rng.usize(1..5) };
    let people: Vec<_> = (0..count).map(|_| (draw.other_user(), draw.pick(&[0, 0, 1, 2]))).collect();
    json.array("Members", |list| {
        for (person, role) in &people {
            list.item_object(|member| {
                member.text("DisplayName", &person.display_name());
                member.number("Role", *role);
                member.text("UPN", &person.upn);
            });
        }
    });
}

pub(super) fn copilot(draw: &mut Draw<'_>, json: &mut Json<'_>) {
    let user = draw.user.clone();
    let ip = draw.client_ip();
    let head = Head {
        operation: "CopilotInteraction",
        record_type: 261,
        result: None,
        user_key: &user.object_id(),
        user_type: 0,
        workload: "Copilot",
        client_ip: ip.as_deref(),
        object_id: None,
        user_id: &user.upn,
    };
    head.write(draw, json);
    json.text("ClientRegion", draw.pick(&["de", "us", "jp"]));
    json.text("CopilotLogVersion", "1.0.0.0");
    let host = draw.pick(&["Teams", "Word", "Excel", "Outlook", "Bing", "M365App"]);
    let short = draw.short_name().to_owned();
    let count = if draw.chance(0.02) { draw.rng.usize(20..80) } else { draw.rng.usize(0..4) };
    let resources: Vec<_> = (0..count).map(|_| (draw.guid(), draw.file_name(), draw.guid())).collect();
    let thread = format!("19:{}@thread.v2", draw.base64(44).replace(['+', '/'], "_"));
    let (prompt, answer) = (draw.event * 1000, draw.event * 1000 + 1713);
    json.object("CopilotEventData", |data| {
        data.array("AISystemPlugin", |list| {
            list.item_object(|plugin| {
                plugin.text("Id", "BingWebSearch");
                plugin.text("Name", "");
            });
        });
        data.array("AccessedResources", |list| {
            for (id, name, item) in &resources {
                list.item_object(|resource| {
                    resource.text("Action", "Read");
                    resource.text("Id", id);
                    resource.text("Name", name);
                    resource
                        .text("SiteUrl", &format!("https://{short}.sharepoint.com/sites/HR/Shared Documents/{name}"));
                    resource.text("Type", name.rsplit('.').next().unwrap_or_default());
                    resource.text("listItemUniqueId", item);
                });
            }
        });
        data.text("AppHost", host);
        data.array("Contexts", |list| {
            list.item_object(|context| {
                context.text("Id", &thread);
                context.text("Type", "TeamsChat");
            });
        });
        data.array("MessageIds", |_| {});
        data.array("Messages", |list| {
            for (id, is_prompt) in [(prompt, true), (answer, false)] {
                list.item_object(|message| {
                    message.text("Id", &id.to_string());
                    message.number("Size", 0);
                    message.flag("isPrompt", is_prompt);
                });
            }
        });
        data.array("ModelTransparencyDetails", |list| {
            list.item_object(|model| model.text("ModelName", "DEEP_LEO"));
        });
        data.text("ThreadId", &thread);
    });
}

pub(super) fn yammer(draw: &mut Draw<'_>, json: &mut Json<'_>) {
    let operation = draw.pick(&["MessageCreation", "MessageViewed", "GroupCreation", "ThreadViewed", "FileCreated"]);
    let user = draw.user.clone();
    let head = Head {
        operation,
        record_type: 22,
        result: Some("TRUE"),
        user_key: &user.puid,
        user_type: 0,
        workload: "Yammer",
        client_ip: None,
        object_id: Some(operation),
        user_id: &user.upn,
    };
    head.write(draw, json);
    // Beyond 2^53: a reader that takes numbers for doubles changes them.
    let large = |draw: &mut Draw<'_>| 9_007_199_254_740_993 + draw.rng.i64(0..9_000_000_000_000_000);
    json.text("ActorUserId", &user.upn);
    json.number("ActorYammerUserId", large(draw));
    json.number("MessageId", large(draw));
    json.number("ThreadId", large(draw));
    json.number("YammerNetworkId", 5_846_122_496_000_000_001 + i64::from(draw.tenant.seats));
    json.text("GroupName", draw.pick(&DEPARTMENTS));
    json.flag("IsSoftDelete", false);
    if operation == "FileCreated" {
        json.number("FileId", large(draw));
        json.text("FileName", &draw.file_name());
    }
    json.number("VersionId", large(draw));
}

pub(super) fn planner(draw: &mut Draw<'_>, json: &mut Json<'_>) {
    let (operation, record_type) = draw.pick(&[
        ("PlanRead", 188),
        ("TaskRead", 190),
        ("TaskModified", 190),
        ("TaskAssigned", 190),
        ("PlanListRead", 192),
        ("TenantSettingsUpdated", 194),
    ]);
    let user = draw.user.clone();
    let object = if record_type == 194 {
        embedded(|inner| {
            inner.flag("allowCalendarSharing", true);
            inner.raw("allowTenantMoveWithDataLoss", "null");
        })
    } else {
        draw.base64(28).replace(['+', '/'], "_")
    };
    let head = Head {
        operation,
        record_type,
        result: Some(draw.pick(&["1", "1", "1", "2", "3"])),
        user_key: &user.puid,
        user_type: 0,
        workload: "Planner",
        client_ip: Some(""),
        object_id: Some(&object),
        user_id: &user.upn,
    };
    head.write(draw, json);
    json.number("ContainerType", draw.pick(&[2, 5, 8, 10]));
    json.text("ContainerId", &draw.guid());
    json.text("PlanId", &draw.base64(28).replace(['+', '/'], "-"));
    if record_type == 192 {
        let list: Vec<String> = (0..draw.rng.usize(1..8)).map(|_| draw.base64(28).replace(['+', '/'], "-")).collect();
        json.text("PlanList", &list.join(","));
    }
    json.flag("QueryType", draw.rng.bool());
}

pub(super) fn forms(draw: &mut Draw<'_>, json: &mut Json<'_>) {
    let user = draw.user.clone();
    let form = draw.base64(80).replace('/', "_");
    let head = Head {
        operation: draw.pick(&["CreateResponse", "ViewForm", "EditForm", "ExportForm"]),
        record_type: 66,
        result: None,
        user_key: &user.object_id(),
        user_type: 0,
        workload: "MicrosoftForms",
        client_ip: None,
        object_id: Some(&form),
        user_id: &user.upn,
    };
    head.write(draw, json);
    json.text("FormId", &form);
    json.text("FormName", draw.pick(&["Lunch order", "Zufriedenheit 2026", "Quiz <beta> & more"]));
    json.text("SourceApp", "Forms");
    json.array("FormTypes", |list| list.item_number(0));
    json.array("FormsUserTypes", |list| {
        list.item_number(1);
        list.item_number(2);
    });
    let parameters = embedded(|inner| {
        inner.text("FormType", "Form");
        inner.raw("ResponseId", "\"17\"");
    });
    json.text("ActivityParameters", &parameters);
}
