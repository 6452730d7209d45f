//! What must hold for any blob and any bytes.

use bytes::Bytes;
use proptest::prelude::*;
use record::{Item, Limits, Part, SplitError, View, split_all};
use serde_json::value::RawValue;

use crate::{joined, split_in_chunks};

fn config() -> ProptestConfig {
    // A failing case is printed with its shrunk input; there is no file to keep it in.
    ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() }
}

/// JSON texts of any shape, written by serde_json.
fn json_value() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(Into::into),
        any::<i64>().prop_map(Into::into),
        any::<f64>().prop_map(Into::into),
        ".{0,40}".prop_map(Into::into),
        r#"[\\"{}\[\],:/é]{0,20}"#.prop_map(Into::into),
    ];
    leaf.prop_recursive(5, 40, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Into::into),
            prop::collection::vec((".{0,12}", inner), 0..6)
                .prop_map(|members| serde_json::Value::Object(members.into_iter().collect())),
        ]
    })
}

/// A record with texts as records have them.
fn json_record() -> impl Strategy<Value = serde_json::Value> {
    let name = "[A-Z][a-zA-Z]{0,8}";
    let value = prop_oneof![
        "[a-zA-Z0-9 /.@:-]{0,20}".prop_map(serde_json::Value::from),
        any::<u16>().prop_map(Into::into),
        prop::collection::vec((name, "[a-z]{0,6}"), 0..3).prop_map(|pairs| {
            let entry = |(name, value)| serde_json::json!({"Name": name, "Value": value});
            pairs.into_iter().map(entry).collect()
        }),
    ];
    prop::collection::vec((name, value), 1..6)
        .prop_map(|members| serde_json::Value::Object(members.into_iter().collect()))
}

fn blob_of(elements: &[serde_json::Value], gap: &str) -> String {
    let texts: Vec<String> = elements.iter().map(ToString::to_string).collect();
    format!("{gap}[{gap}{}{gap}]{gap}", texts.join(&format!("{gap},{gap}")))
}

fn bytes_of(item: &Item) -> &[u8] {
    match item {
        Item::Record(record) => record.as_bytes(),
        Item::Part(Part { bytes, .. }) | Item::NotARecord { bytes, .. } => bytes,
    }
}

