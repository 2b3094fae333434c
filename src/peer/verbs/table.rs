//! What the verbs take.

use crate::{
    args::{Command, Flag},
    peer::flags::{CONNECTIONS, DOWNLOAD_LIMIT, KEEP_FREE, TRACKER, ZONE},
    secret, tls,
};

const JSON: (&str, Flag) = ("-j", Flag { name: "--json", value: "", help: "results as one JSON object a line" });
const QUIET: (&str, Flag) = ("-q", Flag { name: "--quiet", value: "", help: "nothing on stderr but errors" });
const SECRET: Flag =
    Flag { name: secret::FLAG, value: "FILE", help: "holds the swarm's secret, where it has one (none)" };
const VARIABLES: &[(&str, &str)] = &[(secret::VARIABLE, "the swarm's secret itself, where there is no --secret-file")];
const MORE: &str =
    "In round brackets: what holds without the flag. In square ones: the variable that stands in for it.\n";
const CODES: &[(&str, &str)] = &[
    ("0", "done"),
    ("1", "it is not there, is several things, or something else has its name"),
    ("2", "the command line is wrong, or a file or folder that it names"),
    ("3", "no tracker, or the peer, can be reached"),
    ("4", "no source could deliver it, or the peer did not take it"),
    ("5", "it cannot be written here: the disk is full, or nobody reads stdout any more"),
    ("6", "the tracker or the peer refuses, for one since the secret is wrong"),
    ("130, 143", "SIGINT or SIGTERM has ended it"),
];

/// `peer get`.
pub static GET: Command = Command {
    name: "peer get",
    about: "fetches files, once, without sharing anything",
    operands: &[("path, id or pattern", "what to fetch: a path or a content id, or all that match, as 'logs/*'")],
    flags: &[TRACKER, ZONE, DOWNLOAD_LIMIT, KEEP_FREE, CONNECTIONS, SECRET, tls::CERT, tls::KEY, tls::CA],
    call_flags: &[
        (
            "-o",
            Flag {
                name: "--output",
                value: "FILE",
                help: "where to; a folder (FOLDER/) for all below it, - for stdout (by its path, below this folder)",
            },
        ),
        JSON,
        QUIET,
    ],
    verbs: &[],
    variables: VARIABLES,
    more: MORE,
    codes: CODES,
};

/// `peer search`.
pub static SEARCH: Command = Command {
    name: "peer search",
    about: "asks a tracker for files",
    operands: &[("text", "a part of their path, or a pattern that all of it matches, as 'logs/*'")],
    flags: &[TRACKER, SECRET, tls::CERT, tls::KEY, tls::CA],
    call_flags: &[JSON, QUIET],
    verbs: &[],
    variables: VARIABLES,
    more: MORE,
    codes: CODES,
};

/// `peer status`.
pub static STATUS: Command = Command {
    name: "peer status",
    about: "asks a tracker who is in the swarm, and with what",
    operands: &[],
    flags: &[TRACKER, SECRET, tls::CERT, tls::KEY, tls::CA],
    call_flags: &[JSON, QUIET],
    verbs: &[],
    variables: VARIABLES,
    more: MORE,
    codes: CODES,
};

/// `peer put`.
pub static PUT: Command = Command {
    name: "peer put",
    about: "sends a file to a peer, which offers it from then on",
    operands: &[
        ("file", "what to send; - for stdin"),
        ("url", "the peer, as http://10.0.0.5:5000, and the path there (the file's own name)"),
    ],
    flags: &[SECRET, tls::CERT, tls::KEY, tls::CA],
    call_flags: &[JSON, QUIET],
    verbs: &[],
    variables: VARIABLES,
    more: MORE,
    codes: CODES,
};
