//! A content as it is cut into pieces, which of them are here, and how more get in: only as what
//! verifies.

use std::{io, ops::Range, sync::mpsc, thread};

use super::{
    fetch::Exactly,
    get::{Failure, Watch},
    partial::Running,
};
use crate::{
    content::{ContentId, PieceIndex, PieceList, PieceVerifier, Pieces},
    limits,
    peer::share::Partial,
};

/// The content as the size that a source claims cuts it, with a list that folds to the id, and the
/// pieces that are here under that cut. Only pieces that verify prove the size: a source that claims
/// another starts anew with its own.
pub(super) struct Cut {
    pieces: Pieces,
    list: PieceList,
    have: Vec<bool>,
    /// What others see of it.
    running: Running,
}

impl Cut {
    /// Of which nothing is known to be here.
    pub(super) fn new(pieces: Pieces, list: PieceList, running: Running) -> Self {
        Self { pieces, list, have: vec![false; pieces.count()], running }
    }

    pub(super) fn pieces(&self) -> &Pieces {
        &self.pieces
    }

    pub(super) fn list(&self) -> &PieceList {
        &self.list
    }

    /// The first run of pieces that are not here.
    pub(super) fn missing(&self) -> Option<Range<usize>> {
        missing_run(&self.have)
    }

    /// The bytes of a run of pieces, which is not empty.
    pub(super) fn bytes(&self, run: &Range<usize>) -> Range<u64> {
        self.pieces.range(self.piece(run.start)).start..self.pieces.range(self.piece(run.end - 1)).end
    }

    fn piece(&self, index: usize) -> PieceIndex {
        self.pieces.index(index).expect("within the content")
    }

    fn gain(&mut self, piece: PieceIndex) {
        self.have[piece.get()] = true;
        self.running.gain(piece);
    }

    /// Reads again what the file may hold, and believes only what verifies; the number of pieces.
    pub(super) fn verify(&mut self, id: &ContentId, file: &Partial) -> io::Result<usize> {
        let mut block = vec![0; limits::BLOCK_BYTES];
        for data in file.data(self.pieces.size())? {
            let first = data.start.div_ceil(self.pieces.length());
            for index in first as usize..self.have.len() {
                let piece = self.piece(index);
                let range = self.pieces.range(piece);
                if range.end > data.end {
                    break;
                }
                let mut verifier = PieceVerifier::new(id, &self.pieces, &self.list, piece);
                let mut at = range.start;
                while at < range.end {
                    let room = block.len().min((range.end - at) as usize);
                    match file.read_at(&mut block[..room], at)? {
                        0 => break,
                        read => {
                            verifier.update(&block[..read]);
                            at += read as u64;
                        }
                    }
                }
                if verifier.is_true() {
                    self.gain(piece);
                }
            }
        }
        Ok(self.have.iter().filter(|have| **have).count())
    }
}

/// Takes the bytes of a run of pieces in order: writes them, verifies each piece and marks it.
pub(super) struct Sink<'a> {
    id: &'a ContentId,
    file: &'a Partial,
    cut: &'a mut Cut,
    watch: &'a dyn Watch,
    run: Range<usize>,
    verifier: PieceVerifier,
    offset: u64,
    /// Bytes here before this run and since, verified or not.
    done: u64,
    /// Bytes of this run that have verified.
    verified: u64,
}

impl<'a> Sink<'a> {
    /// `run` is not empty.
    pub(super) fn new(
        id: &'a ContentId,
        file: &'a Partial,
        cut: &'a mut Cut,
        run: Range<usize>,
        watch: &'a dyn Watch,
    ) -> Self {
        let length = |index| cut.pieces.range(cut.piece(index));
        let here = (0..cut.have.len()).filter(|index| cut.have[*index]).map(length);
        let done = here.map(|range| range.end - range.start).sum();
        let first = cut.piece(run.start);
        let verifier = PieceVerifier::new(id, &cut.pieces, &cut.list, first);
        let offset = cut.pieces.range(first).start;
        Self { id, file, cut, watch, run, verifier, offset, done, verified: 0 }
    }

    fn take(&mut self, mut bytes: &[u8]) -> Result<(), Failure> {
        self.file.write_at(bytes, self.offset)?;
        self.offset += bytes.len() as u64;
        while !bytes.is_empty() {
            let room = self.verifier.missing().min(bytes.len() as u64) as usize;
            let (now, later) = bytes.split_at(room);
            self.verifier.update(now);
            self.done += room as u64;
            bytes = later;
            if self.verifier.missing() == 0 {
                self.end_piece()?;
            }
        }
        self.watch.progress(self.done, self.cut.pieces.size());
        Ok(())
    }

    /// Settles the current piece, whose bytes are all here, and begins the next one.
    pub(super) fn end_piece(&mut self) -> Result<(), Failure> {
        let index = self.run.start;
        let piece = self.cut.piece(index);
        let next = self.cut.piece((index + 1).min(self.run.end - 1));
        let next = PieceVerifier::new(self.id, &self.cut.pieces, &self.cut.list, next);
        if !std::mem::replace(&mut self.verifier, next).is_true() {
            let count = self.cut.have.len();
            return Err(Failure::Liar(format!("sent wrong bytes (piece {} of {count})", index + 1)));
        }
        self.cut.gain(piece);
        let range = self.cut.pieces.range(piece);
        self.verified += range.end - range.start;
        self.run.start += 1;
        Ok(())
    }
}

/// Moves a body into the sink. Receiving and verifying are two threads, so that neither waits for
/// the other; a few blocks go round between them. Returns the bytes that verified, and how it ended.
pub(super) fn transfer(mut body: Exactly, sink: &mut Sink<'_>) -> (u64, Result<(), Failure>) {
    let (full, filled) = mpsc::sync_channel::<(Vec<u8>, usize)>(limits::FETCH_BLOCKS);
    let (back, empty) = mpsc::channel();
    for _ in 0..limits::FETCH_BLOCKS {
        let _ = back.send(vec![0; limits::FETCH_BLOCK_BYTES]);
    }
    let taker = &mut *sink;
    let end = thread::scope(|scope| {
        let writer = scope.spawn(move || {
            filled.into_iter().try_for_each(|(block, length)| {
                taker.take(&block[..length])?;
                let _ = back.send(block);
                Ok(())
            })
        });
        let mut receive = || {
            // A writer that has given up gives no more blocks back, and says itself why.
            while let Ok(mut block) = empty.recv() {
                let length = body.fill(&mut block)?;
                if length == 0 || full.send((block, length)).is_err() {
                    break;
                }
            }
            Ok(())
        };
        let received = receive();
        drop(full);
        let written = writer.join().unwrap_or_else(|_| Err(io::Error::other("the writer failed").into()));
        written.and(received)
    });
    (sink.verified, end)
}

/// The first run of absent pieces.
fn missing_run(have: &[bool]) -> Option<Range<usize>> {
    let start = have.iter().position(|have| !have)?;
    let length = have[start..].iter().position(|have| *have).unwrap_or(have.len() - start);
    Some(start..start + length)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_cover_what_is_missing_and_nothing_else() {
        let run = |have: &str| missing_run(&have.chars().map(|c| c == '#').collect::<Vec<_>>());
        for (have, expected) in [
            ("", None),
            ("###", None),
            ("...", Some(0..3)),
            ("#..#.", Some(1..3)),
            ("##.", Some(2..3)),
            (".#.", Some(0..1)),
        ] {
            assert_eq!(run(have), expected, "{have}");
        }
    }
}
