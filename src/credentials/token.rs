//! Tokens, kept as hashes only; and what each gives a right to.

use std::{fmt, str::FromStr, sync::Arc};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use ring::digest::{SHA256, SHA256_OUTPUT_LEN, digest};
use subtle::ConstantTimeEq;

/// So that a token is recognised where it should not be: in a repository, in a log.
pub const TOKEN_PREFIX: &str = "loir_";

/// So long is what [`new_token`] makes.
pub const TOKEN_LENGTH: usize = TOKEN_PREFIX.len() + 43;

/// What precedes the hash in its text.
const ALGORITHM: &str = "sha256:";

/// What a token gives a right to; each gives the ones before it as well.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    serde::Serialize,
    serde::Deserialize,
    schemars::JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// To see apps, events, reports and metrics.
    Read,
    /// To wake, stop and pin apps, and to sign links that wake them.
    Operate,
    /// To see the configuration and to have it read again.
    Admin,
}

impl Scope {
    /// The word in the configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Operate => "operate",
            Self::Admin => "admin",
        }
    }
}

impl FromStr for Scope {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let known = [Self::Read, Self::Operate, Self::Admin];
        known
            .into_iter()
            .find(|scope| scope.as_str() == text)
            .ok_or_else(|| "read, operate or admin".to_owned())
    }
}

/// A token of the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedToken {
    /// Who has it: the cause of what is done with it.
    pub name: Arc<str>,
    /// Its hash.
    pub hash: TokenHash,
    /// What it gives a right to.
    pub scope: Scope,
}

/// The SHA-256 of a token. Written as `sha256:` and 64 hexadecimal digits; not shown by `Debug`, since a token that somebody
/// has made up could be guessed from it.
#[derive(Clone, PartialEq, Eq)]
pub struct TokenHash([u8; SHA256_OUTPUT_LEN]);

impl TokenHash {
    /// Of this token.
    pub fn of(token: &str) -> Self {
        let mut hash = [0; SHA256_OUTPUT_LEN];
        hash.copy_from_slice(digest(&SHA256, token.as_bytes()).as_ref());
        Self(hash)
    }

    /// Of a token that nobody has.
    pub fn nobodys() -> Self {
        Self([0; SHA256_OUTPUT_LEN])
    }

    /// Whether they are equal. Takes the same time either way.
    pub fn is(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl fmt::Debug for TokenHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl fmt::Display for TokenHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(ALGORITHM)?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl FromStr for TokenHash {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!(
                "is not a hash: it is `{ALGORITHM}` and 64 hexadecimal digits, as `loir token new` prints it"
            )
        };
        let digits = text.strip_prefix(ALGORITHM).filter(|digits| digits.len() == 2 * SHA256_OUTPUT_LEN);
        let digits =
            digits.filter(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit())).ok_or_else(wrong)?;
        let mut hash = [0; SHA256_OUTPUT_LEN];
        for (byte, pair) in hash.iter_mut().zip(digits.as_bytes().chunks(2)) {
            let pair = std::str::from_utf8(pair).map_err(|_| wrong())?;
            *byte = u8::from_str_radix(pair, 16).map_err(|_| wrong())?;
        }
        Ok(Self(hash))
    }
}

/// A new token of 256 random bits.
///
/// # Errors
///
/// In words, if the system has no random numbers.
pub fn new_token() -> Result<String, String> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(|error| format!("the system has no random numbers: {error}"))?;
    Ok(format!("{TOKEN_PREFIX}{}", URL_SAFE_NO_PAD.encode(bytes)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_reads_what_it_writes_and_is_the_usual_sha256() {
        let hash = TokenHash::of("abc");
        let text = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(hash.to_string(), text);
        assert!(text.parse::<TokenHash>().unwrap().is(&hash));
        assert!(text.to_uppercase().replace("SHA", "sha").parse::<TokenHash>().unwrap().is(&hash));
        for wrong in [
            "",
            "sha256:",
            &text[..70],
            &text[7..],
            &text.replace("ba78", "zz78"),
            "sha256:+a7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
        ] {
            assert!(wrong.parse::<TokenHash>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn no_two_tokens_are_alike_and_none_is_nobodys() {
        let (one, two) = (new_token().unwrap(), new_token().unwrap());
        assert_ne!(one, two);
        assert_eq!(one.len(), TOKEN_LENGTH);
        assert!(!TokenHash::of(&one).is(&TokenHash::nobodys()));
    }

    #[test]
    fn scopes_are_in_order() {
        assert!(Scope::Read < Scope::Operate && Scope::Operate < Scope::Admin);
        assert_eq!("operate".parse(), Ok(Scope::Operate));
        assert!("root".parse::<Scope>().is_err());
    }
}
