//! The swarm's secret: how it is read, sent and compared. Whoever holds it may call the tracker, and ask a peer for
//! everything.

mod tries;

use std::{fs::File, io::Read, os::unix::fs::PermissionsExt, sync::Arc};

use crate::{args::Args, limits, say};
pub use tries::Tries;

/// The variable that holds the secret itself.
pub const VARIABLE: &str = "ENJAMBRE_SECRET";
/// The flag that names the file it is in.
pub const FLAG: &str = "--secret-file";

/// What all of a swarm know and nobody else. It is not shown, not even for debugging; clones share it.
#[derive(Clone)]
pub struct Secret {
    /// As it is sent.
    bearer: Arc<str>,
    /// What others send is compared by its hash: that takes the same time wherever they differ, and however much.
    hash: blake3::Hash,
}

impl Secret {
    /// The secret that a command was given: in a file, or else in [`VARIABLE`].
    ///
    /// # Errors
    /// A sentence that says what is wrong with it, and not what it is.
    pub fn of(args: &Args) -> Result<Option<Self>, String> {
        let (from, text) = match (args.value::<String>(FLAG)?, args.variable(VARIABLE)) {
            (Some(path), _) => {
                let text = read(&path).map_err(|error| {
                    format!(
                        "{FLAG} {path}: {error}; `openssl rand -hex 32 >FILE` makes a secret, which all of a swarm have"
                    )
                })?;
                (format!("{FLAG} {path}"), text)
            }
            (None, Some(text)) => (VARIABLE.to_owned(), text.to_owned()),
            (None, None) => return Ok(None),
        };
        Self::new(&text).map(Some).ok_or_else(|| {
            let (least, most) = (limits::SECRET_BYTES.start(), limits::SECRET_BYTES.end());
            format!(
                "{from}: a secret is {least} to {most} letters, digits and signs of ASCII in one line, without a \
                 space; `openssl rand -hex 32` makes one"
            )
        })
    }

    /// None where the text is of another length or has characters that do not fit into every header.
    fn new(text: &str) -> Option<Self> {
        let is_sound = limits::SECRET_BYTES.contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic());
        is_sound.then(|| Self { bearer: format!("Bearer {text}").into(), hash: blake3::hash(text.as_bytes()) })
    }

    /// The value of the `Authorization` header that proves it, for HTTP and gRPC alike.
    pub fn bearer(&self) -> &str {
        &self.bearer
    }

    /// Whether the value of an `Authorization` header proves it: as a bearer's token (RFC 6750), or as the password
    /// of any user (RFC 7617).
    pub fn is_in(&self, authorization: &str) -> bool {
        let Some((scheme, credentials)) = authorization.split_once(' ') else { return false };
        let credentials = credentials.trim_matches(' ');
        if scheme.eq_ignore_ascii_case("Bearer") {
            return self.is(credentials.as_bytes());
        }
        let pair = base64(credentials).filter(|_| scheme.eq_ignore_ascii_case("Basic")).unwrap_or_default();
        // A user's name holds no colon, a password may.
        let colon = pair.iter().position(|byte| *byte == b':');
        colon.is_some_and(|colon| self.is(&pair[colon + 1..]))
    }

    fn is(&self, text: &[u8]) -> bool {
        blake3::hash(text) == self.hash
    }
}

/// A file's text, without the line end that an editor or `echo` puts behind it.
fn read(path: &str) -> Result<String, String> {
    let file = File::open(path).map_err(|error| error.to_string())?;
    let known = file.metadata().map_err(|error| error.to_string())?;
    // What a folder's mode is about is something else.
    if known.is_file() && known.permissions().mode() & 0o004 != 0 {
        say(format_args!("{FLAG} {path}: everybody on this machine can read it; `chmod 600 {path}` ends that"));
    }
    let mut text = String::new();
    // With room for the line end, and for one byte that is too many.
    let most = (limits::SECRET_BYTES.end() + 3) as u64;
    file.take(most).read_to_string(&mut text).map_err(|error| error.to_string())?;
    let line = text.strip_suffix('\n').unwrap_or(&text);
    Ok(line.strip_suffix('\r').unwrap_or(line).to_owned())
}

