//! What is told to scripts: a line each, with tabs between its columns. No path and no id holds a tab.

use super::{Got, Status};
use crate::{
    name::SharePath,
    peer::{
        link::{Found, Member},
        swarm::jobs::Listed,
    },
};

/// A row of a search: content id, size, number of sources, path, ids of the first of these.
pub fn found(found: &Found) -> String {
    let Found { path, content, size, sources, source_ids } = found;
    let ids: Vec<_> = source_ids.iter().map(|peer| peer.as_str()).collect();
    format!("{content}\t{size}\t{sources}\t{path}\t{}\n", ids.join(","))
}

/// A file that is here: content id, size, path.
pub fn got(Got { content, size, path, .. }: &Got) -> String {
    format!("{content}\t{size}\t{path}\n")
}

/// A download: content id, size where it is known, bytes here, state, path where it is known, number where it has
/// one, bytes a second.
pub fn listed(listed: &Listed) -> String {
    let Listed { number, content, path, size, here, rate, standing } = listed;
    let [size, number] = [size, number].map(|known| known.map_or_else(String::new, |known| known.to_string()));
    let path = path.as_ref().map_or("", SharePath::as_str);
    format!("{content}\t{size}\t{here}\t{standing}\t{path}\t{number}\t{rate}\n")
}

/// A peer: id, address, zone, files, bytes, downloads, and of what it mirrors how many files are here and how many are
/// wanted, both empty where it mirrors nothing.
pub fn member(member: &Member) -> String {
    let Member { place, files, bytes, downloads, mirror } = member;
    let mirror = mirror.map_or_else(|| "\t".to_owned(), |mirror| format!("{}\t{}", mirror.here, mirror.wanted));
    let (peer, address, zone) = (&place.peer, place.address, place.zone.as_str());
    format!("{peer}\t{address}\t{zone}\t{files}\t{bytes}\t{downloads}\t{mirror}\n")
}

/// How a peer stands: a line each, name and value.
pub fn status(status: &Status) -> String {
    let Status { peer, zone, is_joined, trackers, files, bytes, hashing } = status;
    let joined = if *is_joined { "yes" } else { "no" };
    let (zone, trackers, hashing) = (zone.as_str(), trackers.join(","), hashing.map_or(0, |hashing| hashing.files));
    format!(
        "peer\t{peer}\nzone\t{zone}\ntrackers\t{trackers}\njoined\t{joined}\nfiles\t{files}\nbytes\t{bytes}\n\
         hashing\t{hashing}\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        content::ContentId,
        peer::{
            link::{Mirror, Place},
            swarm::jobs::Standing,
        },
    };

    #[test]
    fn a_search_row_has_five_columns() {
        let content = ContentId::of(b"");
        let row = Found {
            path: "a b/c".parse().unwrap(),
            content,
            size: 7,
            sources: 2,
            source_ids: vec!["p1".parse().unwrap(), "p2".parse().unwrap()],
        };
        assert_eq!(found(&row), format!("{content}\t7\t2\ta b/c\tp1,p2\n"));
    }

    #[test]
    fn a_download_has_seven_columns_whatever_is_known() {
        let content = ContentId::of(b"");
        let running = Listed {
            number: Some(1),
            content,
            path: Some("a b/c".parse().unwrap()),
            size: Some(9),
            here: 7,
            rate: 3,
            standing: Standing::Running,
        };
        assert_eq!(listed(&running), format!("{content}\t9\t7\trunning\ta b/c\t1\t3\n"));
        let left = Listed { number: None, path: None, size: None, rate: 0, standing: Standing::Left, ..running };
        assert_eq!(listed(&left), format!("{content}\t\t7\tleft\t\t\t0\n"));
    }

    #[test]
    fn a_peer_has_eight_columns_whether_it_mirrors_or_not() {
        let place =
            Place { peer: "p".parse().unwrap(), address: ([10, 0, 0, 1], 5000).into(), zone: "z".parse().unwrap() };
        let plain = Member { place, files: 2, bytes: 9, downloads: 1, mirror: None };
        assert_eq!(member(&plain), "p\t10.0.0.1:5000\tz\t2\t9\t1\t\t\n");
        let following = Member { mirror: Some(Mirror { wanted: 5, here: 4 }), ..plain };
        assert_eq!(member(&following), "p\t10.0.0.1:5000\tz\t2\t9\t1\t4\t5\n");
    }
}
