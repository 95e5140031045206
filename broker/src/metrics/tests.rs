use std::time::Duration;

use super::*;

fn scrape(metrics: &Metrics) -> String {
    let mut out = Exposition::default();
    metrics.write(&mut out);
    out.into_text()
}

#[test]
fn histograms_are_cumulative() {
    let histogram = Histogram::default();
    histogram.observe(Duration::from_micros(50));
    histogram.observe(Duration::from_micros(51));
    histogram.observe(Duration::from_secs(60));
    let mut out = Exposition::default();
    histogram.write(&mut out, "x", &[]);
    let text = out.into_text();
    assert!(text.contains("x_bucket{le=\"0.00005\"} 1\n"), "{text}");
    assert!(text.contains("x_bucket{le=\"0.0001\"} 2\n"), "{text}");
    assert!(text.contains("x_bucket{le=\"10\"} 2\n"), "{text}");
    assert!(text.contains("x_bucket{le=\"+Inf\"} 3\n"), "{text}");
    assert!(text.contains("x_count 3\n"), "{text}");
}

#[test]
fn requests_are_counted_by_api_and_error() {
    let metrics = Metrics::new();
    metrics.requests.observe(0, 0, Duration::from_millis(1));
    metrics.requests.observe(0, 6, Duration::from_millis(1));
    metrics.requests.observe(-7, i16::MAX, Duration::from_millis(1));
    metrics.requests.observe(126, i16::MAX, Duration::from_millis(1));
    let text = scrape(&metrics);
    assert!(text.contains("varve_requests_total{api=\"Produce\",error=\"none\"} 1\n"), "{text}");
    assert!(text.contains("varve_requests_total{api=\"Produce\",error=\"6\"} 1\n"), "{text}");
}

#[test]
fn topics_come_and_go() {
    let metrics = Metrics::new();
    let topic = metrics.topics.topic("a\"b");
    topic.appended(100, 3);
    topic.refused(10);
    let text = scrape(&metrics);
    assert!(text.contains("varve_topic_records_in_total{topic=\"a\\\"b\"} 3\n"), "{text}");
    assert!(
        text.contains("varve_produce_errors_total{topic=\"a\\\"b\",error=\"10\"} 1\n"),
        "{text}"
    );
    metrics.topics.remove("a\"b");
    assert!(!scrape(&metrics).contains("a\\\"b"));
}

#[test]
fn every_family_is_told_once_and_before_its_samples() {
    let text = scrape(&Metrics::new());
    let mut families = Vec::new();
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let name = rest.split(' ').next().expect("a name").to_owned();
            assert!(!families.contains(&name), "{name} twice");
            families.push(name);
        } else if !line.starts_with('#') {
            let name = line.split(['{', ' ']).next().expect("a name");
            let current = families.last().expect("a family first");
            assert!(name.starts_with(current.as_str()), "{name} below {current}");
        }
    }
    assert!(families.iter().any(|name| name == "process_resident_memory_bytes"), "{families:?}");
}

#[test]
fn a_gauge_never_falls_below_zero() {
    let gauge = Gauge::default();
    gauge.add(2);
    gauge.subtract(5);
    assert_eq!(gauge.value(), 0);
}
