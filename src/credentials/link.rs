//! Links that wake one app, for a while, without a token: what the admin side has signed, the proxy believes.
//!
//! The text holds a version, the moment it runs out, and an HMAC-SHA256 over both and the app. The app itself is not in it: it
//! is whichever app the link is used for.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use ring::hmac;

use crate::app::AppId;

/// A link is this path on a host of the app, with the text after it.
pub const LINK_PATH: &str = "/.loir/wake?t=";

/// No text of a link is longer.
pub const LONGEST_LINK: usize = 55;

const VERSION: u8 = 1;

/// The version and eight bytes of seconds since 1970.
const SIGNED: usize = 9;

/// What the text of a link is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Link {
    /// It was signed for this app, and has not run out.
    Good,
    /// It was signed for this app, and has run out.
    RunOut,
    /// It was not signed for this app.
    Wrong,
}

/// The key that links are signed with.
#[derive(Clone)]
pub struct Key(hmac::Key);

impl Key {
    pub fn new(bytes: &[u8]) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, bytes))
    }

    /// Of this process alone: links end with it.
    pub fn random() -> Self {
        let mut bytes = [0; 32];
        if getrandom::fill(&mut bytes).is_err() {
            // Without random numbers no TLS works either; what is left is at least not the same everywhere.
            bytes.fill_with(|| fastrand::u8(..));
        }
        Self::new(&bytes)
    }

    /// `until` in milliseconds since 1970, rounded up to a second.
    pub fn sign(&self, app: &AppId, until: u64) -> String {
        let mut text = Vec::with_capacity(SIGNED + 32);
        text.push(VERSION);
        text.extend(until.div_ceil(1000).to_be_bytes());
        let tag = hmac::sign(&self.0, &message(&text, app));
        text.extend(tag.as_ref());
        URL_SAFE_NO_PAD.encode(text)
    }

    pub fn verify(&self, app: &AppId, text: &str, now: u64) -> bool {
        self.read(app, text, now) == Link::Good
    }

    pub fn read(&self, app: &AppId, text: &str, now: u64) -> Link {
        if text.len() > LONGEST_LINK {
            return Link::Wrong;
        }
        let Ok(bytes) = URL_SAFE_NO_PAD.decode(text) else { return Link::Wrong };
        let Some((signed, tag)) = bytes.split_at_checked(SIGNED) else { return Link::Wrong };
        let (Some(&VERSION), Ok(until)) = (signed.first(), signed[1..].try_into()) else {
            return Link::Wrong;
        };
        // In constant time.
        match hmac::verify(&self.0, &message(signed, app), tag).is_ok() {
            false => Link::Wrong,
            true if now < u64::from_be_bytes(until).saturating_mul(1000) => Link::Good,
            true => Link::RunOut,
        }
    }
}

/// What is signed. Neither a provider's nor an app's name has a `/`, nor can the fixed length before it be mistaken.
fn message(signed: &[u8], app: &AppId) -> Vec<u8> {
    let mut message = b"loir wake link|".to_vec();
    message.extend(signed);
    message.extend(app.to_string().as_bytes());
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_is_for_one_app_and_runs_out() {
        let key = Key::new(b"key");
        let (shop, other) = (AppId::new("paris", "shop"), AppId::new("paris", "shop2"));
        let link = key.sign(&shop, 60_001);
        assert_eq!(link.len(), LONGEST_LINK);
        assert!(key.verify(&shop, &link, 0) && key.verify(&shop, &link, 60_999));
        assert!(!key.verify(&shop, &link, 61_000), "it has run out");
        assert!(!key.verify(&other, &link, 0), "it is another app's");
        assert!(!Key::new(b"other").verify(&shop, &link, 0), "it was signed with another key");
    }

    #[test]
    fn a_link_that_was_changed_anywhere_is_refused() {
        let (key, app) = (Key::new(b"key"), AppId::new("paris", "shop"));
        let link = key.sign(&app, 60_000);
        let bytes = URL_SAFE_NO_PAD.decode(&link).unwrap();
        for index in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[index] ^= 1;
            assert!(!key.verify(&app, &URL_SAFE_NO_PAD.encode(changed), 0), "byte {index}");
        }
        for wrong in ["", "AQ", &link[1..], &link[..54], &format!("{link}A"), "%%%"] {
            assert!(!key.verify(&app, wrong, 0), "{wrong}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_text_whatever_is_a_link(text: String) {
            assert!(!Key::new(b"key").verify(&AppId::new("a", "b"), &text, 0));
        }
    }
}
