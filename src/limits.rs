//! Every cap and every time-out, named, with its reason.
//!
//! Sizes are bytes. Nothing here is configurable, but for the defaults of flags, which say so: a limit
//! that has to be turned is a limit that was chosen badly.

use std::{num::NonZeroUsize, time::Duration};

// ---- names ---------------------------------------------------------------------------------

/// A path in a share; a quarter of what Linux allows, so that it fits wherever a share lies.
pub const PATH_BYTES: usize = 1024;
/// One part of a path: what ext4, xfs and btrfs store.
pub const PATH_PART_BYTES: usize = 255;
/// A peer id or a zone.
pub const LABEL_BYTES: usize = 64;

// ---- pieces --------------------------------------------------------------------------------

/// The shortest piece length: below it, request heads cost more than 1% of the bytes.
pub const PIECE_BYTES: u64 = 32 << 10;
/// The most pieces a content is cut into: a piece list is then 256 KiB at most.
pub const PIECES: usize = 8192;
/// The largest content; 2^62 is far beyond any disk, and sums of two sizes still fit.
pub const CONTENT_BYTES: u64 = 1 << 62;

// ---- tracker -------------------------------------------------------------------------------

/// The lease where `--lease` does not say otherwise.
pub const LEASE: Duration = Duration::from_secs(15);
/// What `--lease` takes: shorter would be lost to one slow round trip, longer keeps the dead.
pub const LEASE_SECONDS: std::ops::RangeInclusive<u64> = 1..=3600;
/// Peers and downloads forgotten in one step, where the leases of many end together; between two steps others
/// are answered.
pub const EXPIRY_STEP: usize = 256;
/// Files added and removed in one announce.
pub const ANNOUNCE_FILES: usize = 1000;
/// Files of an announce that are put into the registry in one step, between which others are answered: half a
/// millisecond, two where all are new.
pub const ANNOUNCE_STEP: usize = 200;
/// Files one peer may hold in the tracker: the share of a million files fits.
pub const FILES_PER_PEER: usize = 2_000_000;
/// Files all peers hold together: 26 bytes each, as measured where ten peers share a path, which is a sixth of a
/// machine of 2 GiB. A path and a content that nobody shares take some 180 with them.
pub const FILES: usize = 12_000_000;
/// All distinct paths together; with [`FILES`] this bounds the tracker's memory: with what finds them, paths
/// as in `make bench-registry` take twice their length, a quarter of a machine of 2 GiB. Two and a half million paths of a hundred bytes fit.
pub const PATHS_BYTES: usize = 256 << 20;
/// Live peers in one tracker.
pub const PEERS: usize = 100_000;
/// Rows in one search reply that comes in the order of paths.
pub const SEARCH_RESULTS: usize = 1000;
/// Rows in one that comes best first: whoever reads on asks for more.
pub const RANKED_ROWS: usize = 50;
/// Versions among which these are the best: an index of parts finds all that begin with a text, or are
/// it, before others, so that they decide only among those with equal rights.
pub const SEARCH_CANDIDATES: usize = 4 * RANKED_ROWS;
/// Blocks of 32 paths that one search for a part looks into; the next reply goes on from there.
pub const SEARCH_BLOCKS: usize = 500;
/// If a pattern for whole paths may be in no more blocks than these, they are looked into, and the matches put in
/// order. Otherwise all paths are gone through in order, and as many as these hold looked at, for one reply.
pub const SEARCH_FEW_BLOCKS: usize = 128;
/// Paths that are gone through for one reply.
pub const SEARCH_NAMES: usize = 20_000;
/// Files of peers that are gone, released in one step while nobody else can ask: half a millisecond.
pub const TIDY_FILES: usize = 500;
/// A cursor of a search: the longest path and a content fit.
pub const CURSOR_BYTES: usize = 2 << 10;
/// Sources of a row that a search says the places of, on demand.
pub const ROW_PLACES: usize = 4;
/// Peers that a person is told of: some more than a tracker has connections for; a lying one could name others for ever.
pub const PEERS_TOLD: usize = 25_000;
/// Peers in one reply that lists them, and those looked at for it: they fit into [`RPC_FIELDS`].
pub const PEERS_PAGE: usize = 1000;
/// Places in one search reply: beside [`SEARCH_RESULTS`] rows they fit into [`RPC_FIELDS`].
pub const REPLY_PLACES: usize = 64;
/// Peer ids named with one search row, paths and sources named by one locate.
pub const NAMED: usize = 100;
/// Contents one peer may be downloading in the tracker, and as many in one announce.
pub const DOWNLOADS_PER_PEER: usize = ANNOUNCE_FILES;
/// Downloads of all peers together; with those it was given, one takes about 300 bytes.
pub const DOWNLOADS: usize = 500_000;
/// Others that download the same content, given to one that does: more of them hurts, as fewer do.
pub const NEIGHBOURS: usize = 8;
/// Whoever has enough is given one more that fewer than so many have, each time it asks: one who comes
/// late would else be a source for nobody.
pub const FEW_TAKERS: usize = NEIGHBOURS / 2;
/// Of these, at most so many of its own zone while there are others.
pub const NEIGHBOURS_IN_ZONE: usize = 6;
/// A neighbour from outside its zone is given to so many before the own zone is preferred again: a
/// zone of two shall not feed one of a hundred.
pub const NEIGHBOUR_TAKERS: usize = 2 * NEIGHBOURS;
/// Whole sources given to one that downloads.
pub const SEEDS: usize = 4;
/// One source is given to at most so many that download the same content, unless they have nobody
/// else: the others reach what it has through their neighbours. What it gives to so many at once takes
/// that many times as long, and meanwhile all who wait for the first pieces have nothing to give.
pub const TAKERS: usize = 32;
/// Whole sources that one answer chooses among; with more of them chance chooses first.
pub const CANDIDATES: usize = 64;
/// Holders of a content that one answer looks at to find those: whom it cannot give (on the tracker's loopback,
/// say) it passes over. Where there are no more of them than this, none that it can give is missed.
pub const HOLDERS_SEEN: usize = 512;
/// Sizes of one content id among which one answer chooses sources: all but one are lies, and whoever is sent to a
/// liar asks again.
pub const SIZES_SEEN: usize = 32;
/// Other zones that one answer takes neighbours from; so too.
pub const ZONES: usize = 16;
/// Peers reported dead with one question for sources.
pub const DEAD: usize = 16;
/// Origins that have to report a peer dead before it is put last for everybody, until it renews: one whose own
/// network is broken, or who lies, puts nobody last.
pub const SUSPECTED_BY: usize = 3;
/// Publishers that one peer watches, and patterns by which it does.
pub const WATCHED: usize = 16;
/// Names looked at in one step of telling a watcher what there is: as long as [`ANNOUNCE_STEP`] takes.
pub const WATCH_STEP: usize = 500;
/// News that wait for one watcher. One that reads more slowly is told everything again when it comes back.
pub const WATCH_QUEUED: usize = 16;
/// News that wait for all watchers together, each counted once: paths and 64 bytes a file. Beyond it those who
/// wait for more are let go.
pub const WATCH_BYTES: usize = 16 << 20;
/// How long a file is kept that a newer one has taken the place of, since somebody last asked for it by its content.
pub const REPLACED_TIME: Duration = Duration::from_secs(60);
/// Of these, so many: each is a descriptor, and a piece list of at most 256 KiB.
pub const REPLACED: usize = 8;
/// A lease token, as a peer keeps it: what this tracker makes is 32 bytes longer than the peer's id.
pub const TOKEN_BYTES: usize = 128;
/// A gRPC message: an announce of [`ANNOUNCE_FILES`] of the longest paths fits.
pub const RPC_BYTES: usize = 2 << 20;
/// A gRPC call, at both ends.
pub const RPC_TIME: Duration = Duration::from_secs(5);
/// Connecting to the tracker.
pub const RPC_CONNECT_TIME: Duration = Duration::from_secs(3);
/// Calls in flight on one connection to the tracker.
pub const RPC_STREAMS: u32 = 16;
/// A gRPC message to the tracker other than an announce: the longest search text fits many times.
pub const RPC_SMALL_BYTES: usize = 16 << 10;
/// What a peer sends a tracker in one frame of HTTP/2: with its head it fits the 8 KiB that a tracker reads a connection
/// with from the beginning.
pub const RPC_FRAME_BYTES: usize = 6 << 10;
/// The headers of a call.
pub const RPC_HEAD_BYTES: u32 = 8 << 10;
/// What a tracker may remember of the headers it sends on a connection, to send them shorter (RFC 7541 section
/// 4.2): nothing. The date of each answer would fill it, and costs the tracker 6 KiB a peer and more.
pub const RPC_HEADER_TABLE_BYTES: u32 = 0;
/// What a connection to the tracker may send ahead of being read: 50 MB/s at 5 ms round trip.
pub const RPC_WINDOW_BYTES: u32 = 256 << 10;
/// Fields in a gRPC message, each repetition counted: its rows, and a few beside them. Empty rows take
/// thirty times their length in memory.
pub const RPC_FIELDS: usize = ANNOUNCE_FILES + 100;
/// Announces read by the tracker at once, the others wait: each may be [`RPC_BYTES`] long.
pub const ANNOUNCES: usize = 16;
/// Joins and announces in the tracker's memory, those that wait included: with [`RPC_WINDOW_BYTES`] of each
/// that waits this is 16 MiB, and what is there is done within a second. Above it announces are shed.
pub const QUEUED: usize = 64;
/// With so many in memory joins are shed: who is in goes before who wants in, since each that is let in has
/// announces to make.
pub const QUEUED_BEFORE_JOINS: usize = QUEUED / 2;
/// Who was let in announces within this time, or half of those who were do not.
pub const ARRIVAL_TIME: Duration = Duration::from_millis(100);
/// Of [`QUEUED`], so many from one address, so that a stranger who stalls announces does not stop all others.
pub const ADDRESS_QUEUED: usize = QUEUED / 4;
/// The least and the most that a shed call is told to wait, and a quarter of a lease at most; each is told another
/// time, one turn behind the one before it. Its peer waits up to a third longer, by chance: [`RETRY_TIME_MAX`], and
/// a third of a lease.
pub const SHED_PAUSE: std::ops::Range<Duration> = Duration::from_millis(200)..Duration::from_millis(3750);
/// Streams that a health watch or reflection holds open, all together; one takes about 6 KiB.
pub const TRACKER_STREAMS: usize = 256;
/// Connections to one tracker. An idle one with a joined peer costs it 28 KiB, under TLS some 35.
pub const TRACKER_CONNECTIONS: usize = 20_000;
/// Of these, from one address (of IPv6: one /64), loopback excepted: a fleet of 1,000 behind one NAT has each
/// peer's connection, the one it lost just now, and as many again to spare.
pub const ADDRESS_CONNECTIONS: usize = 4000;
/// Requests a second from one address, loopback excepted: two for each of 1,000 peers behind one NAT, which
/// renew five times in 25 s and, while they download, ask for sources every two seconds.
pub const ADDRESS_REQUESTS: u64 = 2000;
/// What an address has not used of that for so long it may use at once: all of 1,000 peers come back together
/// after a restart, with a join, an announce and two questions each.
pub const ADDRESS_BURST: Duration = Duration::from_secs(2);
/// So many steps of calls are taken before it is looked whether anything has come in. Of an announce a step takes
/// milliseconds, and with the usual 61 a search would wait for all of them to be seen.
pub const EVENT_INTERVAL: u32 = 8;
/// What a connection to the tracker sends without a pause is read at once up to here: every call but an announce.
pub const BULK_BYTES: usize = 16 << 10;
/// Of what goes beyond it, so many connections are read together, the others wait in their sockets: a thousand
/// announces that arrive together would else be a second in which nobody is answered.
pub const BULK_READERS: usize = 4;
/// So much is read before the next has its turn.
pub const BULK_TURN_BYTES: usize = 64 << 10;
/// Connections accepted in one go, before those that are there have their turn: a fleet that comes back would
/// else be let in whole first, and nobody answered meanwhile.
pub const ACCEPTS: usize = 16;
/// Connections that wait in the system to be accepted. With the usual 128, a fleet's would be dropped, and tried
/// again only after a second.
pub const TRACKER_BACKLOG: i32 = 4096;
/// How often the tracker asks a silent connection whether it is still there.
pub const RPC_PING_INTERVAL: Duration = Duration::from_secs(20);
/// How long it waits for the answer.
pub const RPC_PING_TIME: Duration = Duration::from_secs(10);
/// Nothing read for so long, not even the answer to a ping: the tracker closes the connection.
/// This also ends the ones that never begin to speak HTTP/2, which are not asked.
pub const RPC_IDLE_TIME: Duration = Duration::from_secs(40);
/// After a failed accept (no descriptors are left, say) the tracker waits so long for the next.
pub const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// A tracker that is told to stop ends within this time, or sooner when all calls in flight are answered.
pub const DRAIN_CALLS_TIME: Duration = Duration::from_secs(2);
/// Lines about refusals in the tracker's log, a second: strangers do not fill a disk.
pub const REFUSAL_LINES: u32 = 20;
/// What is written to the tracker's log at once, a line or two: a pipe that has room takes so many bytes without
/// waiting for its reader (PIPE_BUF).
pub const LOG_BYTES: usize = 4096;
/// Connections to the tracker's metrics and `/healthz`; above that the oldest is closed.
pub const MONITOR_CONNECTIONS: usize = 16;
/// The head of a request there.
pub const MONITOR_HEAD_BYTES: usize = 4 << 10;
/// From a connection there to the end of its answer.
pub const MONITOR_TIME: Duration = Duration::from_secs(5);

