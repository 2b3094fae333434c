//! The call that is answered for as long as somebody listens: what it asks for, parsed, and what answers it.

use super::{Calls, Refused, invalid, parse};
use crate::{
    digest::Digest,
    limits,
    name::{PeerId, SharePath},
    proto,
    tracker::{
        registry::{Content, Identity, Place},
        search::Pattern,
        watches::{Wanted, Watches},
    },
};

impl Calls {
    /// Who watches, and what.
    pub(in crate::tracker) fn watch(&self, request: &proto::WatchRequest) -> Result<(PeerId, Wanted), Refused> {
        let token = self.token(&request.token)?;
        let proto::WatchRequest { publishers, patterns, .. } = request;
        for (field, len) in [("publishers", publishers.len()), ("patterns", patterns.len())] {
            if len == 0 {
                return Err(invalid(field, "at least one"));
            }
            if len > limits::WATCHED {
                return Err(Refused::TooMuch(format!("a watch has at most {} {field}", limits::WATCHED)));
            }
        }
        let mut wanted = Wanted { publishers: Vec::new(), patterns: Vec::new() };
        for (at, proto::Publisher { peer_id, known }) in publishers.iter().enumerate() {
            let id: PeerId = parse(format_args!("publishers[{at}].peer_id"), peer_id)?;
            if wanted.publishers.iter().any(|(other, _)| *other == id) {
                return Err(invalid(format_args!("publishers[{at}].peer_id"), "each once"));
            }
            let known = match known.len() {
                0 => None,
                _ => Some(Digest(
                    (known[..].try_into()).map_err(|_| invalid(format_args!("publishers[{at}].known"), "32 bytes"))?,
                )),
            };
            wanted.publishers.push((id, known));
        }
        for (at, text) in patterns.iter().enumerate() {
            if text.is_empty() || text.len() > limits::PATH_BYTES {
                return Err(invalid(format_args!("patterns[{at}]"), format_args!("1 to {} bytes", limits::PATH_BYTES)));
            }
            wanted.patterns.push(Pattern::whole(text));
        }
        Ok((self.registry().0.who(token)?, wanted))
    }

    /// Who watches what.
    pub(in crate::tracker) fn watches(&self) -> &Watches {
        &self.shared.watches
    }

    /// Some of a peer's files, and who it is, while it is in.
    pub(in crate::tracker) fn read_files(
        &self,
        id: &PeerId,
        place: &mut Place,
    ) -> Option<(Identity, Vec<(SharePath, Content)>)> {
        let (registry, _) = self.registry();
        Some((registry.identity(id)?, registry.read_files(id, place, limits::WATCH_STEP)))
    }
}
