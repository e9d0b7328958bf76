//! The hourly token: an API token is exchanged for one that lives an hour (developers.scalingo.com, "Tokens").

use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};

use super::wire::{Claims, Exchanged};
use crate::provider::api::{Api, ApiError, Call, Fetch, Priority, Token};

/// Believed of a token that does not say when it ends: a little less than the documented hour.
const USUAL_LIFE: Duration = Duration::from_secs(55 * 60);

/// Exchanges the API token that `api` authorizes with.
pub struct Exchange {
    pub api: Api,
}

#[async_trait]
impl Fetch for Exchange {
    async fn fetch(&self) -> Result<Token, ApiError> {
        // Whoever waits for a token waits for everything else: nothing is more urgent.
        let call =
            Call::post("/v1/tokens/exchange", Priority::Wake).json(&serde_json::json!({})).repeatable();
        let Exchanged { token } = self.api.call(call).await?.json()?;
        Token::bearer(&token, expiry(&token).unwrap_or_else(|| SystemTime::now() + USUAL_LIFE))
    }
}

/// The `exp` of a JWT. Not verified: it is not us that the token has to convince.
fn expiry(token: &str) -> Option<SystemTime> {
    let claims = BASE64_URL_SAFE_NO_PAD.decode(token.split('.').nth(1)?.trim_end_matches('=')).ok()?;
    let claims: Claims = serde_json::from_slice(&claims).ok()?;
    SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(claims.exp?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tokens_end_is_read_and_nonsense_has_none() {
        let token = |claims: &str| format!("e30.{}.x", BASE64_URL_SAFE_NO_PAD.encode(claims));
        let end = |seconds| Some(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds));
        assert_eq!(expiry(&token(r#"{"exp":1790000000,"iat":1}"#)), end(1_790_000_000));
        for nonsense in ["", "a.b", "a.!.c", &token("[]"), &token("{}"), &token(r#"{"exp":-1}"#), "...."] {
            assert_eq!(expiry(nonsense), None, "{nonsense}");
        }
    }
}
