//! What strangers may send: any path, query, token, body. The answer is an answer, never a panic or a server's fault.

use emulator::WorldOptions;
use emulator::faults::FaultPlan;
use http::{Method, Request};
use proptest::prelude::*;

use crate::client::{Client, call, emulator};

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn any_path_and_query_gets_an_answer(path in "[!-~]{0,60}", query in "[!-~]{0,80}", post in any::<bool>()) {
        let emulator = emulator(WorldOptions { tenants: 1, records_total: Some(50), ..WorldOptions::default() });
        let client = Client::first(&emulator);
        for prefix in ["/", "/api/v1.0/", &format!("/api/v1.0/{}/activity/feed/", client.tenant)] {
            let url = format!("https://manage.office.com{prefix}{path}?{query}");
            if url.parse::<http::Uri>().is_err() {
                continue;
            }
            let method = if post { Method::POST } else { Method::GET };
            let answer = block_on(client.send(method, &url, "", &[]));
            prop_assert!(answer.status.as_u16() < 500, "{url}: {}", answer.text());
        }
    }

    #[test]
    fn any_times_and_page_tokens_get_an_answer(times in "[0-9T:Z.+-]{0,24}", token in "[A-Za-z0-9_.-]{1,80}") {
        let emulator = emulator(WorldOptions { tenants: 1, records_total: Some(50), ..WorldOptions::default() });
        let client = Client::first(&emulator);
        block_on(client.start("Audit.Exchange"));
        let root = format!("{}/subscriptions/content?contentType=Audit.Exchange", client.root());
        let answer = block_on(client.get(&format!("{root}&startTime={times}&endTime=2026-12-31")));
        prop_assert!([200, 400].contains(&answer.status.as_u16()), "{}", answer.text());
        let answer = block_on(client.get(&format!("{root}&nextPage={token}")));
        prop_assert_eq!(answer.code(), "AF20031");
    }

    #[test]
    fn any_start_body_gets_an_answer(body in "\\PC{0,120}", address in "\\PC{0,40}") {
        let emulator = emulator(WorldOptions { tenants: 1, records_total: Some(10), ..WorldOptions::default() });
        let client = Client::first(&emulator);
        for body in [body, serde_json::json!({"webhook":{"address":address,"expiration":address}}).to_string()] {
            let answer = block_on(client.post(&format!("{}/subscriptions/start?contentType=DLP.All", client.root()), &body));
            prop_assert!(answer.status.as_u16() < 500, "{body}: {}", answer.text());
        }
    }

    #[test]
    fn any_control_body_gets_an_answer(body in "\\PC{0,120}") {
        let emulator = emulator(WorldOptions { tenants: 1, records_total: Some(10), ..WorldOptions::default() });
        for (method, path) in [("PUT", "clock"), ("PUT", "faults"), ("POST", "tenants"), ("POST", "apps"), ("PATCH", "tenants/x")] {
            let request = Request::builder().method(method).uri(format!("http://localhost/_emulator/{path}"));
            let answer = block_on(call(&emulator, request.body(axum::body::Body::from(body.clone())).unwrap()));
            prop_assert!(answer.status.as_u16() < 500, "{path} {body}: {}", answer.text());
        }
        let _ = FaultPlan::parse(&body);
        let _ = WorldOptions::parse(&body);
    }
}