// ---- processes ---------------------------------------------------------------------------------

/// What systemd is told waits so long for it to listen.
pub const NOTIFY_TIME: Duration = Duration::from_secs(1);
/// A peer's own connection to its door comes and goes in this time, or the peer gives systemd no sign of life: the
/// door accepts a thousand in a tenth of a second.
pub const PROBE_TIME: Duration = Duration::from_secs(5);

// ---- store: what several trackers share --------------------------------------------------------

/// What its keys begin with where `--store` does not say otherwise.
pub const STORE_PREFIX: &str = "enjambre";
/// Members of one etcd: it is made of seven at most.
pub const STORE_HOSTS: usize = 16;
/// One bucket of a peer's files; two of them, as after a split, are far below etcd's 1.5 MiB a request. When
/// there are more buckets than one, each is some 64 KiB to 256 KiB long.
pub const STORE_BUCKET_BYTES: usize = 256 << 10;
/// Buckets of one peer: [`FILES_PER_PEER`] fit, with paths of ordinary length.
pub const STORE_BUCKETS: usize = 4096;
/// What a bucket inflates to: as many of the longest paths as it has room for content ids.
pub const STORE_BUCKET_TEXT_BYTES: usize = 10 << 20;
/// How much is tried to make the paths shorter, of 1 to 10.
pub const STORE_EFFORT: u8 = 3;
/// Bytes of buckets written in one transaction; etcd takes 1.5 MiB a request.
pub const STORE_WRITE_BYTES: usize = 1 << 20;
/// And so many keys: etcd takes 128 changes.
pub const STORE_WRITE_KEYS: usize = 100;
/// Buckets whose files are in memory at once while one peer is written: for the next ones all of its files are
/// gone through again.
pub const STORE_BUCKETS_AT_ONCE: usize = 32;
/// A peer with more files than this begins with two buckets, and so on: some 140 KiB each.
pub const STORE_BUCKET_FILES: usize = 3000;
/// Files that are read from the registry, or changed in it, while it is locked for calls.
pub const STORE_FILES_AT_ONCE: usize = 256;
/// Changes of a peer wait so long for others to go with them.
pub const STORE_BATCH_TIME: Duration = Duration::from_millis(200);
/// Bytes a second that one peer's changes may write, so that a long first announce does not write the same
/// buckets time and again.
pub const STORE_PEER_RATE: u64 = 2 << 20;
/// Changed paths of a peer that are noted each; with more, all its buckets are written.
pub const STORE_NOTED_PATHS: usize = 4096;
/// Peers that are written at once.
pub const STORE_WRITES: usize = 16;
/// Keys in one answer when all peers are read: the first asks for so many, the next ones for what comes to
/// about [`STORE_PAGE_BYTES`].
pub const STORE_PAGE_KEYS: std::ops::Range<i64> = 16..4096;
/// What such an answer should have.
pub const STORE_PAGE_BYTES: usize = 1 << 20;
/// The longest answer of etcd that is taken: [`STORE_PAGE_KEYS`] of the longest buckets at least.
pub const STORE_ANSWER_BYTES: usize = 8 << 20;
/// Connecting to a member of etcd.
pub const STORE_CONNECT_TIME: Duration = Duration::from_secs(2);
/// An answer of etcd, and of a lease that is kept: later ones mean that it is away.
pub const STORE_ANSWER_TIME: Duration = Duration::from_secs(3);
/// How often a silent connection to etcd is asked whether it is there. It hangs up on those who ask more
/// often than every five seconds.
pub const STORE_PING_INTERVAL: Duration = Duration::from_secs(6);
/// The pause before another try to reach etcd; each further one is twice as long.
pub const STORE_PAUSE: std::ops::Range<Duration> = Duration::from_millis(200)..Duration::from_secs(2);
/// Peers whose lease ended in etcd while it could not be reached are kept for so long after its return, for
/// the trackers that serve them to put them again.
pub const STORE_GRACE: Duration = Duration::from_secs(5);
/// What is older than this the trackers let etcd forget; else each change would stay for ever.
pub const STORE_HISTORY: Duration = Duration::from_secs(60);

