//! Measures how fast blobs are split and viewed: `cargo run --release -p record --example split_speed [FILE.ndjson]`.
//!
//! Never touches the network. Without a file it makes records of its own in the shapes and sizes of ordinary ones; with
//! one, it takes the file's lines. The blob is handed over in chunks as a connection would.
#![expect(clippy::print_stdout, reason = "printing is what it is for")]

use std::hint::black_box;
use std::time::{Duration, Instant};

use bytes::Bytes;
use record::{Item, Limits, Splitter, View};

/// As large as a body chunk of HTTP/1.1 gets after inflating.
const CHUNK_BYTES: usize = 64 << 10;
const ROUNDS: usize = 9;

fn main() {
    let records = match std::env::args().nth(1) {
        Some(path) => std::fs::read_to_string(path).expect("the file can be read").lines().map(str::to_owned).collect(),
        None => made_records(20_000),
    };
    let blob = Bytes::from(format!("[{}]", records.join(",")));
    println!("{} records, {} bytes, {} a record", records.len(), blob.len(), blob.len() / records.len().max(1));

    let (seconds, items) = best_of(|| split(&blob));
    assert_eq!(items.len(), records.len(), "every record is split off");
    report("split", &blob, seconds);
    let (seconds, with_ids) = best_of(|| {
        let views = items.iter().filter_map(|item| match item {
            Item::Record(bytes) => Some(View::read(bytes.as_bytes())),
            Item::Part(_) | Item::NotARecord { .. } => None,
        });
        views.filter(|view| black_box(view).id.is_some()).count()
    });
    assert_eq!(with_ids, records.len(), "every record has an id");
    report("view", &blob, seconds);
}

fn split(blob: &Bytes) -> Vec<Item> {
    let mut splitter = Splitter::new(Limits::DEFAULT);
    let mut items = Vec::new();
    for start in (0..blob.len()).step_by(CHUNK_BYTES) {
        splitter.push(blob.slice(start..blob.len().min(start + CHUNK_BYTES)));
        while let Some(item) = splitter.next_item().expect("the blob is an array") {
            items.push(item);
        }
    }
    splitter.finish().expect("the blob ends");
    items
}

fn best_of<T>(mut work: impl FnMut() -> T) -> (Duration, T) {
    let mut best: Option<(Duration, T)> = None;
    for _ in 0..ROUNDS {
        let start = Instant::now();
        let result = black_box(work());
        let took = start.elapsed();
        if best.as_ref().is_none_or(|(shortest, _)| took < *shortest) {
            best = Some((took, result));
        }
    }
    best.expect("there is at least one round")
}

fn report(what: &str, blob: &Bytes, took: Duration) {
    println!("{what}: {:.2} GB/s", blob.len() as f64 / took.as_secs_f64() / 1e9);
}

