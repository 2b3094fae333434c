//! `/content/<id>.meta4`: all sources of a content as Metalink (RFC 5854), by which download programs fetch from
//! several at once.
//!
//! It names no hash: the format takes those of IANA's registry of textual names, where BLAKE3 is not, and no other
//! is known here. So the content id stands in the description, for people, and there are no pieces.

use std::{collections::BTreeMap, fmt::Write, sync::Arc};

use super::{
    Status,
    answer::Answer,
    content::absent,
    routes::{Asking, Outcome, Routes},
};
use crate::{
    content::ContentId,
    name::{SharePath, Zone, escape_xml},
    peer::{
        link::{LinkError, Located, Source},
        share::Entry,
    },
};

/// A content, and who has all of it.
struct Metalink {
    content: ContentId,
    path: Option<SharePath>,
    size: u64,
    /// Each a URL, and whether it comes before the others.
    sources: Vec<(String, bool)>,
}

impl Routes {
    /// Has the connection's own thread ask the tracker.
    pub(super) fn metalink(&self, asking: &Asking, id: &ContentId) -> Outcome {
        let (id, own, status) = (*id, self.share.path_of(id), Arc::clone(&self.status));
        let host = asking.header("Host").filter(|host| is_authority(host)).map(str::to_owned);
        self.call(move |_| {
            let located = status.asks.get().ok_or(LinkError::Leaving).and_then(|asks| asks.link.locate(&id));
            answer(id, own, host, &status, located)
        })
    }
}

/// The answer, from the `own` file with this content and what the tracker knows. Whoever has reached this peer at a
/// `host` reaches it there again.
fn answer(
    content: ContentId,
    own: Option<(SharePath, Entry)>,
    host: Option<String>,
    status: &Status,
    located: Result<Located, LinkError>,
) -> Answer {
    let Located { paths, sources } = match located {
        Ok(located) => located,
        Err(_) if own.is_some() && host.is_some() => Located::default(),
        Err(error) => {
            return Answer::problem(503, &format!("The sources are not known now: {error}.")).with("Retry-After", "5");
        }
    };
    let url = |host: &dyn std::fmt::Display| format!("{}://{host}/content/{content}", status.scheme);
    let own_url = own.as_ref().and(host.as_ref()).map(|host| (url(host), true));
    // Those of another size lie, or the others do.
    let Some(size) = own.as_ref().map(|(_, entry)| entry.size).or_else(|| likely_size(&sources)) else {
        return absent();
    };
    let is_near = |zone: &Zone| *zone == status.zone;
    let others = sources.iter().filter(|source| !source.is_partial && source.size == size);
    let others = others.filter(|source| own_url.is_none() || source.peer != status.peer);
    let sources = own_url.clone().into_iter().chain(others.map(|source| (url(&source.address), is_near(&source.zone))));
    let path = own.map(|(path, _)| path).or_else(|| paths.into_iter().next());
    let metalink = Metalink { content, path, size, sources: sources.collect() };
    if metalink.sources.is_empty() {
        return absent();
    }
    Answer::of(200, "application/metalink4+xml", metalink.document())
        .with("Content-Disposition", "attachment")
        .with("Cache-Control", "no-store")
}

/// The size that most whole sources announce.
fn likely_size(sources: &[Source]) -> Option<u64> {
    let mut claims = BTreeMap::<u64, usize>::new();
    sources.iter().filter(|source| !source.is_partial).for_each(|source| *claims.entry(source.size).or_default() += 1);
    claims.into_iter().max_by_key(|(_, claims)| *claims).map(|(size, _)| size)
}

/// Whether a value of `Host` is what stands in a URL before the path, and nothing more.
fn is_authority(host: &str) -> bool {
    !host.is_empty() && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_:[]".contains(&byte))
}