/// The bytes that a text stands for (RFC 4648 section 4); none where it is no base64.
fn base64(text: &str) -> Option<Vec<u8>> {
    let (mut bytes, mut word, mut bits) = (Vec::new(), 0_u32, 0);
    for digit in text.trim_end_matches('=').bytes() {
        let value = match digit {
            b'A'..=b'Z' => digit - b'A',
            b'a'..=b'z' => digit - b'a' + 26,
            b'0'..=b'9' => digit - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        word = word << 6 | u32::from(value);
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            bytes.push((word >> bits) as u8);
        }
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "correct:horse/battery";

    #[test]
    fn a_secret_is_proved_as_a_bearer_or_as_the_password_of_any_user() {
        let secret = Secret::new(TEXT).unwrap();
        assert_eq!(secret.bearer(), "Bearer correct:horse/battery");
        for right in [
            "Bearer correct:horse/battery",
            "bearer   correct:horse/battery ",
            // `:`, `me:` and `ümlaut:` before it.
            "Basic OmNvcnJlY3Q6aG9yc2UvYmF0dGVyeQ==",
            "BASIC bWU6Y29ycmVjdDpob3JzZS9iYXR0ZXJ5",
            "Basic w7xtbGF1dDpjb3JyZWN0OmhvcnNlL2JhdHRlcnk=",
            "Basic w7xtbGF1dDpjb3JyZWN0OmhvcnNlL2JhdHRlcnk",
        ] {
            assert!(secret.is_in(right), "{right}");
        }
        for wrong in [
            "",
            "Bearer",
            "Bearer ",
            "correct:horse/battery",
            "Bearer correct:horse/batter",
            "Bearer correct:horse/batteryy",
            "Bearer Correct:horse/battery",
            "Bearer horse/battery",
            "Bearer correct:horse/battery, Bearer correct:horse/battery",
            "Token correct:horse/battery",
            "Basic",
            "Basic Og==",
            // The secret without a colon before it, as a user's name, and cut off.
            "Basic Y29ycmVjdDpob3JzZS9iYXR0ZXJ5",
            "Basic Y29ycmVjdDpob3JzZS9iYXR0ZXJ5Og==",
            "Basic OmNvcnJlY3Q6aG9yc2UvYmF0dGVy",
            "Basic OmNvcnJlY3Q6aG9yc2UvYmF0dGVyeQ==x",
            "Basic :correct:horse/battery",
            "Bearer OmNvcnJlY3Q6aG9yc2UvYmF0dGVyeQ==",
        ] {
            assert!(!secret.is_in(wrong), "{wrong}");
        }
    }

    #[test]
    fn a_secret_fits_into_every_header() {
        let of = |length: usize| "s".repeat(length);
        let (least, most) = (*limits::SECRET_BYTES.start(), *limits::SECRET_BYTES.end());
        for good in [of(least), of(most), "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~".into()] {
            assert!(Secret::new(&good).is_some(), "{good}");
        }
        for bad in
            [String::new(), of(least - 1), of(most + 1), of(20) + " ", of(20) + "\n", of(20) + "é", of(20) + "\0"]
        {
            assert!(Secret::new(&bad).is_none(), "{bad:?}");
        }
    }

    #[test]
    fn base64_is_that_of_its_rfc() {
        for (text, bytes) in [
            ("", ""),
            ("Zg==", "f"),
            ("Zm8=", "fo"),
            ("Zm9v", "foo"),
            ("Zm9vYg==", "foob"),
            ("Zm9vYmE=", "fooba"),
            ("Zm9vYmFy", "foobar"),
        ] {
            assert_eq!(base64(text).as_deref(), Some(bytes.as_bytes()), "{text}");
        }
        assert_eq!(base64("+/+/").unwrap(), [0xfb, 0xff, 0xbf]);
        assert!(["Zm 9v", "Zm9v\n", "Zm9-", "=Zg=", "é"].iter().all(|text| base64(text).is_none()));
    }
}
