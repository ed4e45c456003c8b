//! Credentials in the URL: async-nats 0.51 ignores them, so they are taken out of it here.

use async_nats::{ConnectOptions, ServerAddr};

/// Uses the user and password, or the token, of the first server that names one.
pub(super) fn apply(options: ConnectOptions, servers: &[ServerAddr]) -> ConnectOptions {
    let named = servers.iter().find_map(|server| server.username().map(|user| (user, server.password())));
    match named {
        Some((user, Some(password))) => options.user_and_password(unescaped(user), unescaped(password)),
        Some((token, None)) => options.token(unescaped(token)),
        None => options,
    }
}

/// Undoes percent-encoding, which a URL needs for `@`, `:` and `/` in a password. What is not an escape stays.
fn unescaped(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let escape = match tail {
            [high, low, after @ ..] if *first == b'%' => {
                hex(*high).zip(hex(*low)).map(|(high, low)| (high << 4 | low, after))
            }
            _ => None,
        };
        let (byte, after) = escape.unwrap_or((*first, tail));
        bytes.push(byte);
        rest = after;
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok())
}

#[cfg(test)]
mod tests {
    use super::unescaped;

    #[test]
    fn escapes_are_undone() {
        for (text, plain) in
            [("plain", "plain"), ("p%40ss%3Aword", "p@ss:word"), ("100%", "100%"), ("%zz%2", "%zz%2"), ("%C3%BC", "ü")]
        {
            assert_eq!(unescaped(text), plain);
        }
    }
}
