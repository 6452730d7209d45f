//! Over real sockets: a connection that is reset, a body that ends early, a webhook that is really called.

use std::net::SocketAddr;

use emulator::faults::FaultPlan;
use emulator::{EmulatorOptions, WorldOptions};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::client::{Client, emulator_with, start};

fn loopback() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

fn options() -> EmulatorOptions {
    let world =
        WorldOptions { tenants: 1, records_total: Some(100), webhook_plain_http: true, ..WorldOptions::default() };
    EmulatorOptions { world, ..EmulatorOptions::default() }
}

/// Sends bytes and reads until the other side ends.
async fn exchange(address: SocketAddr, request: &str) -> (String, Option<std::io::ErrorKind>) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut read = Vec::new();
    let error = stream.read_to_end(&mut read).await.err().map(|error| error.kind());
    (String::from_utf8_lossy(&read).into_owned(), error)
}

#[tokio::test]
async fn it_serves_over_a_socket_and_stops() {
    let emulator = emulator_with(options());
    let client = Client::first(&emulator);
    let running = emulator.start(loopback(), None).await.unwrap();
    let address = running.addr();
    let token = client.token();
    let path = format!("/api/v1.0/{}/activity/feed/subscriptions", client.tenant);
    let head = format!("Host: manage.office.com\r\nAuthorization: Bearer {token}\r\nConnection: close\r\n");
    let (answer, _) = exchange(address, &format!("GET {path}/list HTTP/1.1\r\n{head}\r\n")).await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("[]"), "{answer}");
    assert_eq!(answer.to_ascii_lowercase().matches("\r\ndate: ").count(), 1, "only the world's date");
    let start = format!("POST {path}/start?contentType=DLP.All HTTP/1.1\r\n{head}");
    let (answer, _) = exchange(address, &format!("{start}\r\n")).await;
    assert!(answer.starts_with("HTTP/1.1 411 "), "a post must say its length: {answer}");
    let (answer, _) = exchange(address, &format!("{start}Content-Length: 0\r\n\r\n")).await;
    assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
    running.stop().await;
    assert!(TcpStream::connect(address).await.is_err());
}

#[tokio::test]
async fn a_reset_is_a_reset_and_a_cut_body_is_short() {
    let emulator = emulator_with(options());
    let client = Client::first(&emulator);
    client.start("Audit.Exchange").await.expect_ok();
    let running = emulator.start(loopback(), None).await.unwrap();
    let head = format!("Host: h\r\nAuthorization: Bearer {}\r\n", client.token());
    let path = format!("/api/v1.0/{}/activity/feed/subscriptions/content?contentType=Audit.Exchange", client.tenant);
    let request = format!("GET {path} HTTP/1.1\r\n{head}\r\n");
    let under = |effect: &str| {
        emulator.world().set_faults(FaultPlan::parse(&format!("[[rule]]\nevery = 1\neffect = \"{effect}\"")).unwrap());
    };
    under("reset");
    assert_eq!(exchange(running.addr(), &request).await, (String::new(), Some(std::io::ErrorKind::ConnectionReset)));
    under("close");
    assert_eq!(exchange(running.addr(), &request).await, (String::new(), None));
    under("truncate");
    let (answer, _) = exchange(running.addr(), &request).await;
    assert!(answer.starts_with("HTTP/1.1 200 OK") && !answer.ends_with("0\r\n\r\n"), "{answer}");
    running.stop().await;
}

#[tokio::test]
async fn a_webhook_on_loopback_is_called_for_its_validation() {
    let listener = TcpListener::bind(loopback()).await.unwrap();
    let address = listener.local_addr().unwrap();
    let endpoint = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut request = Vec::new();
        while !request.ends_with(b"}") {
            let mut part = [0; 4096];
            let length = stream.read(&mut part).await.unwrap();
            request.extend_from_slice(&part[..length]);
        }
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").await.unwrap();
        String::from_utf8(request).unwrap()
    });
    let emulator = emulator_with(options());
    let client = Client::first(&emulator);
    let body = format!(r#"{{"webhook":{{"address":"http://{address}/hook","authId":"a"}}}}"#);
    let url = format!("{}/subscriptions/start?contentType=DLP.All", client.root());
    client.post(&url, &body).await.expect_ok();
    let request = endpoint.await.unwrap().to_ascii_lowercase();
    assert!(request.starts_with("post /hook http/1.1\r\n"), "{request}");
    assert!(request.contains("webhook-authid: a\r\n") && request.contains(&format!("host: {address}\r\n")));
    assert!(request.contains("webhook-validationcode: ") && request.contains("{\"validationcode\":\""));
    // Nobody listens there any more.
    let refused = client.post(&url.replace("DLP.All", "Audit.General"), &body).await;
    assert_eq!(refused.code(), "AF20021");
    assert!(refused.message().contains("cannot be reached"), "{}", refused.message());
}

#[tokio::test]
async fn an_address_in_use_is_named_with_a_remedy() {
    let taken = TcpListener::bind(loopback()).await.unwrap();
    let address = taken.local_addr().unwrap();
    let error = emulator_with(options()).start(address, None).await.unwrap_err().to_string();
    assert!(error.contains(&address.to_string()) && error.contains("choose another"), "{error}");
    assert!(start().timestamp() > 0);
}
