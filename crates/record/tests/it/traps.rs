//! The traps of audit-schema.md §10 and the type conflicts of §8: each costs its own column at most.

use record::View;

fn view(record: &str) -> View<'_> {
    View::read(record.as_bytes())
}

#[test]
fn an_ordinary_record_fills_every_column() {
    let view = view(
        r#"{"CreationTime":"2026-03-04T05:06:07","Id":"0d2f0a8e-1111-4222-8333-444444444444","Operation":"UserLoggedIn",
            "OrganizationId":"6a1c4f0e-7c39-4f0b-9d6e-2f4f0e0c8a11","RecordType":15,"ResultStatus":"Success",
            "UserKey":"10032001@example.com","UserType":0,"Version":1,"Workload":"AzureActiveDirectory",
            "ClientIP":"198.51.100.7:4711","ObjectId":"00000002-0000-0000-c000-000000000000","UserId":"Person@example.com",
            "ExtendedProperties":[{"Name":"UserId","Value":"not this one"}],"Actor":[{"ID":"nor this","Type":5}],
            "ApplicationId":"d3590ed6-52b3-4102-aeff-aad2292ab01c",
            "DeviceProperties":[{"Name":"OS","Value":"Windows"},{"Name":"SessionId","Value":"s-1"}],"ErrorNumber":"0"}"#,
    );
    assert_eq!(view.id.as_deref(), Some("0d2f0a8e-1111-4222-8333-444444444444"));
    assert_eq!(view.creation_time.unwrap().to_rfc3339(), "2026-03-04T05:06:07+00:00");
    assert_eq!(view.record_type, Some(15));
    assert_eq!(view.operation.as_deref(), Some("UserLoggedIn"));
    assert_eq!(view.workload.as_deref(), Some("AzureActiveDirectory"));
    assert_eq!(view.user_id.as_deref(), Some("Person@example.com"));
    assert_eq!(view.user_key.as_deref(), Some("10032001@example.com"));
    assert_eq!(view.user_type, Some(0));
    assert_eq!(view.organization_id.as_deref(), Some("6a1c4f0e-7c39-4f0b-9d6e-2f4f0e0c8a11"));
    assert_eq!(view.object_id.as_deref(), Some("00000002-0000-0000-c000-000000000000"));
    assert_eq!(view.client_ip.as_deref(), Some("198.51.100.7"));
    assert_eq!(view.result_status.as_deref(), Some("Success"));
    assert_eq!(view.app_id.as_deref(), Some("d3590ed6-52b3-4102-aeff-aad2292ab01c"));
    assert_eq!(view.session_id.as_deref(), Some("s-1"));
}

#[test]
fn missing_null_and_mistyped_members_are_none_and_cost_the_others_nothing() {
    for odd in ["null", "{}", "[]", "[[{\"x\":\"}\"}]]", "{\"Operation\":\"inner\"}"] {
        let record = format!(
            r#"{{"Id":{odd},"CreationTime":{odd},"RecordType":{odd},"Operation":{odd},"UserType":{odd},"UserId":{odd},
                "ClientIP":{odd},"ResultStatus":{odd},"AppId":{odd},"SessionId":{odd},"AppAccessContext":{odd},
                "DeviceProperties":{odd},"Workload":"Exchange"}}"#
        );
        let expected = View { workload: Some("Exchange".into()), ..View::default() };
        assert_eq!(view(&record), expected, "{odd}");
    }
    assert_eq!(view("{}"), View::default());
}

