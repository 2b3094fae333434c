//! Which contents this peer downloads, and what of that the tracker has been told. Pure.

use std::collections::BTreeMap;

use super::replies::Mirror;
use crate::{content::ContentId, limits, proto};

/// The downloads under way, each with its size.
#[derive(Default)]
pub(super) struct Downloads {
    /// Of the stay in the swarm that lasts; none outside one.
    token: Option<Vec<u8>>,
    wanted: BTreeMap<ContentId, u64>,
    /// As the tracker has it, if it still has what it was told in this stay.
    told: BTreeMap<ContentId, u64>,
    /// How far this peer is with what it mirrors, and what the tracker has of that.
    mirror: Option<Mirror>,
    told_mirror: Option<Mirror>,
}

impl Downloads {
    /// True when that is news.
    pub(super) fn begin(&mut self, id: ContentId, size: u64) -> bool {
        self.wanted.insert(id, size) != Some(size)
    }

    pub(super) fn end(&mut self, id: &ContentId) {
        self.wanted.remove(id);
    }

    /// True when that is news.
    pub(super) fn mirror(&mut self, mirror: Mirror) -> bool {
        self.mirror.replace(mirror) != Some(mirror)
    }

    /// A stay begins, or (none) ends: a tracker knows nothing of earlier ones.
    pub(super) fn stay(&mut self, token: Option<Vec<u8>>) {
        self.token = token;
        self.told.clear();
        self.told_mirror = None;
    }

    pub(super) fn token(&self) -> Option<Vec<u8>> {
        self.token.clone()
    }

    /// The tracker no longer knows this token, as far as one call can tell.
    pub(super) fn doubt(&mut self, token: &[u8]) {
        if self.token.as_deref() == Some(token) {
            self.told.clear();
            self.told_mirror = None;
        }
    }

    /// What to tell the tracker of downloads that have begun, and of what is mirrored.
    pub(super) fn begun(&self) -> Option<proto::AnnounceRequest> {
        let news = self.wanted.iter().filter(|(id, size)| self.told.get(id) != Some(size));
        let download = |(id, size): (&ContentId, &u64)| proto::Download { content: id.bytes().to_vec(), size: *size };
        let downloading: Vec<_> = news.take(limits::ANNOUNCE_FILES).map(download).collect();
        let mirror = self.mirror.filter(|_| self.mirror != self.told_mirror);
        let mirror = mirror.map(|Mirror { wanted, here }| proto::Mirror { wanted, here });
        self.request(proto::AnnounceRequest { downloading, mirror, ..proto::AnnounceRequest::default() })
    }

    /// What to tell it of those that have ended.
    pub(super) fn ended(&self) -> Option<proto::AnnounceRequest> {
        let news = self.told.keys().filter(|id| !self.wanted.contains_key(id));
        let stopped: Vec<_> = news.take(limits::ANNOUNCE_FILES).map(|id| id.bytes().to_vec()).collect();
        self.request(proto::AnnounceRequest { stopped, ..proto::AnnounceRequest::default() })
    }

    fn request(&self, request: proto::AnnounceRequest) -> Option<proto::AnnounceRequest> {
        let is_empty = request.downloading.is_empty() && request.stopped.is_empty() && request.mirror.is_none();
        let token = self.token.clone().filter(|_| !is_empty)?;
        Some(proto::AnnounceRequest { token, ..request })
    }

    /// The tracker has been told, or will not hear of it in this stay.
    pub(super) fn tell(&mut self, request: &proto::AnnounceRequest) {
        if self.token.as_ref() != Some(&request.token) {
            return;
        }
        let mirror = request.mirror.as_ref().map(|mirror| Mirror { wanted: mirror.wanted, here: mirror.here });
        self.told_mirror = mirror.or(self.told_mirror);
        for download in &request.downloading {
            if let Ok(id) = ContentId::try_from(download.content.as_slice()) {
                self.told.insert(id, download.size);
            }
        }
        for id in &request.stopped {
            if let Ok(id) = ContentId::try_from(id.as_slice()) {
                self.told.remove(&id);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tracker_is_told_each_thing_once_a_stay() {
        let (one, other) = (ContentId::of(b"1"), ContentId::of(b"2"));
        let mut downloads = Downloads::default();
        downloads.begin(one, 7);
        assert_eq!(downloads.begun(), None, "not joined");
        downloads.stay(Some(vec![1]));
        let begun = downloads.begun().unwrap();
        assert_eq!((&begun.token, begun.downloading[0].size, begun.stopped.len()), (&vec![1], 7, 0));
        downloads.tell(&begun);
        assert_eq!((downloads.begun(), downloads.ended()), (None, None));
        // Another size is another thing to say.
        downloads.begin(one, 8);
        downloads.tell(&downloads.begun().unwrap());
        downloads.begin(other, 1);
        downloads.end(&other);
        assert_eq!((downloads.begun(), downloads.ended()), (None, None), "never told of it");
        downloads.end(&one);
        let ended = downloads.ended().unwrap();
        assert_eq!(ended.stopped, [one.bytes().to_vec()]);
        // Begun again meanwhile: once it was told of the end it is told of that.
        downloads.begin(one, 8);
        assert_eq!((downloads.begun(), downloads.ended()), (None, None));
        downloads.tell(&ended);
        downloads.tell(&downloads.begun().unwrap());
        // What is mirrored goes along, and is told once too.
        assert!(downloads.mirror(Mirror { wanted: 3, here: 1 }) && !downloads.mirror(Mirror { wanted: 3, here: 1 }));
        assert_eq!(downloads.begun().unwrap().mirror, Some(proto::Mirror { wanted: 3, here: 1 }));
        downloads.tell(&downloads.begun().unwrap());
        assert_eq!(downloads.begun(), None);
        // What was told in an earlier stay does not count.
        downloads.stay(Some(vec![2]));
        downloads.tell(&begun);
        assert_eq!(downloads.begun().unwrap().downloading[0].size, 8);
        downloads.tell(&downloads.begun().unwrap());
        downloads.doubt(&[1]);
        assert_eq!(downloads.begun(), None);
        downloads.doubt(&[2]);
        assert_eq!(downloads.begun().unwrap().token, [2]);
        downloads.stay(None);
        assert_eq!((downloads.begun(), downloads.token()), (None, None));
    }

    #[test]
    fn many_downloads_are_told_in_parts() {
        let mut downloads = Downloads::default();
        downloads.stay(Some(vec![1]));
        for number in 0..limits::ANNOUNCE_FILES as u64 + 1 {
            downloads.begin(ContentId::of(&number.to_be_bytes()), number);
        }
        for expected in [limits::ANNOUNCE_FILES, 1] {
            let begun = downloads.begun().unwrap();
            assert_eq!(begun.downloading.len(), expected);
            downloads.tell(&begun);
        }
        assert_eq!(downloads.begun(), None);
    }
}
