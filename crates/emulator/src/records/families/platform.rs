//! Everything else in Audit.General: Power BI (20), Dynamics (21), and record types that have no public name.
//!
//! Never limits itself to the documented numbers: new workloads and record types arrive weekly.

use super::super::draw::{DEPARTMENTS, Draw};
use super::super::json::Json;
use super::Head;

pub(super) fn power_bi(draw: &mut Draw<'_>, json: &mut Json<'_>) {
    let user = draw.user.clone();
    let operation =
        draw.pick(&["ViewReport", "ViewReport", "GetGroupUsers", "ExportReport", "ShareDashboard", "CreateDataset"]);
    let ip = draw.client_ip();
    let head = Head {
        operation,
        record_type: 20,
        result: None,
        user_key: &user.puid,
        user_type: 0,
        workload: "PowerBI",
        client_ip: ip.as_deref(),
        object_id: Some("Sales overview"),
        user_id: &user.upn,
    };
    head.write(draw, json);
    json.text("Activity", operation);
    json.text("ActivityId", &draw.guid());
    json.text("CapacityId", &draw.tenant_guid(95));
    json.text("CapacityName", "Shared On Reserved");
    json.text("ConsumptionMethod", "Power BI Web");
    json.text("DatasetId", &draw.guid());
    json.text("DatasetName", "Sales");
    json.text("DistributionMethod", "Workspace");
    // A truth value as a text.
    json.text("IsSuccess", "true");
    json.text("ItemName", "Sales overview");
    json.text("ReportName", "Sales overview");
    json.text("ReportType", "PowerBIReport");
    json.text("RequestId", &draw.guid());
    json.text("UserAgent", draw.user_agent());
    json.text("WorkSpaceName", draw.pick(&DEPARTMENTS));
    json.text("WorkspaceId", &draw.tenant_guid(96));
    if operation == "ShareDashboard" {
        let other = draw.other_user();
        json.array("SharingInformation", |list| {
            list.item_object(|info| {
                info.text("RecipientEmail", &other.upn);
                info.text("ResharePermission", "ReadReshare");
            });
        });
    }
}

pub(super) fn dynamics(draw: &mut Draw<'_>, json: &mut Json<'_>) {
    let user = draw.user.clone();
    let instance = format!("https://{}.crm4.dynamics.com/", draw.short_name());
    let head = Head {
        operation: "CrmDefaultActivity",
        record_type: 21,
        result: Some("Success"),
        user_key: &user.puid,
        user_type: 0,
        workload: "CRM",
        client_ip: Some("<null>"),
        object_id: Some(&instance),
        user_id: &user.upn,
    };
    head.write(draw, json);
    json.text("CrmOrganizationUniqueName", &draw.hex(20));
    json.text("EntityId", &draw.guid());
    json.text("EntityName", draw.pick(&["account", "contact", "opportunity"]));
    json.pairs("Fields", &[("name", "Fabrikam"), ("revenue", "1200000.00")]);
    json.text("InstanceUrl", &instance);
    json.text("ItemType", "PublishedEntity");
    json.text("ItemUrl", &format!("{instance}main.aspx?etn=account&pagetype=entityrecord"));
    json.text("Message", draw.pick(&["Create", "Retrieve", "RetrieveMultiple", "Update"]));
    json.text("Query", "<fetch mapping='logical'><entity name='account'/></fetch>");
    json.text("ServiceContextId", &draw.guid());
    json.text("UserAgent", draw.user_agent());
}

pub(super) fn unknown(draw: &mut Draw<'_>, json: &mut Json<'_>) {
    let user = draw.user.clone();
    let record_type = draw.pick(&[137, 305, 326, 340, 388, 395, 407, 471, 998]);
    let head = Head {
        operation: draw.pick(&["WidgetPublished", "AgentRun", "EdgeSync.Completed", "操作"]),
        record_type,
        result: None,
        user_key: "Not Available",
        user_type: draw.pick(&[0, 5, 11, 42]),
        workload: draw.pick(&["PublicEndpoint", "SomethingNew", "Copilot"]),
        client_ip: None,
        object_id: None,
        user_id: &user.upn,
    };
    head.write(draw, json);
    json.raw(
        "Properties",
        "{\"depth\":{\"of\":{\"objects\":[[[1,2.5e-3,-0,1E400]]]}},\"count\":12345678901234567890123}",
    );
    json.raw("Enabled", "1");
    json.text("Job ID", &draw.guid());
    // White space between tokens is the service's to choose.
    json.raw("Tags", "[ \"a\" , \"b\" ]");
}
