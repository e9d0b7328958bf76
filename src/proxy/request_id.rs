//! `RequestId`: names a request in our log, in the app's log and on our own answers.
//!
//! Every request gets one, so it is put together by hand: formatting it costs ten times as much.

use http::{HeaderMap, HeaderValue};

/// A request's id: a trusted proxy's, or one of ours.
pub enum RequestId {
    /// 32 hexadecimal digits, unique but not secret.
    Ours([u8; 32]),
    /// Whatever the proxy says, as long as it is short and printable.
    Given(Box<str>),
}

impl RequestId {
    /// A new one.
    pub fn new() -> Self {
        let mut digits = [0; 32];
        hex(fastrand::u64(1..), &mut digits[..16]);
        hex(fastrand::u64(..), &mut digits[16..]);
        Self::Ours(digits)
    }

    /// A proxy's, if it has sent one.
    pub fn given(headers: &HeaderMap) -> Option<Self> {
        let id = headers.get("x-request-id")?.to_str().ok()?;
        let fits = (1..=128).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_graphic());
        fits.then(|| Self::Given(id.into()))
    }

    /// As text.
    pub fn as_str(&self) -> &str {
        match self {
            // `hex` writes ASCII only.
            Self::Ours(digits) => std::str::from_utf8(digits).unwrap_or_default(),
            Self::Given(id) => id,
        }
    }

    /// W3C Trace Context, level 1: the request's id is the trace's, when it has the form of one.
    pub fn traceparent(&self) -> Option<HeaderValue> {
        let mut parent = *b"00-................................-................-01";
        let trace = &mut parent[3..35];
        match self {
            Self::Ours(id) => trace.copy_from_slice(id),
            Self::Given(id) if is_trace_id(id.as_bytes()) => trace.copy_from_slice(id.as_bytes()),
            Self::Given(_) => {
                hex(fastrand::u64(1..), &mut trace[..16]);
                hex(fastrand::u64(..), &mut trace[16..]);
            }
        }
        hex(fastrand::u64(1..), &mut parent[36..52]);
        HeaderValue::from_bytes(&parent).ok()
    }
}

/// 32 lower-case digits, not all of them zero.
fn is_trace_id(id: &[u8]) -> bool {
    let is_digit = |byte: &u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    id.len() == 32 && id.iter().all(is_digit) && id.iter().any(|&byte| byte != b'0')
}

/// `number` as 16 hexadecimal digits.
fn hex(number: u64, digits: &mut [u8]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for (digit, byte) in digits.chunks_exact_mut(2).zip(number.to_be_bytes()) {
        digit[0] = DIGITS[usize::from(byte >> 4)];
        digit[1] = DIGITS[usize::from(byte & 0xf)];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_are_those_that_formatting_gives() {
        for number in [0, 1, 0x0123_4567_89ab_cdef, u64::MAX] {
            let mut digits = [0; 16];
            hex(number, &mut digits);
            assert_eq!(std::str::from_utf8(&digits).unwrap(), format!("{number:016x}"));
        }
    }

    #[test]
    fn a_trace_has_the_id_of_its_request_where_that_is_allowed() {
        let trace = |id: &RequestId| id.traceparent().unwrap().to_str().unwrap().to_owned();
        let ours = RequestId::new();
        assert!(trace(&ours).starts_with(&format!("00-{}-", ours.as_str())), "{}", trace(&ours));
        let given = RequestId::Given("0af7651916cd43dd8448eb211c80319c".into());
        assert!(trace(&given).starts_with("00-0af7651916cd43dd8448eb211c80319c-"));
        for odd in ["my-own-id", "00000000000000000000000000000000", "0AF7651916CD43DD8448EB211C80319C"] {
            let trace = trace(&RequestId::Given(odd.into()));
            assert!(trace.len() == 55 && trace.ends_with("-01") && !trace.contains(odd), "{trace}");
        }
    }
}