/// Bytes that are likely to upset a splitter.
fn hostile_bytes() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        prop::collection::vec(any::<u8>(), 0..300),
        prop::collection::vec(prop::sample::select(b"[]{}\",:\\ \n1aIdu0\xef\xbb\xbf\xff".to_vec()), 0..300)
            .prop_map(|bytes| [b"[", &bytes[..]].concat()),
    ]
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn elements_are_the_raw_values_serde_json_sees(
        elements in prop::collection::vec(json_value(), 0..12),
        gap in "[ \t\r\n]{0,3}",
        cuts in prop::collection::vec(0_usize..10_000, 0..12),
    ) {
        let blob = Bytes::from(blob_of(&elements, &gap));
        let raw: Vec<&RawValue> = serde_json::from_slice(&blob).unwrap();
        let (items, end, _) = split_in_chunks(&blob, &cuts, Limits::DEFAULT);
        let ended = end.unwrap();
        prop_assert_eq!(ended.bytes, blob.len() as u64);
        prop_assert_eq!(ended.records + ended.not_records, raw.len() as u64);
        prop_assert_eq!(items.len(), raw.len());
        for (item, raw) in items.iter().zip(raw) {
            prop_assert_eq!(bytes_of(item), raw.get().as_bytes());
            prop_assert_eq!(matches!(item, Item::Record(_)), raw.get().starts_with('{'));
        }
    }

    #[test]
    fn any_chunks_of_any_bytes_say_the_same_and_never_panic(
        bytes in hostile_bytes(),
        cuts in prop::collection::vec(0_usize..10_000, 0..30),
        record_bytes_max in prop_oneof![Just(16 << 20), 1_usize..60],
    ) {
        let limits = Limits { record_bytes_max };
        let blob = Bytes::from(bytes);
        let (items, end) = split_all(blob.clone(), limits);
        let (items_in_chunks, end_in_chunks, _) = split_in_chunks(&blob, &cuts, limits);
        let items = joined(items);
        prop_assert_eq!(&items, &joined(items_in_chunks));
        // How many of the trailing bytes are at hand when they are met depends on the chunks.
        match (&end, &end_in_chunks) {
            (Err(SplitError::TrailingBytes { offset: a, .. }), Err(SplitError::TrailingBytes { offset: b, .. })) => {
                prop_assert_eq!(a, b);
            }
            _ => prop_assert_eq!(&end, &end_in_chunks),
        }
        for item in &items {
            View::read(bytes_of(item));
        }
    }

    #[test]
    fn no_byte_of_an_array_is_lost(
        bytes in hostile_bytes(),
        cuts in prop::collection::vec(0_usize..10_000, 0..30),
        record_bytes_max in prop_oneof![Just(16 << 20), 1_usize..60],
    ) {
        // Behind the opening bracket, whatever is no white space and no comma is in an item, in the remainder, in the
        // closing bracket or in what trails it.
        let blob = Bytes::from([b"[", &bytes[..]].concat());
        let (items, end, remainder) = split_in_chunks(&blob, &cuts, Limits { record_bytes_max });
        let mut at = 1;
        for item in &joined(items) {
            at = skip_gaps(&blob, at);
            prop_assert_eq!(&blob[at..at + bytes_of(item).len()], bytes_of(item));
            at += bytes_of(item).len();
        }
        at = skip_gaps(&blob, at);
        match end {
            Ok(_) => prop_assert!(blob[at..].trim_ascii() == b"]", "{:?}", &blob[at..]),
            Err(SplitError::TrailingBytes { offset, .. }) => {
                prop_assert_eq!(blob[at..offset as usize].trim_ascii(), b"]");
            }
            Err(_) => {
                prop_assert!(blob[at..].starts_with(&remainder), "{:?} {:?}", &blob[at..], remainder);
                prop_assert_eq!(skip_gaps(&blob, at + remainder.len()), blob.len());
            }
        }
    }

    #[test]
    fn one_broken_record_costs_no_other(
        before in prop::collection::vec(json_record(), 0..4),
        broken in json_record(),
        behind in prop::collection::vec(json_record(), 1..4),
        place in any::<prop::sample::Index>(),
        wound in prop::sample::select(vec!["\"", "{", "["]),
    ) {
        let texts = |records: &[serde_json::Value]| records.iter().map(ToString::to_string).collect::<Vec<_>>();
        // One quote or opening bracket too many, somewhere between the first bracket and the last.
        let mut broken = broken.to_string();
        let inside: Vec<usize> = (1..broken.len()).filter(|at| broken.is_char_boundary(*at)).collect();
        broken.insert_str(inside[place.index(inside.len())], wound);
        let all = [texts(&before), vec![broken.clone()], texts(&behind)].concat();
        let (items, end) = split_all(Bytes::from(format!("[{}]", all.join(","))), Limits::DEFAULT);
        prop_assert!(end.is_ok(), "{:?} {:?}", end, items);
        let records: Vec<&[u8]> = items.iter().map(bytes_of).collect();
        for good in texts(&before).iter().chain(&texts(&behind)) {
            prop_assert!(records.contains(&good.as_bytes()), "{} is not in {:?}", good, items);
        }
    }

    #[test]
    fn a_view_of_any_bytes_never_panics(bytes in hostile_bytes()) {
        View::read(&bytes);
        View::read(&[b"{\"Id\":", &bytes[..], b"}"].concat());
        View::read(&[b"{\"CreationTime\":\"", &bytes[..], b"\",\"ClientIP\":\"", &bytes[..], b"\"}"].concat());
    }

    #[test]
    fn a_view_steps_over_any_value(value in json_value(), name in "[a-z\"\\\\]{0,8}") {
        let name = serde_json::Value::from(format!("x{name}"));
        let record = format!(r#"{{{name}:{value},"Id":"kept","z":{value}}}"#);
        let view = View::read(record.as_bytes());
        prop_assert_eq!(view, View { id: Some("kept".into()), ..View::default() });
    }

    #[test]
    fn texts_read_as_serde_json_reads_them(text in ".{0,60}") {
        let raw = serde_json::Value::from(text.as_str()).to_string();
        let record = format!(r#"{{"Operation":{raw}}}"#);
        let view = View::read(record.as_bytes());
        prop_assert_eq!(view.operation.as_deref(), Some(text.as_str()));
    }
}

fn skip_gaps(blob: &[u8], mut at: usize) -> usize {
    while blob.get(at).is_some_and(|byte| b" \t\r\n,".contains(byte)) {
        at += 1;
    }
    at
}