// ---- the swarm's secret --------------------------------------------------------------------

/// A secret: even of letters alone, 16 by chance are beyond guessing; 128 fit into every header.
pub const SECRET_BYTES: std::ops::RangeInclusive<usize> = 16..=128;
/// Wrong secrets of one address (of IPv6: one /64) are answered so long one after the other, the first too, and none
/// later than the end: within [`RPC_TIME`], so that a peer is told what is wrong.
pub const TRY_TIME: std::ops::Range<Duration> = Duration::from_millis(500)..Duration::from_secs(4);
/// Addresses whose wrong secrets are remembered, as long as one is still to be answered. With more of them, each
/// waits for the end of that range.
pub const TRIED_ADDRESSES: usize = 1024;
/// Calls with a wrong secret that wait at the tracker; more are answered at once, so that strangers do not fill memory.
/// At a peer they keep a place of [`CONNECTIONS`], and are the first to give way.
pub const TRIES: usize = 1024;

// ---- TLS -----------------------------------------------------------------------------------

/// A file of certificates or a key: dozens fit.
pub const TLS_FILE_BYTES: u64 = 128 << 10;
/// Whether these files have changed is looked at so often, and only when a connection is made.
pub const TLS_LOOK_TIME: Duration = Duration::from_secs(1);
/// Bytes received at once: for a handshake or a head, and for a file, which comes in records of 16 KiB.
pub const TLS_BUFFER_BYTES: std::ops::Range<usize> = 4 << 10..64 << 10;
/// What is held of a source's message that is not whole: a long chain of certificates fits.
pub const TLS_MESSAGE_BYTES: usize = 80 << 10;
/// What who connects may send before both have agreed: 2 KiB are usual, and others' keys may be longer. A tracker's
/// [`TRACKER_CONNECTIONS`] strangers then take 160 MB at most.
pub const TLS_HELLO_BYTES: usize = 8 << 10;
/// What goes from a file to a socket at a time: four records. With them sealed a connection holds twice that.
pub const TLS_SEND_BYTES: usize = 64 << 10;