/// Records of three shapes: a sign-in, a cmdlet and a file action.
fn made_records(count: usize) -> Vec<String> {
    (0..count)
        .map(|n| {
            let common = format!(
                r#""CreationTime":"2026-03-{:02}T{:02}:{:02}:{:02}","Id":"{n:08x}-1111-4222-8333-{n:012x}","OrganizationId":"6a1c4f0e-7c39-4f0b-9d6e-2f4f0e0c8a11","#,
                n % 28 + 1, n % 24, n % 60, n % 59
            );
            match n % 3 {
                0 => format!(
                    r#"{{{common}"Operation":"UserLoggedIn","RecordType":15,"ResultStatus":"Success","UserKey":"1003200{n:08}@example.com","UserType":0,"Version":1,"Workload":"AzureActiveDirectory","ClientIP":"198.51.100.{}","ObjectId":"00000002-0000-0000-c000-000000000000","UserId":"person{}@example.com","AzureActiveDirectoryEventType":1,"ExtendedProperties":[{{"Name":"ResultStatusDetail","Value":"Success"}},{{"Name":"UserAgent","Value":"Mozilla\/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit\/537.36 (KHTML, like Gecko) Chrome\/120.0 Safari\/537.36"}},{{"Name":"RequestType","Value":"OAuth2:Authorize"}}],"ModifiedProperties":[],"Actor":[{{"ID":"{n:08x}-5555-4666-8777-888888888888","Type":0}},{{"ID":"person{}@example.com","Type":5}}],"ActorContextId":"6a1c4f0e-7c39-4f0b-9d6e-2f4f0e0c8a11","ActorIpAddress":"198.51.100.7","InterSystemsId":"{n:08x}-9999-4aaa-8bbb-cccccccccccc","IntraSystemId":"{n:08x}-dddd-4eee-8fff-000000000000","SupportTicketId":"","Target":[{{"ID":"00000002-0000-0000-c000-000000000000","Type":0}}],"TargetContextId":"6a1c4f0e-7c39-4f0b-9d6e-2f4f0e0c8a11","ApplicationId":"d3590ed6-52b3-4102-aeff-aad2292ab01c","DeviceProperties":[{{"Name":"OS","Value":"Windows 10"}},{{"Name":"BrowserType","Value":"Chrome"}},{{"Name":"SessionId","Value":"{n:08x}-0000-4000-8000-000000000000"}}],"ErrorNumber":"0"}}"#,
                    n % 250, n % 97, n % 97
                ),
                1 => format!(
                    r#"{{{common}"Operation":"Set-Mailbox","RecordType":1,"ResultStatus":"True","UserKey":"NT AUTHORITY\\SYSTEM (Microsoft.Exchange.Servicehost)","UserType":3,"Version":1,"Workload":"Exchange","ObjectId":"EURPR01A001.PROD.OUTLOOK.COM\/Microsoft Exchange Hosted Organizations\/example.onmicrosoft.com\/person{n}","UserId":"NT AUTHORITY\\SYSTEM (Microsoft.Exchange.Servicehost)","AppId":"","ClientAppId":"","ExternalAccess":true,"OrganizationName":"example.onmicrosoft.com","OriginatingServer":"AM0PR01MB0001 (15.20.4219.020)","Parameters":[{{"Name":"Identity","Value":"EURPR01A001.PROD.OUTLOOK.COM\/Microsoft Exchange Hosted Organizations\/example.onmicrosoft.com\/person{n}"}},{{"Name":"AccountDisabled","Value":"False"}},{{"Name":"MaxSendSize","Value":"35 MB (36,700,160 bytes)"}}],"SessionId":""}}"#
                ),
                _ => format!(
                    r#"{{{common}"Operation":"FileAccessed","RecordType":6,"UserKey":"i:0h.f|membership|1003200{n:08}@live.com","UserType":0,"Version":1,"Workload":"OneDrive","ClientIP":"2001:db8::{:x}","ObjectId":"https:\/\/example-my.sharepoint.com\/personal\/person_example_com\/Documents\/Report {n}.docx","UserId":"person{}@example.com","CorrelationId":"{n:08x}-3333-4444-8555-666666666666","EventSource":"SharePoint","ItemType":"File","ListId":"7fdd5b4e-1111-4222-8333-444444444444","ListItemUniqueId":"{n:08x}-7777-4888-8999-aaaaaaaaaaaa","Site":"0d2f0a8e-1111-4222-8333-444444444444","UserAgent":"Mozilla\/5.0 (Windows NT 10.0; Win64; x64)","WebId":"5ea2a0a5-1111-4222-8333-444444444444","SourceFileExtension":"docx","SiteUrl":"https:\/\/example-my.sharepoint.com\/personal\/person_example_com\/","SourceFileName":"Report {n}.docx","SourceRelativeUrl":"Documents","AppAccessContext":{{"AADSessionId":"{n:08x}-0000-4000-8000-000000000001","ClientAppId":"d3590ed6-52b3-4102-aeff-aad2292ab01c","CorrelationId":"{n:08x}-3333-4444-8555-666666666666"}}}}"#,
                    n % 0xffff, n % 97
                ),
            }
        })
        .collect()
}
