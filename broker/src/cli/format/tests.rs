use super::*;

#[track_caller]
fn printed(format: &str) -> String {
    let format = match Format::parse(format) {
        Ok(format) => format,
        Err(error) => panic!("{error}"),
    };
    let receipt = Receipt { brokers: "1,3".to_owned(), racks: "a,b".to_owned() };
    let record = RecordView {
        topic: "orders",
        partition: 3,
        offset: 258,
        timestamp_ms: 1_700_000_000_123,
        leader_epoch: 7,
        attributes: 0b1100,
        producer_id: 9,
        producer_epoch: 1,
        key: Some(b"k1"),
        value: Some(b"{\"a\": 1}"),
        headers: vec![(b"h", Some(b"x")), (b"n", None)],
        log_start: 5,
        last_stable: 300,
        high_watermark: 301,
        number: 1,
        receipt: Some(&receipt),
    };
    let mut out = Vec::new();
    format.print(&record, &mut out);
    String::from_utf8_lossy(&out).into_owned()
}

#[track_caller]
fn refused(format: &str) -> String {
    Format::parse(format).expect_err("must be refused").to_string()
}

#[track_caller]
fn read(format: &str, input: &[u8]) -> Vec<InputRecord> {
    let format = Format::parse(format).expect("a format");
    let mut reader = RecordReader::new(format, input).expect("a readable format");
    let mut records = Vec::new();
    while let Some(record) = reader.next().expect("right input") {
        records.push(record);
    }
    records
}

fn record(key: Option<&str>, value: &str) -> InputRecord {
    InputRecord {
        key: key.map(|key| key.as_bytes().to_vec()),
        value: Some(value.as_bytes().to_vec()),
        ..InputRecord::default()
    }
}

#[test]
fn verbs_print_their_fields() {
    assert_eq!(printed("%t/%p@%o e%e %k=%v\\n"), "orders/3@258 e7 k1={\"a\": 1}\n");
    assert_eq!(printed("%T %K %V %s %S %H %i"), "6 2 8 {\"a\": 1} 8 2 1");
    assert_eq!(printed("%[ %| %] %x %y"), "5 300 301 9 1");
    assert_eq!(printed("on %b in %r"), "on 1,3 in a,b");
    assert_eq!(printed("100%% %{%} \\x41\\t"), "100% {} A\t");
    assert_eq!(printed("%h{ %k=%v;}"), " h=x; n=;");
    assert_eq!(printed("%a %a{compression} %a{timestamp-type}"), "12 zstd LogAppendTime");
}

#[test]
fn modifiers_change_the_form() {
    assert_eq!(printed("%k{hex} %k{base64} %k{base64raw}"), "6b31 azE= azE");
    assert_eq!(printed("%v{json} %k{json}"), "{\"a\":1} \"k1\"");
    assert_eq!(printed("%o{hex16} %o{hex64}"), "0102 0000000000000102");
    assert_eq!(printed("%o{big16}%o{little16}"), "\u{1}\u{2}\u{2}\u{1}");
    assert_eq!(printed("%k{unpack[>H]} %k{unpack[<H]} %k{unpack[cB$]}"), "27441 12651 k 49");
    assert_eq!(printed("%k{unpack[i]}"), "(2 bytes too few)");
    assert_eq!(printed("%h{%k{hex} }"), "68 6e ");
}

#[test]
fn timestamps_are_utc() {
    assert_eq!(printed("%d"), "1700000000123");
    assert_eq!(printed("%d{unix}"), "1700000000");
    assert_eq!(printed("%d{iso}"), "2023-11-14T22:13:20.123Z");
    assert_eq!(printed("%d{strftime[%F %T.%L %a %b %j]}"), "2023-11-14 22:13:20.123 Tue Nov 318");
    assert_eq!(strftime("%F %T", -1), "1969-12-31 23:59:59");
}

#[test]
fn wrong_formats_say_where_and_what() {
    assert!(refused("%q").contains("`%q` is no verb"), "{}", refused("%q"));
    assert!(refused("%v{rot13}").contains("a text takes {hex}"));
    assert!(refused("%o{big24}").contains("a number takes"));
    assert!(refused("%h").contains("%h wants a format in braces"));
    assert!(refused("%h{%o}").contains("inside %h{…}"));
    assert!(refused("%h{%k").contains("has no `}`"));
    assert!(refused("abc%").contains("at character 4"), "{}", refused("abc%"));
}