// ---- link: the peer's side of the tracker's protocol -----------------------------------------

/// What a tracker was told less than so long before it was gone is told again to the next one that it is removed:
/// what is shared among trackers is passed on within a second or two.
pub const REMOVED_AGAIN_TIME: Duration = Duration::from_secs(10);
/// So many paths at most: half of an announce.
pub const REMOVED_AGAIN: usize = ANNOUNCE_FILES / 2;
/// Trackers that a peer is given; more than run as one anywhere.
pub const TRACKERS: usize = 16;
/// A reply without rows.
pub const REPLY_BYTES: usize = 4 << 10;
/// A question without an answer for so long is asked of the next tracker too. Ten times what a busy one takes; and two
/// that hang cost a second.
pub const ASK_NEXT_TIME: Duration = Duration::from_millis(500);
/// Connecting to a tracker while there are others: one lost packet is made up for, after a second.
pub const TRACKER_CONNECT_TIME: Duration = Duration::from_millis(1500);
/// With other trackers there, one that owes an answer and has been silent for so long is asked whether it is there.
pub const TRACKER_PING_INTERVAL: Duration = Duration::from_millis(500);
/// So long that question waits: with the interval, a tracker that hangs is left within 3 s. What is under way to it before,
/// [`RPC_WINDOW_BYTES`], has arrived by then at 1 Mbit/s.
pub const TRACKER_PING_TIME: Duration = Duration::from_secs(2);
/// How long a peer goes on asking for more of a search that brings little.
pub const SEARCH_TIME: Duration = Duration::from_secs(10);
/// A locate's reply: [`NAMED`] of the longest paths and as many sources fit.
pub const LOCATE_BYTES: usize = 256 << 10;
/// The first pause before a failed call is tried again; each further one is twice as long.
pub const RETRY_TIME: Duration = Duration::from_millis(200);
/// The longest such pause while no lease is known; afterwards it is a third of the lease.
pub const RETRY_TIME_MAX: Duration = Duration::from_secs(5);
/// Characters of a tracker's sentence that are shown.
pub const TRACKER_TEXT: usize = 300;
/// `leave` waits this long for the tracker; a lease ends what it does not hear.
pub const LINK_LEAVE_TIME: Duration = Duration::from_secs(2);
/// The first command from a pipe waits this long until the tracker knows this peer.
pub const SETTLE_TIME: Duration = Duration::from_secs(5);

