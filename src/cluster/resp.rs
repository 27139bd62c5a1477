//! RESP2, the protocol of Redis: the commands and the replies that leases need.
//!
//! Replies are untrusted, and bounded by [`MAX_REPLY`]; nested ones, which no command of
//! leases has, are refused. No I/O. See <https://redis.io/docs/latest/develop/reference/protocol-spec/>.

use secrecy::zeroize::Zeroizing;

use super::lease_store::MAX_LEN;

/// Maximum length of a reply, in bytes: a lease that is too long, and its frame.
pub(super) const MAX_REPLY: usize = MAX_LEN + 1 + 64;
/// Maximum length of a line, in bytes.
const MAX_LINE: usize = 1 << 10;

/// The reply to a command.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Reply {
    /// The command did what it says.
    Status,
    /// The command failed; with the server's own text.
    Error(String),
    Integer(i64),
    /// A value, if there is one.
    Value(Option<Vec<u8>>),
}

/// The bytes are no reply to a command of leases.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub(super) enum BadReply {
    /// It is too long.
    #[error("expected a reply of at most {MAX_REPLY} bytes, found a longer one")]
    TooLong,
    /// It is no reply of the protocol, or one that has parts.
    #[error("expected a reply of Redis, found something else")]
    Malformed,
    /// There is more.
    #[error("expected one reply, found more")]
    Unasked,
}

/// The bytes of a command. They may contain a password.
pub(super) fn command(parts: &[&[u8]]) -> Zeroizing<Vec<u8>> {
    let len: usize = parts.iter().map(|part| part.len() + 32).sum();
    // Never grows, which would leave a copy in memory.
    let mut bytes = Zeroizing::new(Vec::with_capacity(len + 32));
    bytes.extend_from_slice(format!("*{}\r\n", parts.len()).as_bytes());
    for part in parts {
        bytes.extend_from_slice(format!("${}\r\n", part.len()).as_bytes());
        bytes.extend_from_slice(part);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes
}

/// Parses the reply in `bytes`, which are all that was received since the command. `None`
/// if it is not complete.
pub(super) fn parse(bytes: &[u8]) -> Result<Option<Reply>, BadReply> {
    let line = bytes.windows(2).take(MAX_LINE).position(|w| w == b"\r\n");
    let Some(end) = line else {
        return if bytes.len() > MAX_LINE {
            Err(BadReply::TooLong)
        } else {
            Ok(None)
        };
    };
    let rest = &bytes[end + 2..];
    let (kind, text) = bytes[..end].split_first().ok_or(BadReply::Malformed)?;
    let reply = match kind {
        b'+' => Reply::Status,
        b'-' => Reply::Error(String::from_utf8_lossy(text).into_owned()),
        b':' => Reply::Integer(number(text)?),
        b'$' => match number(text)? {
            -1 => Reply::Value(None),
            len => return value(len, rest),
        },
        _ => return Err(BadReply::Malformed),
    };
    if rest.is_empty() {
        Ok(Some(reply))
    } else {
        Err(BadReply::Unasked)
    }
}

/// Parses a value of `len` bytes and the end of its line.
fn value(len: i64, rest: &[u8]) -> Result<Option<Reply>, BadReply> {
    let len = usize::try_from(len).map_err(|_| BadReply::Malformed)?;
    if len > MAX_LEN + 1 {
        return Err(BadReply::TooLong);
    }
    if rest.len() < len + 2 {
        return Ok(None);
    }
    let (value, end) = rest.split_at(len);
    match end {
        b"\r\n" => Ok(Some(Reply::Value(Some(value.to_vec())))),
        [b'\r', b'\n', ..] => Err(BadReply::Unasked),
        _ => Err(BadReply::Malformed),
    }
}

fn number(text: &[u8]) -> Result<i64, BadReply> {
    let text = std::str::from_utf8(text).map_err(|_| BadReply::Malformed)?;
    text.parse().map_err(|_| BadReply::Malformed)
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn replies_are_parsed_once_they_are_complete() {
        let value = |text: &str| Reply::Value(Some(text.as_bytes().to_vec()));
        for (text, expected) in [
            ("+OK\r\n", Reply::Status),
            ("-NOAUTH no\r\n", Reply::Error("NOAUTH no".to_owned())),
            (":-12\r\n", Reply::Integer(-12)),
            ("$-1\r\n", Reply::Value(None)),
            ("$0\r\n\r\n", value("")),
            ("$4\r\na\r\nb\r\n", value("a\r\nb")),
        ] {
            for end in 0..text.len() {
                let part = parse(&text.as_bytes()[..end]);
                assert_eq!(part, Ok(None), "{:?}", &text[..end]);
            }
            assert_eq!(parse(text.as_bytes()), Ok(Some(expected)));
            let more = format!("{text}+OK\r\n");
            assert_eq!(parse(more.as_bytes()), Err(BadReply::Unasked), "{more:?}");
        }
    }

    #[test]
    fn replies_that_no_command_of_leases_has_are_refused() {
        for text in [
            "*1\r\n",
            "%9223372036854775807\r\n",
            "_\r\n",
            ">1\r\n",
            "\r\n",
            "OK\r\n",
            ":x\r\n",
            "$-2\r\n",
            "$1\r\nabc",
        ] {
            assert_eq!(parse(text.as_bytes()), Err(BadReply::Malformed), "{text:?}");
        }
        for text in ["$400000000000\r\n", "$4098\r\n", &"+".repeat(2000)] {
            assert_eq!(parse(text.as_bytes()), Err(BadReply::TooLong), "{text:?}");
        }
        assert_eq!(&**command(&[b"GET", b""]), b"*2\r\n$3\r\nGET\r\n$0\r\n\r\n");
    }

    proptest! {
        #[test]
        fn no_bytes_are_kept_beyond_the_maximum_of_a_reply(
            start in "[-+:$*]?-?[0-9]{0,6}(\r\n)?",
            rest in vec(any::<u8>(), MAX_REPLY),
        ) {
            let bytes = [start.as_bytes(), &rest].concat();
            // A prefix that is not complete is shorter than a reply may be.
            for end in [bytes.len() / 2, MAX_REPLY, bytes.len()] {
                if parse(&bytes[..end]) == Ok(None) {
                    prop_assert!(end < MAX_REPLY);
                }
            }
        }
    }
}