#[test]
fn lines_are_read() {
    assert_eq!(read("%v\\n", b"one\ntwo\n"), [record(None, "one"), record(None, "two")]);
    // The last line need not end.
    assert_eq!(read("%k %v\\n", b"a 1\nb 2 3"), [record(Some("a"), "1"), record(Some("b"), "2 3")]);
    assert_eq!(
        read("%k::%v\\r\\n", b"a::1\r\nb::2\r\n"),
        [record(Some("a"), "1"), record(Some("b"), "2")]
    );
    assert_eq!(read("%v\\n", b""), []);
}

#[test]
fn lengths_and_encodings_are_read() {
    assert_eq!(
        read("%K{big16}%k%V{big16}%v", b"\0\x01a\0\x02bc\0\x00\0\x01d"),
        [record(Some("a"), "bc"), record(Some(""), "d")]
    );
    assert_eq!(read("%k{hex},%v{base64}\\n", b"6b31,YWJj\n"), [record(Some("k1"), "abc")]);
    let json = read("%v{json}", b"{\"a\":\"}\"} [1,2]\n3 \"x\"");
    let values: Vec<_> = json
        .iter()
        .map(|record| String::from_utf8_lossy(record.value.as_deref().unwrap()))
        .collect();
    assert_eq!(values, ["{\"a\":\"}\"}", "[1,2]", "3", "\"x\""]);
}

#[test]
fn topics_partitions_times_and_headers_are_read() {
    let records = read("%t %p %d %H %h{%k=%v,}%v\\n", b"t 2 99 2 a=1,b=2,v\n");
    assert_eq!(
        records,
        [InputRecord {
            topic: Some("t".into()),
            partition: Some(2),
            timestamp_ms: Some(99),
            key: None,
            value: Some(b"v".to_vec()),
            headers: vec![("a".into(), Some(b"1".to_vec())), ("b".into(), Some(b"2".to_vec()))],
        }]
    );
}

#[test]
fn wrong_input_names_the_record() {
    let format = Format::parse("%V %v\\n").expect("a format");
    let mut reader = RecordReader::new(format, &b"1 a\n9 b\n"[..]).expect("a format");
    reader.next().expect("right").expect("one");
    let error = reader.next().expect_err("too short").to_string();
    assert_eq!(error, "record 2 of the input: the input ends 7 bytes too early");
}

#[test]
fn what_cannot_be_read_is_refused_at_once() {
    for format in ["%o %v\\n", "%k%v\\n", "%d{iso} %v\\n", "%a %v\\n"] {
        let format = Format::parse(format).expect("a format");
        assert!(RecordReader::new(format.clone(), &b""[..]).is_err(), "{format:?}");
    }
}

#[test]
fn base64_round_trips() {
    for length in 0..20u8 {
        let bytes: Vec<u8> = (0..length).map(|byte| byte.wrapping_mul(37)).collect();
        for padded in [true, false] {
            let text = base64::encode(&bytes, padded);
            assert_eq!(base64::decode(text.as_bytes()), Some(bytes.clone()), "{text}");
        }
    }
    assert_eq!(base64::decode(b"a"), None);
    assert_eq!(base64::decode(b"!!!!"), None);
}

#[test]
fn instants_are_read() {
    let now = 1_700_000_000_000;
    assert_eq!(parse_instant("1700000000123", now), Some(1_700_000_000_123));
    assert_eq!(parse_instant("1700000000", now), Some(1_700_000_000_000));
    assert_eq!(parse_instant("-1h30m", now), Some(now - 5_400_000));
    assert_eq!(parse_instant("2023-11-14", now), Some(1_699_920_000_000));
    assert_eq!(parse_instant("2023-11-14T22:13:20.123Z", now), Some(1_700_000_000_123));
    assert_eq!(parse_instant("2023-11-15T00:13:20+02:00", now), Some(1_700_000_000_000));
    for wrong in ["", "-", "-1", "2023-02-30", "2023-13-01", "yesterday", "12:00"] {
        assert_eq!(parse_instant(wrong, now), None, "{wrong}");
    }
}
