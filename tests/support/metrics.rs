//! Prometheus's text format, read strictly.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
};

use super::{Response, get};

/// A sample: its name, and its labels in order.
pub type Sample = (String, Vec<(String, String)>);

/// All samples of an answer.
pub type Samples = BTreeMap<Sample, f64>;

/// Reads the text format as strictly as Prometheus does, and more: each family has HELP and TYPE before its
/// samples, samples stand together, none comes twice, and a histogram's buckets add up.
#[track_caller]
fn parse(text: &str) -> Samples {
    let is_name = |name: &str| {
        name.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_')
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
    };
    assert!(text.ends_with('\n'));
    let (mut samples, mut families) = (BTreeMap::new(), BTreeSet::new());
    let (mut family, mut kind) = ("", "");
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            let (name, sentence) = help.split_once(' ').unwrap();
            assert!(is_name(name) && sentence.ends_with('.') && families.insert(name), "{line}");
            let type_line = lines.next().unwrap().strip_prefix("# TYPE ").unwrap();
            kind = type_line.strip_prefix(name).unwrap().trim_start();
            assert!(matches!(kind, "counter" | "gauge" | "histogram"), "{type_line}");
            assert_eq!(kind == "counter", name.ends_with("_total"), "{type_line}");
            family = name;
            continue;
        }
        let (sample, value) = line.rsplit_once(' ').unwrap();
        let (name, labels) = match sample.split_once('{') {
            Some((name, labels)) => (name, labels.strip_suffix('}').unwrap()),
            None => (sample, ""),
        };
        let suffix = name.strip_prefix(family).unwrap_or_else(|| panic!("{line}: not of {family}"));
        let allowed: &[&str] = if kind == "histogram" { &["_bucket", "_sum", "_count"] } else { &[""] };
        assert!(is_name(name) && allowed.contains(&suffix), "{line}");
        let labels: Vec<_> = (labels.split(',').filter(|label| !label.is_empty()))
            .map(|label| {
                let (name, value) = label.split_once('=').unwrap();
                let value = value.strip_prefix('"').unwrap().strip_suffix('"').unwrap();
                assert!(is_name(name) && !value.contains(['"', '\\']), "{line}");
                (name.to_owned(), value.to_owned())
            })
            .collect();
        let value: f64 = value.parse().unwrap();
        assert!(value >= 0.0, "{line}");
        assert_eq!(samples.insert((name.to_owned(), labels), value), None, "{line} comes twice");
    }
    for ((name, labels), count) in &samples {
        let Some(family) = name.strip_suffix("_count") else { continue };
        let is_bucket = |sample: &Sample| sample.0 == format!("{family}_bucket") && sample.1.starts_with(labels);
        let mut buckets: Vec<_> = (samples.iter().filter(|(sample, _)| is_bucket(sample)))
            .map(|(sample, value)| (sample.1.last().unwrap().1.parse::<f64>().unwrap(), *value))
            .collect();
        buckets.sort_by(|one, other| one.0.total_cmp(&other.0));
        assert!(buckets.is_sorted_by_key(|(_, value)| *value), "{family}: {buckets:?}");
        assert_eq!(buckets.last(), Some(&(f64::INFINITY, *count)), "{family}");
    }
    samples
}

/// The samples of `/metrics` there.
#[track_caller]
pub fn metrics(at: SocketAddr) -> Samples {
    samples(&get(at, "/metrics"))
}

/// The samples of an answer.
#[track_caller]
pub fn samples(response: &Response) -> Samples {
    assert_eq!(
        (response.status, response.header("content-type")),
        (200, Some("text/plain; version=0.0.4; charset=utf-8"))
    );
    parse(response.text())
}

/// One sample, which there has to be.
#[track_caller]
pub fn value(samples: &Samples, name: &str, labels: &[(&str, &str)]) -> f64 {
    let labels = labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let sample = (name.to_owned(), labels);
    *samples.get(&sample).unwrap_or_else(|| panic!("there is no {sample:?}"))
}