// ---- door: connections from anywhere ---------------------------------------------------------

/// How long a one-shot verb that a signal ends may take to end by itself.
pub const VISIT_END_TIME: Duration = Duration::from_secs(1);
/// Gets that run at once while more commands are typed on a terminal; each has a thread.
pub const GETS: usize = 64;
/// How often it is shown there how they go.
pub const SHOW_TIME: Duration = Duration::from_millis(250);
/// In how many rows at most: the line that is edited stays in sight.
pub const SHOWN_ROWS: usize = 5;
/// How long the tracker may take to say which paths a word may become: longer, and a key seems to hang.
pub const COMPLETION_TIME: Duration = Duration::from_millis(700);
/// How long its answer is taken for true: a key that is struck twice asks once.
pub const COMPLETION_FRESH: Duration = Duration::from_secs(2);
/// Lines that are remembered on a terminal.
pub const HISTORY_LINES: usize = 1000;
/// One-shot gets into one folder at once: each has a hidden folder of its own there while it runs. More than a script
/// starts side by side, and few enough to be looked through.
pub const VISITS: u32 = 64;

/// Connections held open at once; each is one thread with a small stack.
pub const CONNECTIONS: usize = 256;
/// Of these, from one address.
pub const CONNECTIONS_PER_ADDRESS: usize = 128;
/// Connections that the system holds until the door accepts them; more come again a second later. So many are
/// accepted, or turned away, in a tenth of a second.
pub const CONNECTIONS_QUEUED: i32 = 1024;
/// So many of one address, and fewer, are nobody's to take for an address that has none: more than a peer
/// opens to a source for a download ([`SOURCE_DEPTH`]), or a browser to a server.
pub const CONNECTIONS_FEW: usize = 8;
/// Threads whose connection was closed under them, and that a disk or a moment's wait still holds.
pub const CONNECTIONS_ENDING: usize = 32;
/// Waiting connections closed at once when descriptors have run out.
pub const CONNECTIONS_CLOSED: usize = 8;
/// Stack of a connection's thread; what it does not touch costs nothing.
pub const CONNECTION_STACK: usize = 256 << 10;
/// A request head, request line and all.
pub const HEAD_BYTES: usize = 16 << 10;
/// Header lines in a request head.
pub const HEAD_LINES: usize = 64;
/// From a head's first byte (or the connection's start) to its last.
pub const HEAD_TIME: Duration = Duration::from_secs(10);
/// A kept connection may be idle this long.
pub const IDLE_TIME: Duration = Duration::from_secs(60);
/// A read of a body or a write of an answer that makes no progress this long ends the connection.
pub const STALL_TIME: Duration = Duration::from_secs(30);
/// Bytes a second that a client must keep up while it makes us wait, in every [`STALL_TIME`]: a drip that
/// never stalls would hold a connection for ever.
pub const SLOWEST_RATE: u64 = 1 << 10;
/// A write that nobody takes comes back after this, for the speed to be looked at.
pub const SLOW_LOOK_TIME: Duration = Duration::from_secs(7);
/// One chunk-size line, and all trailer lines together, of a chunked body.
pub const CHUNK_LINE_BYTES: usize = 256;
/// An unread request body up to this size is read to its end, so that the connection can be kept;
/// and so much is read, and thrown away, before a connection is closed on a client that still sends.
pub const DRAIN_BYTES: u64 = 256 << 10;
/// How long that may take.
pub const DRAIN_TIME: Duration = Duration::from_secs(2);
/// Connections from the door to tiny_http: its pool serves four without starting threads.
pub const INNER_CONNECTIONS: usize = 4;
/// An answer that goes through tiny_http and not as a file.
pub const SMALL_ANSWER_BYTES: usize = 4 << 20;
/// Blocks in which bodies are read and copied.
pub const BLOCK_BYTES: usize = 64 << 10;
/// What goes from a file to a socket at a time: the most that a pipe takes (`fs.pipe-max-size`).
pub const SEND_BYTES: usize = 1 << 20;
/// `leave` waits this long for transfers that are under way.
pub const LEAVE_TIME: Duration = Duration::from_secs(10);

