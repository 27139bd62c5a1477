//! Login tokens: any text, and any claims in a valid encoding.

#![no_main]

use icos_portal::Envri;
use icos_portal::auth::Token;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (&str, &[u8])| {
    let (text, claims) = input;
    check(text);
    check(&base64(claims));
});

/// A token parsed from its own cookie is the same token.
fn check(text: &str) {
    for envri in Envri::ALL {
        let Ok(token) = Token::parse(envri, text) else { continue };
        let again = Token::parse(envri, token.cookie()).expect("it is our own");
        assert!(again.same_as(&token) && again.user() == token.user());
        assert_eq!(again.expires(), token.expires());
        assert!(!format!("{token:?}").contains(token.cookie()));
        assert!(!token.user().contains(char::is_control));
    }
}

/// Padded standard base64.
fn base64(bytes: &[u8]) -> String {
    const SYMBOLS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let bits = chunk.iter().fold(0, |bits, &byte| bits << 8 | u32::from(byte)) << (8 * (3 - chunk.len()));
        for at in 0..4 {
            let symbol = SYMBOLS[(bits >> (18 - 6 * at)) as usize & 63];
            text.push(if at <= chunk.len() { symbol.into() } else { '=' });
        }
    }
    text
}
