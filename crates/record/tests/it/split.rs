//! What a blob is cut into, and how each way of being broken is told.

use bytes::Bytes;
use record::split::{BodyKind, CutPlace, HEAD_BYTES};
use record::{Ended, Item, Limits, NotARecordReason, Part, RecordText, SplitError, Splitter, split_all};

use crate::{joined, split_in_chunks};

fn record(text: &str) -> Item {
    Item::Record(RecordText::try_from(Bytes::copy_from_slice(text.as_bytes())).unwrap())
}

fn not_a_record(bytes: &[u8], reason: NotARecordReason, offset: u64) -> Item {
    Item::NotARecord { bytes: Bytes::copy_from_slice(bytes), reason, offset }
}

/// Splits at once, byte by byte, and in two halves at every place; all must say the same.
fn check(blob: &[u8], expected: &[Item], ended: Result<Ended, SplitError>) {
    let blob = Bytes::copy_from_slice(blob);
    let every_byte: Vec<usize> = (0..=blob.len()).collect();
    let mut ways = vec![Vec::new(), every_byte];
    ways.extend((0..=blob.len()).map(|cut| vec![cut]));
    for cuts in ways {
        let (items, end, _) = split_in_chunks(&blob, &cuts, Limits::DEFAULT);
        assert_eq!(items, expected, "{blob:?} cut at {cuts:?}");
        assert_eq!(end, ended, "{blob:?} cut at {cuts:?}");
    }
}

fn check_good(blob: &[u8], expected: &[Item]) {
    let records = expected.iter().filter(|item| matches!(item, Item::Record(_))).count() as u64;
    let not_records = expected.len() as u64 - records;
    check(blob, expected, Ok(Ended { records, not_records, bytes: blob.len() as u64 }));
}

#[test]
fn records_are_cut_out_without_the_white_space_between_them() {
    check_good(b"[]", &[]);
    check_good(b" \r\n[ \t] \n", &[]);
    check_good(b"[{}]", &[record("{}")]);
    check_good(b"[{\"a\":1},{\"b\":[{}]}]", &[record("{\"a\":1}"), record("{\"b\":[{}]}")]);
    check_good(b"[\n  { \"a\" : 1 } ,\r\n\t{}\n]\n", &[record("{ \"a\" : 1 }"), record("{}")]);
}

#[test]
fn a_byte_order_mark_is_skipped() {
    check_good(b"\xef\xbb\xbf[{\"a\":1}]", &[record("{\"a\":1}")]);
    check_good(b"\xef\xbb\xbf\r\n[]", &[]);
}

#[test]
fn brackets_and_quotes_inside_texts_mean_nothing() {
    for text in [r#"{"a":"]}[{,"}"#, r#"{"a":"\"}","b":"\\"}"#, r#"{"\\\"":"\\\\\\"}"#, r#"{"a":"C:\\"}"#] {
        check_good(format!("[{text},{text}]").as_bytes(), &[record(text), record(text)]);
    }
}

#[test]
fn odd_insides_are_kept_byte_for_byte() {
    let deep = format!("{{\"a\":{}{}}}", "[".repeat(5000), "]".repeat(5000));
    for text in [
        r#"{"a":1,"a":2}"#,
        r#"{"a":1e400}"#,
        r#"{"a":12345678901234567890123}"#,
        r#"{"a":"\ud800"}"#,
        "{\"a\":\"\u{0}\u{1}\n\t\"}",
        r#"{"a":"\u00e9 \/ é 中 😀"}"#,
        r#"{"a":"\x"}"#,
        r#"{a:1,}"#,
        r#"{"a":nul}"#,
    ] {
        check_good(format!("[{text}]").as_bytes(), &[record(text)]);
    }
    let (items, ended) = split_all(Bytes::from(format!("[{deep}]")), Limits::DEFAULT);
    assert_eq!(items, [record(&deep)]);
    assert!(ended.is_ok());
}

