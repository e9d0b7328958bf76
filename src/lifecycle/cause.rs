//! Why something was done to an app, and the name under which all that followed from it is found again.

use std::{net::IpAddr, sync::Arc};

use serde::{Deserialize, Serialize};

use crate::app::AppId;

/// Why an app is woken, stopped, or otherwise changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "by", rename_all = "snake_case")]
pub enum Cause {
    /// A client's request.
    Request {
        /// Its `X-Request-Id`.
        id: Arc<str>,
        /// Who asked.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        client: Option<IpAddr>,
        /// Its `User-Agent`, cut after [`AGENT`] characters.
        #[serde(default, skip_serializing_if = "str::is_empty")]
        agent: Arc<str>,
    },
    /// Nobody used it for its idle time, which this rule has set (`rule 3, conf/loir.yaml:41`), if any did.
    Idle {
        /// The rule.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        rule: Option<Arc<str>>,
    },
    /// The schedule of this rule.
    Schedule {
        /// The rule, and its window in words.
        rule: Arc<str>,
    },
    /// An app of its group is woken, or sleeps.
    Group {
        /// That app.
        app: AppId,
    },
    /// A limit was reached.
    Limit {
        /// Which, and the rule that sets it.
        limit: Arc<str>,
    },
    /// Somebody who knows a token of the admin side, or has a link that was signed there.
    Person {
        /// The token's name.
        name: Arc<str>,
    },
    /// What its provider says of it.
    Provider,
    /// Another gateway of the fleet.
    Fleet,
    /// The configuration, or a gateway that begins or ends.
    Gateway,
}

/// So many characters of a `User-Agent` are kept.
pub const AGENT: usize = 120;

/// What is kept of a `User-Agent`: its beginning, without control characters.
pub fn agent_of(header: &[u8]) -> Arc<str> {
    let text = String::from_utf8_lossy(header);
    text.chars().filter(|it| !it.is_control()).take(AGENT).collect::<String>().into()
}

impl Cause {
    /// The kind in one word, as in a metric's label or a table's column.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Request { .. } => "request",
            Self::Idle { .. } => "idle",
            Self::Schedule { .. } => "schedule",
            Self::Group { .. } => "group",
            Self::Limit { .. } => "limit",
            Self::Person { .. } => "person",
            Self::Provider => "provider",
            Self::Fleet => "fleet",
            Self::Gateway => "gateway",
        }
    }
}

impl std::fmt::Display for Cause {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Request { id, client, agent } => {
                write!(f, "request {id}")?;
                client.map_or(Ok(()), |client| write!(f, " from {client}"))?;
                if agent.is_empty() { Ok(()) } else { write!(f, " ({agent})") }
            }
            Self::Idle { rule: None } => f.write_str("nobody used it"),
            Self::Idle { rule: Some(rule) } => write!(f, "nobody used it ({rule})"),
            Self::Schedule { rule } => write!(f, "schedule ({rule})"),
            Self::Group { app } => write!(f, "with {app}"),
            Self::Limit { limit } => write!(f, "limit ({limit})"),
            Self::Person { name } => write!(f, "{name}"),
            Self::Provider => f.write_str("its provider"),
            Self::Fleet => f.write_str("another gateway"),
            Self::Gateway => f.write_str("this gateway"),
        }
    }
}

/// One wake or one stop, from its cause to its end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    /// Unique: all events of the run carry it.
    pub id: Arc<str>,
    /// Why.
    pub cause: Cause,
}

impl Run {
    /// A new one.
    pub fn new(cause: Cause) -> Self {
        Self { id: format!("{:016x}", fastrand::u64(..)).into(), cause }
    }
}