/// How long a question for news of a download waits for some.
pub const NEWS_TIME: Duration = Duration::from_millis(500);
/// How long a question for news waits at least for more to go with the first; one that has waited so long is answered at once.
pub const NEWS_BATCH_TIME: Duration = Duration::from_millis(30);
/// Piece numbers told with an answer; more follow with the next.
pub const NEWS_PIECES: usize = 256;
/// Contents for which a seed remembers what it has given out; each costs 128 KiB at most.
pub const FRESH_CONTENTS: usize = 32;
/// What somebody still lacks so long after it was given to another has not spread.
pub const FRESH_TIME: Duration = Duration::from_secs(2);
/// Runs of pieces among which a seed chooses what to give. Late in a crowd most of what somebody lacks was given to others:
/// with few to choose among, it finds none that was not.
pub const FRESH_RUNS: usize = 32;
/// Answers with pieces that leave a peer at once, or are on their way still, before whoever would ask for a piece waits for
/// its turn: with fewer, an uplink stands still while one waits before a full downlink.
pub const TURNS: usize = 3;
/// And before those wait whom a seed gives fresh pieces.
pub const FRESH_TURNS: usize = 8;
/// A turn is over after this in any case: whoever has died does not end its own.
pub const TURN_TIME: Duration = Duration::from_millis(80);
/// How long anybody waits for a turn: whoever takes turns without end holds up nobody for longer.
pub const TURN_PATIENCE: Duration = Duration::from_millis(200);
/// Where a trip there and back takes longer, a turn is not asked for: it would cost more than it brings.
pub const TURN_TRIP: Duration = Duration::from_millis(20);
/// With more pieces, the questions for turns cost more than they bring.
pub const TURN_PIECES: usize = 1024;

// ---- rates ---------------------------------------------------------------------------------

/// The lowest limit on a rate: a seed's [`FRESH_WAITING`] takers then have [`SOURCE_MIN_BYTES`] each in
/// every [`SOURCE_STALL_TIME`], with a quarter to spare.
pub const RATE_LEAST: u64 = 32 << 10;
/// What a limit lets go at once: many who share it come in turns that are so long each.
pub const RATE_PORTION_TIME: Duration = Duration::from_millis(10);
/// And so many bytes: with less, packets are not full; more a pipe does not take ([`SEND_BYTES`]).
pub const RATE_PORTION_BYTES: std::ops::Range<usize> = 4 << 10..SEND_BYTES;
/// Who is late by less than this makes up for it: on a busy machine, sleepers wake late. It is 2% of 10 s.
pub const RATE_LATE_TIME: Duration = Duration::from_millis(200);
/// With a limit on downloads, no more connections than have so many bytes a second each, lest sources
/// take this peer for one that hangs ([`SLOWEST_RATE`], and a packet on loopback is 64 KiB long).
pub const RATE_OF_CONNECTION: u64 = 16 << 10;

// ---- uploads -------------------------------------------------------------------------------

/// One upload, all its files together.
pub const UPLOAD_BYTES: u64 = 1 << 40;
/// Uploads at once; each holds a buffer and a piece list in the making. Beyond them, the longest of the address that has
/// most gives way to another address.
pub const UPLOADS: usize = 16;
/// The boundary of a multipart form, as RFC 2046 has it.
pub const BOUNDARY_BYTES: usize = 70;
/// Files in one multipart form.
pub const UPLOAD_FILES: usize = 1000;

// ---- share ---------------------------------------------------------------------------------

