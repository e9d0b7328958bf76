//! `Oauth1`: RFC 5849 as Clever Cloud wants it, with both of the signatures it takes.

use std::{fmt, time::SystemTime};

use async_trait::async_trait;
use base64::{Engine, prelude::BASE64_STANDARD};
use http::{HeaderValue, Method};
use percent_encoding::utf8_percent_encode;
use reqwest::Url;
use ring::hmac;

use super::{ApiError, Credential, call::RESERVED, credential::sensitive};

/// How a call is signed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Signature {
    /// The secrets themselves, under TLS. What Clever Cloud's own clients send.
    #[default]
    Plaintext,
    /// HMAC-SHA512 over method, URL and parameters. What Clever Cloud's documentation recommends.
    HmacSha512,
}

/// The four parts of an OAuth 1 credential.
#[derive(Clone)]
pub struct Oauth1 {
    /// Names the program.
    pub consumer_key: String,
    /// The program's secret.
    pub consumer_secret: String,
    /// Names the user's consent.
    pub token: String,
    /// The secret of `token`.
    pub secret: String,
    /// How calls are signed.
    pub signature: Signature,
}

/// RFC 5849, section 3.6.
fn encode(text: &str) -> String {
    utf8_percent_encode(text, RESERVED).to_string()
}

/// RFC 5849, section 3.4.1; the parameters of the query are added to `parameters`.
fn base_string(method: &Method, url: &Url, parameters: &[(&str, &str)]) -> String {
    let mut pairs: Vec<_> = parameters.iter().map(|(name, value)| (encode(name), encode(value))).collect();
    pairs.extend(url.query_pairs().map(|(name, value)| (encode(&name), encode(&value))));
    pairs.sort();
    let pairs: Vec<_> = pairs.into_iter().map(|(name, value)| format!("{name}={value}")).collect();
    let mut bare = url.clone();
    bare.set_query(None);
    bare.set_fragment(None);
    format!("{method}&{}&{}", encode(bare.as_str()), encode(&pairs.join("&")))
}

impl Oauth1 {
    /// The value of `Authorization`. `nonce` and `timestamp` (seconds since 1970) are not used by PLAINTEXT.
    fn header(&self, method: &Method, url: &Url, nonce: &str, timestamp: u64) -> String {
        let (consumer_secret, secret) = (encode(&self.consumer_secret), encode(&self.secret));
        if self.signature == Signature::Plaintext {
            // Letter by letter what Clever Cloud's own clients send: no method, nonce, timestamp or version.
            return format!(
                r#"OAuth oauth_consumer_key="{}", oauth_token="{}", oauth_signature="{consumer_secret}%26{secret}""#,
                encode(&self.consumer_key),
                encode(&self.token),
            );
        }
        let timestamp = timestamp.to_string();
        let parameters = [
            ("oauth_consumer_key", self.consumer_key.as_str()),
            ("oauth_nonce", nonce),
            ("oauth_signature_method", "HMAC-SHA512"),
            ("oauth_timestamp", &timestamp),
            ("oauth_token", &self.token),
            ("oauth_version", "1.0"),
        ];
        let key = hmac::Key::new(hmac::HMAC_SHA512, format!("{consumer_secret}&{secret}").as_bytes());
        let signature = hmac::sign(&key, base_string(method, url, &parameters).as_bytes());
        let signature = BASE64_STANDARD.encode(signature);
        let fields: Vec<_> = parameters
            .into_iter()
            .chain([("oauth_signature", signature.as_str())])
            .map(|(name, value)| format!(r#"{name}="{}""#, encode(value)))
            .collect();
        format!("OAuth {}", fields.join(", "))
    }
}

#[async_trait]
impl Credential for Oauth1 {
    async fn authorize(&self, method: &Method, url: &Url) -> Result<HeaderValue, ApiError> {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        // Nobody must guess a nonce; it must only not come twice within a second.
        let nonce = format!("{:032x}", fastrand::u128(..));
        sensitive(&self.header(method, url, &nonce, now.as_secs()))
    }

    async fn renew(&self, _: &HeaderValue) -> Result<bool, ApiError> {
        Ok(false)
    }
}

impl fmt::Debug for Oauth1 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Oauth1({:?})", self.signature)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn credential(signature: Signature) -> Oauth1 {
        Oauth1 {
            consumer_key: "9djdj82h48djs9d2".into(),
            consumer_secret: "j49sk3j29djd".into(),
            token: "kkk9d7dh3k39sjv7".into(),
            secret: "dh893hdasih9".into(),
            signature,
        }
    }