#[test]
fn member_names_count_in_their_own_letter_case_first_and_in_any_after_that() {
    assert_eq!(view(r#"{"ID":"upper","Id":"exact"}"#).id.as_deref(), Some("exact"));
    assert_eq!(view(r#"{"Id":"exact","ID":"upper"}"#).id.as_deref(), Some("exact"));
    assert_eq!(view(r#"{"ID":"upper"}"#).id.as_deref(), Some("upper"));
    assert_eq!(view(r#"{"clientip":"192.0.2.1"}"#).client_ip.as_deref(), Some("192.0.2.1"));
    assert_eq!(view(r#"{"ClientIp":"192.0.2.1"}"#).client_ip.as_deref(), Some("192.0.2.1"));
    assert_eq!(view(r#"{"Id":null,"ID":"upper"}"#).id, None, "a null under the exact name is what the record says");
}

#[test]
fn names_that_only_look_alike_are_other_members() {
    let other =
        r#"{"Ip":"x","Idx":"x","AppIf":"x","Operatios":"x","UserIds":"x","UserTypo":"x","":"x","WorkLoaf":"x"}"#;
    assert_eq!(view(other), View::default());
}

#[test]
fn of_repeated_members_the_last_one_counts() {
    assert_eq!(view(r#"{"Id":"first","Id":"last"}"#).id.as_deref(), Some("last"));
    assert_eq!(view(r#"{"ID":"first","iD":"last"}"#).id.as_deref(), Some("last"));
    assert_eq!(view(r#"{"Id":"first","Id":null}"#).id, None);
    assert_eq!(view(r#"{"Operation":"a","Data":{"q":1,"q":2},"Operation":"b"}"#).operation.as_deref(), Some("b"));
}

#[test]
fn numbers_and_texts_stand_in_for_each_other() {
    let view = view(r#"{"RecordType":"50","UserType":"2","UserId":12345678901234567890123,"ResultStatus":1,"Id":7}"#);
    assert_eq!(view.record_type, Some(50));
    assert_eq!(view.user_type, Some(2));
    assert_eq!(view.user_id.as_deref(), Some("12345678901234567890123"));
    assert_eq!(view.result_status.as_deref(), Some("1"));
    assert_eq!(view.id.as_deref(), Some("7"));
    for (value, expected) in [("true", "true"), ("\"True\"", "True"), ("false", "false")] {
        let record = format!(r#"{{"ResultStatus":{value}}}"#);
        assert_eq!(View::read(record.as_bytes()).result_status.as_deref(), Some(expected));
    }
}

#[test]
fn times_are_read_in_every_form_and_odd_ones_are_none() {
    for (time, expected) in [
        ("2026-03-04T05:06:07", Some("2026-03-04T05:06:07+00:00")),
        ("2026-03-04T05:06:07Z", Some("2026-03-04T05:06:07+00:00")),
        ("2026-03-04T05:06:07.123456", Some("2026-03-04T05:06:07.123456+00:00")),
        ("2026-03-04T07:06:07+02:00", Some("2026-03-04T05:06:07+00:00")),
        ("2026-03-04 05:06:07", Some("2026-03-04T05:06:07+00:00")),
        ("03/04/2026 05:06:07", Some("2026-03-04T05:06:07+00:00")),
        ("2026-02-30T05:06:07", None),
        ("2026-03-04T25:06:07", None),
        ("Not Available", None),
        ("", None),
    ] {
        let record = format!(r#"{{"CreationTime":"{time}","Id":"kept"}}"#);
        let view = View::read(record.as_bytes());
        assert_eq!(view.creation_time.map(|time| time.to_rfc3339()).as_deref(), expected, "{time}");
        assert_eq!(view.id.as_deref(), Some("kept"));
    }
}

#[test]
fn unknown_record_types_operations_and_workloads_are_ordinary() {
    let view = view(
        r#"{"RecordType":99999,"Operation":"Update application – Certificates and secrets management ","Workload":"Nova"}"#,
    );
    assert_eq!(view.record_type, Some(99_999));
    assert_eq!(view.operation.as_deref(), Some("Update application – Certificates and secrets management "));
    assert_eq!(view.workload.as_deref(), Some("Nova"));
}

#[test]
fn empty_texts_stay_empty_texts_but_for_the_id_and_the_address() {
    let view = view(r#"{"Id":"","UserId":"","UserKey":"","ObjectId":"","ClientIP":"","AppId":"","SessionId":""}"#);
    let empty = || Some("".into());
    let expected = View {
        user_id: empty(),
        user_key: empty(),
        object_id: empty(),
        app_id: empty(),
        session_id: empty(),
        ..View::default()
    };
    assert_eq!(view, expected);
}

#[test]
fn addresses_are_taken_from_the_first_member_that_has_one() {
    for (record, expected) in [
        (r#"{"ClientIP":"[2001:db8::1]:443","ClientIPAddress":"192.0.2.1"}"#, Some("2001:db8::1")),
        (r#"{"ClientIP":"","ClientIPAddress":"192.0.2.1","ActorIpAddress":"192.0.2.2"}"#, Some("192.0.2.1")),
        (r#"{"ClientIP":null,"ActorIpAddress":"192.0.2.2"}"#, Some("192.0.2.2")),
        (r#"{"ClientIP":"<null>","ActorIpAddress":""}"#, None),
        (r#"{"ClientIP":"ffff:10.11.0.229","ActorIpAddress":"192.0.2.2"}"#, Some("ffff:10.11.0.229")),
        (r#"{"SenderIp":"192.0.2.1"}"#, None),
    ] {
        assert_eq!(view(record).client_ip.as_deref(), expected, "{record}");
    }
}

#[test]
fn applications_and_sessions_are_taken_from_the_first_member_that_names_one() {
    for (record, app_id, session_id) in [
        (r#"{"AppId":"a","ApplicationId":"b","SessionId":"s","AppAccessContext":{"AADSessionId":"t"}}"#, "a", "s"),
        (r#"{"AppId":"","ApplicationId":"b","SessionId":"","AppAccessContext":{"AADSessionId":"t"}}"#, "b", "t"),
        (r#"{"ClientAppId":"c","AppAccessContext":{"ClientAppId":"d","aadsessionid":"t"}}"#, "c", "t"),
        (r#"{"AppAccessContext":{"ClientAppId":"d","AADSessionId":"t"}}"#, "d", "t"),
        (r#"{"AppAccessContext":[{},{"ClientAppId":"d"},{"AADSessionId":"t"}]}"#, "d", "t"),
        (r#"{"AppId":"a","DeviceProperties":[null,7,{"Name":"SessionId","Value":"u"}]}"#, "a", "u"),
        (
            r#"{"AppId":"a","AppAccessContext":{"AADSessionId":""},"DeviceProperties":[{"Value":"u","Name":"sessionid"}]}"#,
            "a",
            "u",
        ),
    ] {
        let view = view(record);
        assert_eq!(view.app_id.as_deref(), Some(app_id), "{record}");
        assert_eq!(view.session_id.as_deref(), Some(session_id), "{record}");
    }
}

#[test]
fn json_inside_texts_stays_text() {
    let view = view(r#"{"ObjectId":"{\"Id\":\"inner\",\"a\":[\"\\\"]\\\"\"]}","Id":"outer"}"#);
    assert_eq!(view.id.as_deref(), Some("outer"));
    assert_eq!(view.object_id.as_deref(), Some(r#"{"Id":"inner","a":["\"]\""]}"#));
}

#[test]
fn lone_surrogates_and_control_characters_cost_only_themselves() {
    let view = view("{\"ObjectId\":\"a\\ud83d.docx\",\"UserId\":\"b\u{1}\n\",\"Id\":\"\\u0049\\ud83d\\ude00\"}");
    assert_eq!(view.object_id.as_deref(), Some("a\u{fffd}.docx"));
    assert_eq!(view.user_id.as_deref(), Some("b\u{1}\n"));
    assert_eq!(view.id.as_deref(), Some("I😀"));
}

#[test]
fn escaped_member_names_are_the_names_they_spell() {
    assert_eq!(view(r#"{"\u0049d":"x","Oper\u0061tion":"y"}"#).id.as_deref(), Some("x"));
    assert_eq!(view(r#"{"\u0049d":"x","Oper\u0061tion":"y"}"#).operation.as_deref(), Some("y"));
    assert_eq!(view(r#"{"Id\\":"x","Id\"":"y"}"#).id, None);
}

#[test]
fn type_conflicts_deeper_down_are_stepped_over() {
    for value in [
        r#""text""#,
        r#"["a","b"]"#,
        r#"[{"Name":"a","Value":"{\"Id\":1}"}]"#,
        r#"[null,{}]"#,
        r#"{"Id":{"Id":["Id"]}}"#,
        "1e400",
        "-0",
        "12345678901234567890123",
    ] {
        let record = format!(r#"{{"Parameters":{value},"ModifiedProperties":{value} , "Id" : "kept" }}"#);
        assert_eq!(View::read(record.as_bytes()).id.as_deref(), Some("kept"), "{value}");
    }
}

#[test]
fn a_broken_inside_costs_what_stands_behind_it_and_no_more() {
    let view = view(r#"{"Id":"kept","Operation" "x","Workload":"y"}"#);
    assert_eq!(view, View { id: Some("kept".into()), ..View::default() });
    for record in ["", "[]", "null", "{", "{\"", "{\"Id", "{\"Id\"", "{\"Id\":", "{\"Id\":\"", "{\"Id\":1", "{\"Id\":}"]
    {
        assert_eq!(View::read(record.as_bytes()), View::default(), "{record}");
    }
}

#[test]
fn a_text_that_is_not_utf8_costs_its_own_column() {
    let view = View::read(b"{\"UserId\":\"\xff\",\"Id\":\"kept\",\"\xff\\u0041\":1,\"Workload\":\"w\"}");
    assert_eq!(view, View { id: Some("kept".into()), workload: Some("w".into()), ..View::default() });
}