impl Metalink {
    /// One file of one name: a program would fetch the same bytes again for each more.
    fn document(&self) -> String {
        let content = self.content.to_string();
        let name = self.path.as_ref().map_or(content.as_str(), SharePath::as_str);
        let name = escape_xml(name);
        let mut text = format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<metalink xmlns=\"urn:ietf:params:xml:ns:metalink\">\n\
             <generator>enjambre/{}</generator>\n<file name=\"{name}\">\n\
             <description>BLAKE3 {content}, as b3sum prints it</description>\n<size>{}</size>\n",
            env!("CARGO_PKG_VERSION"),
            self.size
        );
        for (url, is_first) in &self.sources {
            let priority = if *is_first { 1 } else { 2 };
            let _ = writeln!(text, "<url priority=\"{priority}\">{url}</url>");
        }
        text + "</file>\n</metalink>\n"
    }
}

#[cfg(test)]
mod tests {
    use std::sync::OnceLock;

    use super::*;
    use crate::peer::metrics::Metrics;

    fn status() -> Status {
        Status {
            peer: "own".parse().unwrap(),
            zone: "z".parse().unwrap(),
            scheme: "http",
            asks: Arc::new(OnceLock::new()),
            metrics: Metrics::default(),
        }
    }

    fn source(peer: &str, port: u16, zone: &str, size: u64, is_partial: bool) -> Source {
        let address = ([10, 0, 0, 1], port).into();
        Source { peer: peer.parse().unwrap(), address, zone: zone.parse().unwrap(), size, is_partial }
    }

    fn text(answer: Answer) -> String {
        assert_eq!(answer.status, 200, "{}", String::from_utf8_lossy(&answer.body));
        String::from_utf8(answer.body).unwrap()
    }

    #[test]
    fn whole_sources_of_the_right_size_are_named_once_and_those_of_the_own_zone_first() {
        let content = ContentId::of(b"x");
        let sources = vec![
            source("own", 1, "z", 1, false),
            source("near", 2, "z", 1, false),
            source("far", 3, "y", 1, false),
            source("liar", 4, "z", 2, false),
            source("partial", 5, "z", 1, true),
        ];
        let located = Located { paths: vec!["a/b".parse().unwrap()], sources };
        let urls = |text: &str| -> Vec<String> {
            text.lines().filter(|line| line.starts_with("<url")).map(str::to_owned).collect()
        };
        let url = |priority, at: &str| format!("<url priority=\"{priority}\">http://{at}/content/{content}</url>");
        let (others, size) = ([url(1, "10.0.0.1:2"), url(2, "10.0.0.1:3")], "<size>1</size>");
        let own = Some(("c".parse().unwrap(), Entry { content, size: 1 }));
        let with_own = text(answer(content, own.clone(), Some("h:5000".into()), &status(), Ok(located.clone())));
        assert_eq!(urls(&with_own), [&[url(1, "h:5000")][..], &others].concat());
        assert!(with_own.contains("<file name=\"c\">") && with_own.contains(size), "{with_own}");
        let without = text(answer(content, None, Some("h:5000".into()), &status(), Ok(located)));
        assert_eq!(urls(&without), [&[url(1, "10.0.0.1:1")][..], &others].concat());
        assert!(without.contains("<file name=\"a/b\">") && without.contains(size), "{without}");
        // A tracker that is away is missed only by who has nothing itself.
        let alone = text(answer(content, own, Some("h:5000".into()), &status(), Err(LinkError::Leaving)));
        assert_eq!(urls(&alone), [url(1, "h:5000")]);
        assert_eq!(answer(content, None, None, &status(), Err(LinkError::Leaving)).status, 503);
        assert_eq!(answer(content, None, None, &status(), Ok(Located::default())).status, 404);
    }

    #[test]
    fn no_name_breaks_out_of_the_document() {
        let sources = vec![("http://h/".to_owned(), true)];
        let path = Some("\"><url>evil</url>&\u{ffff}'".parse().unwrap());
        let text = Metalink { content: ContentId::of(b""), path, size: 0, sources }.document();
        assert_eq!(text.matches("<url").count(), 1);
        assert!(text.contains("name=\"&quot;&gt;&lt;url&gt;evil&lt;/url&gt;&amp;\u{fffd}&#39;\">"), "{text}");
        for host in ["h", "h:5000", "[::1]:5000", "10.0.0.1"] {
            assert!(is_authority(host), "{host}");
        }
        for host in ["", "h/x", "u@h", "h<", "h&", "h\"", "h x"] {
            assert!(!is_authority(host), "{host}");
        }
    }
}
