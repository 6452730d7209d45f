//! What is said about encryption arrives with every object, whole or in parts, and with nothing else.

use archive::{Archive, ArchiveOptions, Depth, RemoteOptions};

use crate::servers::{AZURITE_SIGNATURE, BUCKET, Server, Witness, ask};
use crate::world::{World, record};

const DAY: &str = "2026-03-04T05:06:07";

/// 32 bytes in base64.
const KEY: &str = "aHVudGVyMmh1bnRlcjJodW50ZXIyaHVudGVyMmh1bnQ=";

/// Whatever is done with an archive: small segments, one that goes in parts, a merge, and all of it read on another machine.
fn use_it(remote: &RemoteOptions) {
    let open = || World::with(|options| options.remote = Some(remote.clone()));
    let mut world = open();
    world.store(&[record("1", DAY, "")]);
    world.store(&[record("2", DAY, "")]);
    world.merge("2026-03-04");
    let large: Vec<_> =
        (0..14).map(|n| record(&format!("large {n}"), DAY, &crate::stores::noise(n, 1 << 20))).collect();
    world.store(&large);
    assert!(world.visible.iter().any(|segment| segment.bytes > 8 << 20), "it is to go in parts");
    let mut other = open();
    (other.visible, other.last_commit) = (world.visible.clone(), world.last_commit);
    assert_eq!(other.records().len(), 16);
    let verified = other.archive.verify(&other.visible, Depth::Records, |_| ()).unwrap();
    assert_eq!(verified.damaged, Vec::new());
}

fn with(server: &Server, prefix: &str, more: &[(&str, &str)]) -> RemoteOptions {
    let mut options = server.options(prefix);
    // Of two of one name the later counts, but an account's key is there or not.
    options.settings.retain(|(name, _)| name != "AZURE_STORAGE_ACCOUNT_KEY");
    options.settings.extend(more.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
    options
}

/// Heads of requests for objects; lists and removals are none, nor is the word that all parts have come.
fn of_objects(heads: &[String], method: &str) -> Vec<String> {
    let is_one = |head: &&String| {
        let first = head.lines().next().unwrap_or_default();
        let is_other = ["list-type", "?delete", "comp=list", "?uploadId"].iter().any(|other| first.contains(other));
        first.starts_with(method) && !is_other
    };
    heads.iter().filter(is_one).cloned().collect()
}

#[test]
fn s3_keeps_each_object_under_the_keys_that_were_asked_for() {
    let Some(server) = Server::s3() else { return };
    let key = "arn:aws:kms:eu-central-1:111122223333:key/1234abcd";
    for (prefix, encryption, more) in
        [("own", "AES256", vec![]), ("managed", "aws:kms", vec![("AWS_SSE_KMS_KEY_ID", key)])]
    {
        let settings = [vec![("AWS_SERVER_SIDE_ENCRYPTION", encryption)], more.clone()].concat();
        let remote = with(&server, prefix, &settings);
        use_it(&remote);
        let names = crate::look::names(&remote);
        assert!(names.len() > 3, "{names:?}");
        for name in names {
            let name = name.replace('=', "%3D");
            let request = format!("HEAD /{BUCKET}/{prefix}/{name} HTTP/1.1");
            // Who asks without a signature is a stranger; whether it is right, the server does not look.
            let signed = "AWS4-HMAC-SHA256 Credential=AKIATEST/20260304/us-east-1/s3/aws4_request, \
                          SignedHeaders=host, Signature=0";
            let answer = ask(server.setting("AWS_ENDPOINT_URL"), &request, &[("Authorization", signed)]);
            let answer = answer.to_ascii_lowercase();
            let told = format!("x-amz-server-side-encryption: {}", encryption.to_ascii_lowercase());
            assert!(answer.starts_with("http/1.1 200") && answer.contains(&told), "{name}: {answer}");
            assert_eq!(answer.contains(&format!("aws-kms-key-id: {key}")), !more.is_empty(), "{name}: {answer}");
        }
    }
}

#[test]
fn a_key_of_ones_own_goes_to_s3_with_every_request_for_an_object() {
    let Some(server) = Server::s3() else { return };
    let witness = Witness::before(server.setting("AWS_ENDPOINT_URL"));
    let settings = [
        ("AWS_ENDPOINT_URL", witness.endpoint()),
        ("AWS_SERVER_SIDE_ENCRYPTION", "sse-c"),
        ("AWS_SSE_CUSTOMER_KEY_BASE64", KEY),
    ];
    use_it(&with(&server, "customer", &settings));
    let heads = witness.heads();
    for (method, at_least) in [("PUT", 5), ("GET", 3), ("POST", 1)] {
        let asked = of_objects(&heads, method);
        assert!(asked.len() >= at_least, "{method}: {asked:?}");
        for head in asked {
            assert!(head.contains(&format!("x-amz-server-side-encryption-customer-key: {KEY}")), "{head}");
        }
    }
}

#[test]
fn azure_is_asked_for_the_scope_with_every_blob_and_for_nothing_that_is_read() {
    let Some(server) = Server::azure() else { return };
    let witness = Witness::before(server.setting("AZURE_STORAGE_ENDPOINT"));
    let settings = [
        ("AZURE_STORAGE_ENDPOINT", witness.endpoint()),
        ("AZURE_STORAGE_SAS_KEY", AZURITE_SIGNATURE),
        ("AZURE_STORAGE_ENCRYPTION_SCOPE", "contoso1"),
    ];
    use_it(&with(&server, "scoped", &settings));
    let heads = witness.heads();
    for (method, at_least) in [("PUT", 5), ("GET", 3)] {
        let asked = of_objects(&heads, method);
        assert!(asked.len() >= at_least, "{method}: {asked:?}");
        for head in asked {
            assert_eq!(head.contains("x-ms-encryption-scope: contoso1"), method == "PUT", "{head}");
        }
    }
}

#[test]
fn what_a_store_could_not_keep_to_is_refused_before_it_is_asked() {
    let open = |settings: &[(&str, &str)]| {
        let settings = settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let remote = RemoteOptions::new("az://audit/x".parse().unwrap(), settings);
        let folder = tempfile::tempdir().unwrap();
        Archive::open(&ArchiveOptions::remote(folder.path(), remote)).err().unwrap().to_string()
    };
    let account = ("AZURE_STORAGE_ACCOUNT_NAME", "contoso");
    let signed = open(&[account, ("AZURE_STORAGE_ACCOUNT_KEY", KEY), ("AZURE_STORAGE_ENCRYPTION_SCOPE", "contoso1")]);
    assert!(signed.contains("use an identity or a SAS") && !signed.contains(KEY), "{signed}");
    let unnamed = open(&[account, ("AZURE_STORAGE_SAS_KEY", "sig=x"), ("AZURE_STORAGE_ENCRYPTION_SCOPE", "con toso")]);
    assert!(unnamed.contains("3 to 63 letters and digits"), "{unnamed}");
}