    #[test]
    fn the_base_string_is_the_one_of_rfc_5849_section_3_4_1_1() {
        let url = Url::parse("http://EXAMPLE.COM:80/request?b5=%3D%253D&a3=a&c%40=&a2=r%20b").unwrap();
        let parameters = [
            ("oauth_consumer_key", "9djdj82h48djs9d2"),
            ("oauth_token", "kkk9d7dh3k39sjv7"),
            ("oauth_signature_method", "HMAC-SHA1"),
            ("oauth_timestamp", "137131201"),
            ("oauth_nonce", "7d8f3e4a"),
            // From the example's form.
            ("c2", ""),
            ("a3", "2 q"),
        ];
        assert_eq!(
            base_string(&Method::POST, &url, &parameters),
            "POST&http%3A%2F%2Fexample.com%2Frequest&a2%3Dr%2520b%26a3%3D2%2520q%26a3%3Da%26b5%3D%253D%25253D%26c%2540%3D\
             %26c2%3D%26oauth_consumer_key%3D9djdj82h48djs9d2%26oauth_nonce%3D7d8f3e4a%26oauth_signature_method%3DHMAC-SH\
             A1%26oauth_timestamp%3D137131201%26oauth_token%3Dkkk9d7dh3k39sjv7"
        );
    }

    #[test]
    fn text_is_encoded_as_in_rfc_5849_section_3_6() {
        assert_eq!(encode("AZaz09-._~"), "AZaz09-._~");
        assert_eq!(encode("r b&=+%/\u{e9}\u{2603}"), "r%20b%26%3D%2B%25%2F%C3%A9%E2%98%83");
    }

    #[test]
    fn plaintext_is_letter_by_letter_what_clevers_own_clients_send() {
        let url = Url::parse("https://api.clever-cloud.com/v2/summary").unwrap();
        let mut credential = credential(Signature::Plaintext);
        assert_eq!(
            credential.header(&Method::GET, &url, "unused", 1),
            "OAuth oauth_consumer_key=\"9djdj82h48djs9d2\", oauth_token=\"kkk9d7dh3k39sjv7\", \
             oauth_signature=\"j49sk3j29djd%26dh893hdasih9\""
        );
        credential.secret = "a&b\"c".into();
        assert!(credential.header(&Method::GET, &url, "unused", 1).ends_with("\"j49sk3j29djd%26a%26b%22c\""));
    }

    /// The expected value comes from Python's standard library alone:
    ///
    /// ```text
    /// from urllib.parse import quote; import hmac, hashlib, base64
    /// e = lambda s: quote(s, safe='-._~')
    /// p = sorted((e(k), e(v)) for k, v in [('limit','5'), ('q','a b'), ('oauth_consumer_key','9djdj82h48djs9d2'),
    ///     ('oauth_nonce','7d8f3e4a'), ('oauth_signature_method','HMAC-SHA512'), ('oauth_timestamp','137131201'),
    ///     ('oauth_token','kkk9d7dh3k39sjv7'), ('oauth_version','1.0')])
    /// base = '&'.join(['GET', e('https://api.clever-cloud.com/v2/self'), e('&'.join(k + '=' + v for k, v in p))])
    /// key = b'j49sk3j29djd&dh893hdasih9'
    /// print(e(base64.b64encode(hmac.new(key, base.encode(), hashlib.sha512).digest()).decode()))
    /// ```
    #[test]
    fn hmac_sha512_is_what_python_computes() {
        let url = Url::parse("https://api.clever-cloud.com/v2/self?limit=5&q=a%20b").unwrap();
        let header = credential(Signature::HmacSha512).header(&Method::GET, &url, "7d8f3e4a", 137131201);
        assert_eq!(
            header,
            "OAuth oauth_consumer_key=\"9djdj82h48djs9d2\", oauth_nonce=\"7d8f3e4a\", \
             oauth_signature_method=\"HMAC-SHA512\", oauth_timestamp=\"137131201\", \
             oauth_token=\"kkk9d7dh3k39sjv7\", oauth_version=\"1.0\", \
             oauth_signature=\"WFHzozbHfaYTt2c5595OmNUO3pzhB8MyONJR%2FVH%2BgFIl0pzQ1w3PD4YUrnU9y4qhsDdhcT7mDR47RIR4Gc%2FC%2BQ%3D%3D\""
        );
    }

    #[tokio::test]
    async fn each_call_has_a_nonce_of_its_own_and_no_secret_is_shown() {
        let credential = credential(Signature::HmacSha512);
        let url = Url::parse("https://api.clever-cloud.com/v2/self").unwrap();
        let one = credential.authorize(&Method::GET, &url).await.unwrap();
        let two = credential.authorize(&Method::GET, &url).await.unwrap();
        assert_ne!(one, two);
        assert!(!format!("{one:?} {credential:?}").contains("9djdj82h48djs9d2"));
    }
}