/// Files in one share.
pub const SHARE_FILES: usize = 1_000_000;
/// Folders below one another.
pub const SHARE_DEPTH: usize = 64;
/// What of the disk is kept free without `--keep-free`: the lesser of this and [`KEEP_FREE_PERCENT`]. A share is
/// often on the disk that its machine lives on, which has to log, to be logged in to and to be repaired; the
/// index, records and piece lists of a full share need 1 GiB of it at the very most, and mostly a few KiB.
pub const KEEP_FREE_BYTES: u64 = 64 << 20;
/// A small disk is not taken up by what is kept free of it.
pub const KEEP_FREE_PERCENT: u64 = 1;
/// What is asked of the tracker at once by those who ask this peer under `/api/`, or for a Metalink: they are not to take what this peer
/// itself may ask ([`ADDRESS_REQUESTS`]).
pub const API_CALLS: usize = 8;
/// The body of a `POST /api/get`: the longest path twice, with all of it escaped.
pub const API_BODY_BYTES: u64 = 16 << 10;
/// Entries in one page of `GET /files`.
pub const LIST_PAGE: usize = 1000;

/// Threads that bring the files of a batch to disk: more of them gain nothing.
pub const SYNCS: usize = 8;

// ---- get -----------------------------------------------------------------------------------

/// Connecting to a source.
pub const SOURCE_CONNECT_TIME: Duration = Duration::from_secs(3);
/// A source that does not begin to answer in this time, or then sends nothing this long, is left for
/// the next.
pub const SOURCE_STALL_TIME: Duration = Duration::from_secs(10);
/// Bytes a source has to bring in every [`SOURCE_STALL_TIME`], so that a drip does not hold a download.
pub const SOURCE_MIN_BYTES: u64 = 16 << 10;
/// A piece list may take so many times as long as a source may send nothing, as far as it comes at [`SOURCE_MIN_BYTES`]:
/// it is 256 KiB at most. After the first of these times another source is asked beside.
pub const PIECE_LIST_PATIENCE: u32 = 4;
/// So long for each other that stands before it, one waits for them to have the piece list before it asks
/// the seed.
pub const PIECE_LIST_TURN: Duration = Duration::from_millis(250);
/// And so long a neighbour may take to send it.
pub const PIECE_LIST_TIME: Duration = Duration::from_secs(2);
/// How long a download sleeps at once while a source sends slowly: less is not worth it, and with more
/// the news of a piece would come late.
pub const DOZE_TIME: std::ops::Range<Duration> = Duration::from_millis(2)..Duration::from_millis(40);
/// The head of a source's answer.
pub const SOURCE_HEAD_BYTES: usize = 16 << 10;
/// Blocks in which content is received, checked and written; below 256 KiB a fast pair slows down.
pub const FETCH_BLOCK_BYTES: usize = 256 << 10;
/// Rounds over all sources that bring nothing before a download is given up.
pub const FETCH_ROUNDS: usize = 2;
/// Between two such rounds.
pub const FETCH_PAUSE: Duration = Duration::from_millis(500);
/// Small files of a pattern that are brought to disk together; each is an open file until then.
pub const BATCH_FILES: usize = 128;
/// The first of them waits at most so long for the others.
pub const BATCH_TIME: Duration = Duration::from_millis(500);
/// Connections over which small files come, in all.
pub const BATCH_CONNECTIONS: usize = 32;
/// Of these, to one source: at 20 ms round trip, 800 files a second.
pub const SMALL_CONNECTIONS: usize = 16;
/// How often a source may fail to give a small file before another is asked for it.
pub const SMALL_TRIES: u32 = 2;
/// So many files in a row of which neither a batch nor the patient download after it brings anything: what
/// failed in the batch besides is not tried again.
pub const BATCH_RETRIES: u32 = 2;
/// A target that is not hashed yet is waited for this long.
pub const UNHASHED_TIME: Duration = Duration::from_secs(5);

// ---- jobs: downloads through restarts and full disks ------------------------------------------------

/// Downloads that are wanted at once: a page of them is not longer than that.
pub const JOBS: usize = 1000;
/// Of these, so many run at once, and share the connections; the others wait their turn.
pub const JOBS_RUNNING: usize = 3;
/// Downloads that have ended and are still told of: a person who comes back after a while sees how they went.
pub const JOBS_ENDED: usize = 50;
/// How long one that nobody could deliver waits before it is tried again; twice as long each time.
pub const JOB_PAUSE: std::ops::Range<Duration> = Duration::from_secs(1)..Duration::from_secs(300);
/// How often it is looked whether a full disk has room; after a try that was in vain all the same, as
/// where a quota is used up, twice as long each time. So it is asked anew, too, whether there is need of so much room, where
/// that is only claimed.
pub const FULL_DISK_PAUSE: std::ops::Range<Duration> = Duration::from_secs(2)..Duration::from_secs(300);
/// Bytes that have to be free then, where less is missing or nobody knows yet how much. With less it would be
/// full again at once.
pub const FULL_DISK_ROOM: u64 = 64 << 10;
/// What nobody has asked for, and nothing has come of, for a week is removed.
pub const UNUSED_TIME: Duration = Duration::from_secs(7 * 24 * 3600);