#[test]
fn elements_that_are_no_objects_are_kept_apart_and_cost_the_others_nothing() {
    let reason = NotARecordReason::NotAnObject;
    check_good(
        br#"[null,{"a":1},"x,]",-1.5e3 ,[{"b":2}],true,{}]"#,
        &[
            not_a_record(b"null", reason, 1),
            record(r#"{"a":1}"#),
            not_a_record(br#""x,]""#, reason, 14),
            not_a_record(b"-1.5e3", reason, 20),
            not_a_record(br#"[{"b":2}]"#, reason, 28),
            not_a_record(b"true", reason, 38),
            record("{}"),
        ],
    );
}

#[test]
fn stray_characters_and_missing_commas_cost_the_records_around_them_nothing() {
    let reason = NotARecordReason::NotAnObject;
    check_good(b"[{}{}]", &[record("{}"), record("{}")]);
    check_good(b"[,{},,{},]", &[record("{}"), record("{}")]);
    check_good(
        b"[{}},x{}:]",
        &[
            record("{}"),
            not_a_record(b"}", reason, 3),
            not_a_record(b"x", reason, 5),
            record("{}"),
            not_a_record(b":", reason, 8),
        ],
    );
}

#[test]
fn an_element_that_is_not_utf8_is_kept_apart() {
    check_good(
        b"[{\"a\":\"\xff\"},{\"b\":1}]",
        &[not_a_record(b"{\"a\":\"\xff\"}", NotARecordReason::NotUtf8, 1), record("{\"b\":1}")],
    );
}

#[test]
fn an_object_closed_by_the_wrong_bracket_is_kept_apart() {
    check_good(
        b"[{\"a\":1],{\"b\":1}]",
        &[not_a_record(b"{\"a\":1]", NotARecordReason::Unbalanced, 1), record("{\"b\":1}")],
    );
}

#[test]
fn a_record_inside_one_chunk_is_a_slice_of_it() {
    let blob = Bytes::from_static(b"[{\"a\":1},{\"b\":2}]");
    let (items, _) = split_all(blob.clone(), Limits::DEFAULT);
    for (item, start) in items.iter().zip([1, 9]) {
        let Item::Record(bytes) = item else { panic!("{item:?}") };
        assert_eq!(bytes.as_bytes().as_ptr(), blob[start..].as_ptr());
    }
}

#[test]
fn an_empty_body_is_told_as_such() {
    for body in ["", " ", "\r\n \t", "\u{feff}", "\u{feff} "] {
        check(body.as_bytes(), &[], Err(SplitError::Empty));
    }
}

#[test]
fn a_body_that_is_no_array_is_told_with_its_first_bytes() {
    for (body, kind) in [
        (
            &br#"{"error":{"code":"AF50000","message":"An internal error occurred. Retry the request."}}"#[..],
            BodyKind::Object,
        ),
        (b"<html><body>502 Bad Gateway</body></html>", BodyKind::Html),
        (b"\x1f\x8b\x08\x00\x00", BodyKind::Gzip),
        (b"\"text\"", BodyKind::Other),
        (b"null", BodyKind::Other),
        (b"\xff\xfe[\0]\0", BodyKind::Other),
        (b"\xef\xbb[]", BodyKind::Other),
        (b"\xef", BodyKind::Other),
    ] {
        check(body, &[], Err(SplitError::NotAnArray { kind, head: Bytes::copy_from_slice(body) }));
    }
    let (_, end, _) = split_in_chunks(&Bytes::from(" \u{feff}[]"), &[], Limits::DEFAULT);
    assert!(matches!(end, Err(SplitError::NotAnArray { .. })), "a byte order mark behind white space is none");
}

#[test]
fn of_a_long_foreign_body_only_the_head_is_kept() {
    for (length, expected) in [(HEAD_BYTES - 1, HEAD_BYTES - 1), (HEAD_BYTES, HEAD_BYTES), (HEAD_BYTES + 1, HEAD_BYTES)]
    {
        for cuts in [vec![], vec![10, 4000], (0..length).collect()] {
            let (_, end, _) = split_in_chunks(&Bytes::from("<".repeat(length)), &cuts, Limits::DEFAULT);
            let Err(SplitError::NotAnArray { kind: BodyKind::Html, head }) = end else { panic!("{end:?}") };
            assert_eq!(head.len(), expected);
        }
    }
}

#[test]
fn bytes_behind_the_array_are_told_with_their_place() {
    let trailing =
        |offset, head: &'static [u8]| Err(SplitError::TrailingBytes { offset, head: Bytes::from_static(head) });
    for (blob, offset) in [(&b"[{}] x"[..], 5), (b"[{}]]", 4), (b"[{}][", 4), (b"[{}]\0", 4)] {
        let (items, end) = split_all(Bytes::from_static(blob), Limits::DEFAULT);
        assert_eq!(items, [record("{}")]);
        assert_eq!(end, trailing(offset, &blob[offset as usize..]));
    }
}

#[test]
fn a_truncated_array_keeps_what_came_before_and_says_what_it_ended_in() {
    for (blob, place, offset, remainder) in [
        (&b"["[..], CutPlace::BetweenElements, 1, ""),
        (b"[{},", CutPlace::BetweenElements, 4, ""),
        (b"[{}", CutPlace::BetweenElements, 3, ""),
        (b"[{},{\"a\":1", CutPlace::Element, 4, "{\"a\":1"),
        (b"[{},{\"a", CutPlace::Text, 4, "{\"a"),
        (b"[{},\"a", CutPlace::Text, 4, "\"a"),
        (b"[{},nul", CutPlace::Element, 4, "nul"),
        (b"[{},[{}", CutPlace::Element, 4, "[{}"),
        // An unbalanced quote or bracket swallows everything behind it, and here there is nothing to save.
        (b"[{},{\"a\":\"x},{}]", CutPlace::Text, 4, "{\"a\":\"x},{}]"),
        (b"[{},{\"a\":[x},{}]", CutPlace::Element, 4, "{\"a\":[x},{}]"),
        (b"[{},{\"a\":\"x},{\"b\":2}", CutPlace::Text, 4, "{\"a\":\"x},{\"b\":2}"),
    ] {
        let length = blob.len() as u64;
        let expected: &[Item] = if offset >= 3 { &[record("{}")] } else { &[] };
        check(blob, expected, Err(SplitError::Truncated { place, offset, length }));
        let (_, _, kept) = split_in_chunks(&Bytes::from_static(blob), &[5, 6], Limits::DEFAULT);
        assert_eq!(kept, remainder.as_bytes());
    }
}

#[test]
fn records_behind_a_broken_one_are_saved_and_the_broken_one_is_kept_apart() {
    let good = r#"{"Id":"3","Actor":[{"ID":"x"},{"ID":"y"}],"T":"a, \"b\": [c"}"#;
    for broken in [
        r#"{"Id":"2"#,
        r#"{"Id":"2},{"#,
        r#"{"Id":"2"","X":1}"#,
        r#"{"Id":"2,"X":1}"#,
        r#"{"Id":"2","X":{"Y":1}"#,
        r#"{"Id":"2","X":[1}"#,
        r#"{"Id":"2","X":[{"ID":"x"},{"ID":"y"},"T":1}"#,
    ] {
        // What ends without a bracket has none to know the border by.
        let broken = if broken.ends_with('}') { broken.to_owned() } else { format!("{broken}}}") };
        let blob = format!("[{{}}, {broken} ,\r\n{good},{{}},{good} ]\n");
        check_good(
            blob.as_bytes(),
            &[
                record("{}"),
                not_a_record(broken.as_bytes(), NotARecordReason::Unended, 5),
                record(good),
                record("{}"),
                record(good),
            ],
        );
    }
}

#[test]
fn a_blob_cut_off_at_any_byte_is_called_truncated_and_nothing_inside_a_record_is_taken_for_one() {
    let last = r#"{"Id":"2","Kept":[{"ID":"x"},{"ID":"y"}],"Lists":[[{"a":1},{"b":[{"c":2},{"d":3}]}]],"T":"}]"}"#;
    let blob = Bytes::from(format!("[{{}},{last}]"));
    for cut in 4..blob.len() {
        let expected: &[Item] = if cut == blob.len() - 1 { &[record("{}"), record(last)] } else { &[record("{}")] };
        let (items, end) = split_all(blob.slice(..cut), Limits::DEFAULT);
        assert_eq!(items, expected, "cut at {cut}");
        assert!(matches!(end, Err(SplitError::Truncated { .. })), "cut at {cut}: {end:?}");
    }
}

#[test]
fn several_broken_records_are_kept_together_with_what_stands_between_them() {
    let blob = br#"[{"a":"x},{"b":2},{"c":[},{"d":4}]"#;
    check_good(
        blob,
        &[not_a_record(br#"{"a":"x},{"b":2},{"c":[}"#, NotARecordReason::Unended, 1), record(r#"{"d":4}"#)],
    );
}

#[test]
fn salvage_gives_up_before_it_has_read_the_element_many_times() {
    // Each border starts a list of records that fails at the very end only.
    let blob = Bytes::from(format!("[{{\"a\":\"x}}{}", ",{\"b\":1}".repeat(200_000)));
    let mut splitter = Splitter::new(Limits::DEFAULT);
    splitter.push(blob.clone());
    assert_eq!(splitter.next_item(), Ok(None));
    assert_eq!(splitter.salvage(), []);
    assert_eq!(splitter.remainder(), &blob[1..]);
    assert!(matches!(splitter.finish(), Err(SplitError::Truncated { offset: 1, .. })));
}

#[test]
fn an_element_over_the_limit_comes_whole_in_parts_and_costs_the_others_nothing() {
    let limits = Limits { record_bytes_max: 10_000 };
    let of_length = |length: usize| format!("{{\"a\":\"{}\"}}", "x".repeat(length - 8));
    for length in [10_000, 10_001, 30_000] {
        let long = of_length(length);
        let blob = Bytes::from(format!("[{{}},{long},{{}}]"));
        for cuts in [vec![], vec![6000], vec![5, 9999, 10_005, 10_006], (0..blob.len()).step_by(100).collect()] {
            let (items, end, _) = split_in_chunks(&blob, &cuts, limits);
            let parts =
                items.iter().filter_map(|item| if let Item::Part(part) = item { Some(part.bytes.len()) } else { None });
            let largest = parts.max().unwrap_or(0);
            assert!(cuts.len() < 100 || largest <= limits.record_bytes_max + 100, "{largest}");
            let middle = if length <= limits.record_bytes_max {
                record(&long)
            } else {
                Item::Part(Part { bytes: long.clone().into(), offset: 4, ended: Some(length as u64) })
            };
            assert_eq!(joined(items), [record("{}"), middle, record("{}")], "{length} bytes cut at {cuts:?}");
            assert!(end.is_ok());
        }
    }
}

#[test]
fn of_an_element_over_the_limit_that_never_ends_nothing_is_held() {
    let mut splitter = Splitter::new(Limits { record_bytes_max: 10_000 });
    splitter.push(Bytes::from_static(b"[{\"a\":\""));
    let chunk = Bytes::from(vec![b'x'; 5000]);
    let mut bytes = 0;
    for _ in 0..100 {
        splitter.push(chunk.clone());
        while let Some(item) = splitter.next_item().unwrap() {
            let Item::Part(part) = item else { panic!("{item:?}") };
            assert_eq!((part.offset, part.ended), (1, None));
            bytes += part.bytes.len();
        }
        assert!(splitter.remainder().len() <= 10_000);
    }
    assert_eq!((splitter.remainder().len(), bytes), (0, 500_006));
    let expected = SplitError::Truncated { place: CutPlace::Text, offset: 1, length: 500_007 };
    assert_eq!(splitter.finish(), Err(expected));
}

#[test]
fn finishing_with_items_unread_is_told() {
    let mut splitter = Splitter::new(Limits::DEFAULT);
    splitter.push(Bytes::from_static(b"[{},"));
    splitter.push(Bytes::from_static(b"{}]"));
    assert_eq!(splitter.next_item(), Ok(Some(record("{}"))));
    assert_eq!(splitter.finish(), Err(SplitError::Unread { bytes: 4 }));
}

#[test]
fn several_chunks_may_be_pushed_before_asking() {
    let mut splitter = Splitter::new(Limits::DEFAULT);
    for chunk in ["[{", "}", ",", "", "{\"a\":1}", "]"] {
        splitter.push(Bytes::from_static(chunk.as_bytes()));
    }
    assert_eq!(splitter.next_item(), Ok(Some(record("{}"))));
    assert_eq!(splitter.next_item(), Ok(Some(record("{\"a\":1}"))));
    assert_eq!(splitter.next_item(), Ok(None));
    assert_eq!(splitter.finish(), Ok(Ended { records: 2, not_records: 0, bytes: 12 }));
}

#[test]
fn errors_read_as_fragments_with_their_place() {
    for (blob, text) in [
        ("", "the body is empty"),
        ("{}", "the body is a JSON object and not a JSON array of records"),
        ("[{\"a\":\"", "the array of records is cut off in a text of the element at byte 1 of 7"),
        ("[]x", "bytes that are no white space follow the array of records at byte 2"),
    ] {
        let (_, end) = split_all(Bytes::from(blob), Limits::DEFAULT);
        assert_eq!(end.unwrap_err().to_string(), text);
    }
}