// ---- console ---------------------------------------------------------------------------------

/// One command line.
pub const COMMAND_BYTES: usize = 64 << 10;
/// Hashing that takes longer than this is reported.
pub const HASHING_QUIET_TIME: Duration = Duration::from_secs(2);
/// Between two such reports; on a terminal they come in place, every second.
pub const HASHING_REPORT_TIME: Duration = Duration::from_secs(10);

// ---- the swarm's plan ------------------------------------------------------------------------

/// Connections to sources, of all downloads together, where `--connections` does not say otherwise. The
/// door has its own: downloads must not starve serving.
pub const SOURCE_CONNECTIONS: NonZeroUsize = NonZeroUsize::new(48).expect("not zero");
/// What `--connections` takes: each is a thread with a buffer of [`BUFFERED_BYTES`] at most.
pub const SOURCE_CONNECTIONS_RANGE: std::ops::RangeInclusive<usize> = 1..=256;
/// Requests in flight at one source, against a backlog; each is a thread and a connection.
pub const SOURCE_DEPTH: usize = 4;
/// Requests in flight against a backlog, at all sources together: more only wait at their uplinks.
pub const REQUESTS: usize = 24;
/// Fresh pieces that all who share a seed ask it for at once, when they are few: with less, its uplink
/// would stand still between an answer and the next request.
pub const FRESH_WAITING: usize = 16;
/// How long a seed that had nothing fresh is not asked for such again, but for what it has given to others.
pub const FRESH_PAUSE: Duration = Duration::from_millis(150);
/// So many others who download it too are a crowd, which asks a seed for fresh pieces only,
pub const CROWD: usize = 4;
/// as long as what they hold themselves comes in this time.
pub const CROWD_PATIENCE: Duration = Duration::from_millis(500);
/// Useful pieces waiting at a source for each request more than one.
pub const SOURCE_BACKLOG: usize = 16;
/// With so few pieces missing, one that is late is asked of a second source.
pub const ENDGAME_PIECES: usize = 16;
/// What late means there.
pub const ENDGAME_PATIENCE: Duration = Duration::from_millis(150);
/// Pieces up to this length are verified in memory before they are written.
pub const BUFFERED_BYTES: u64 = 256 << 10;
/// One request covers what a source brings in this time, at least a piece,
pub const REQUEST_TIME: Duration = Duration::from_millis(10);
/// or, where nobody else downloads, in so many trips there and back: in one of them nothing comes.
pub const REQUEST_TRIPS: u32 = 4;
/// And so many bytes at most.
pub const REQUEST_BYTES: u64 = 16 << 20;
/// A connection of which a source has one too many is kept so long.
pub const SPARE_TIME: Duration = Duration::from_secs(2);
/// A source that cannot be asked for anything now is looked at again after this.
pub const SOURCE_PAUSE: Duration = Duration::from_millis(50);
/// How long a source rests after its first failure; twice as long after each one more.
pub const SOURCE_REST: Duration = Duration::from_millis(200);
/// A source with less than one in so many of the pace of the best one is left alone for a while,
pub const LAGGARD_SHARE: f64 = 16.0;
/// where an answer takes so long.
pub const LAGGARD_TIME: Duration = Duration::from_secs(1);
/// Failures in a row after which a source is let go.
pub const SOURCE_FAILURES: u32 = 4;
/// How long a download waits before it asks for neighbours again: soon at first, when others begin
/// too, and twice as long each time.
pub const NEIGHBOURS_PAUSE: std::ops::Range<Duration> = Duration::from_millis(150)..Duration::from_secs(2);
/// A download without any source is given up when so many further questions for some were in vain.
pub const SCOUTS_ALONE: u32 = 2;
/// How long a download waits for others that download it too, when none of them has what is missing and nobody is known
/// to hold everything: those who bring a piece from elsewhere have done so by then, or said where it is.
pub const STARVED_TIME: Duration = SOURCE_STALL_TIME;
/// Those who have nothing coming may bring a piece into their zone when they have waited so long for each one
/// who stands before them.
pub const ZONE_TURN: Duration = Duration::from_secs(1);
/// When those inside a zone have brought nothing for so long, what they hold is fetched from outside too.
pub const ZONE_PATIENCE: Duration = Duration::from_secs(3);
/// When a neighbour outside has more useful pieces than this, the own zone is too far behind to be waited for.
pub const ZONE_BACKLOG: usize = 256;
/// How long a peer may take to bring a file to disk that was sent to it: a terabyte to a slow one.
pub const PUT_ANSWER_TIME: Duration = Duration::from_secs(1800);
/// Its answer: one object, or a sentence.
pub const PUT_ANSWER_BYTES: u64 = 16 << 10;
/// How often a download that makes no news looks whether it should.
pub const PROGRESS_TIME: Duration = Duration::from_millis(100);
/// Over how long the rate of a download is taken: long enough to be calm, short enough to be of now.
pub const RATE_TIME: Duration = Duration::from_secs(1);
