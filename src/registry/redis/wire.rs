//! How records and news are written in Redis.

use serde::{Deserialize, Serialize};

use crate::{
    app::AppId,
    registry::{Record, RegistryError},
};

/// The version of records that this program writes, and the newest that it understands.
pub const VERSION: u32 = 1;

#[derive(Serialize)]
struct Written<'a> {
    v: u32,
    #[serde(flatten)]
    record: &'a Record,
}

#[derive(Deserialize)]
struct Head {
    v: u32,
}

/// A record as it is written.
pub fn write(record: &Record) -> Result<String, RegistryError> {
    serde_json::to_string(&Written { v: VERSION, record })
        .map_err(|e| RegistryError::Unavailable(e.to_string()))
}

/// A record as it was written, by this version or an older one; no text is no record.
///
/// # Errors
///
/// `Newer` for a record that a newer version wrote; `Unavailable` for one that nobody can have written.
pub fn read(app: &AppId, text: &str) -> Result<Option<Record>, RegistryError> {
    if text.is_empty() {
        return Ok(None);
    }
    let strange = |error: serde_json::Error| {
        RegistryError::Unavailable(format!(
            "the record of {app} cannot be understood ({error}): see `loir registry repair`"
        ))
    };
    match serde_json::from_str::<Head>(text).map_err(strange)? {
        Head { v } if v > VERSION => Err(RegistryError::Newer(v)),
        _ => serde_json::from_str(text).map(Some).map_err(strange),
    }
}

/// What is told on the channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// The change number, the app, its record as written.
    Changed(u64, AppId, String),
    /// The change number, the app.
    Forgotten(u64, AppId),
    /// Somebody has agreed to a stop.
    Agreed,
    /// Somebody wants an app that is being stopped.
    Wanted(AppId),
    /// A provider entry was listed.
    Listed(String),
    /// The list of a provider entry is wrong.
    Outdated(String),
}

impl Message {
    /// What is written. Changes are written by the scripts.
    pub fn text(&self) -> String {
        match self {
            Self::Changed(seq, app, record) => format!("changed\n{seq}\n{app}\n{record}"),
            Self::Forgotten(seq, app) => format!("forgotten\n{seq}\n{app}"),
            Self::Agreed => "agreed".into(),
            Self::Wanted(app) => format!("wanted\n{app}"),
            Self::Listed(entry) => format!("listed\n{entry}"),
            Self::Outdated(entry) => format!("outdated\n{entry}"),
        }
    }

    /// `None` for what this version does not know: another may.
    pub fn read(text: &str) -> Option<Self> {
        let mut parts = text.splitn(4, '\n');
        Some(match (parts.next()?, parts.next(), parts.next(), parts.next()) {
            ("changed", Some(seq), Some(app), Some(record)) => {
                Self::Changed(seq.parse().ok()?, app.parse().ok()?, record.to_owned())
            }
            ("forgotten", Some(seq), Some(app), None) => {
                Self::Forgotten(seq.parse().ok()?, app.parse().ok()?)
            }
            ("agreed", ..) => Self::Agreed,
            ("wanted", Some(app), ..) => Self::Wanted(app.parse().ok()?),
            ("listed", Some(entry), ..) => Self::Listed(entry.to_owned()),
            ("outdated", Some(entry), ..) => Self::Outdated(entry.to_owned()),
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::Formation;

    fn app() -> AppId {
        AppId::new("paris", "shop")
    }

    #[test]
    fn records_come_back_as_they_were_written() {
        let record = Record { formation: Some(Formation::single("web")), epoch: 7, ..Record::new(5) };
        let text = write(&record).unwrap();
        assert!(text.starts_with(r#"{"v":1,"state":"asleep","epoch":7"#), "{text}");
        assert_eq!(read(&app(), &text).unwrap(), Some(record));
        assert_eq!(read(&app(), "").unwrap(), None);
    }

    #[test]
    fn what_a_newer_version_wrote_is_not_touched_and_garbage_is_named() {
        let newer = read(&app(), r#"{"v":2,"state":"dreaming"}"#).unwrap_err();
        assert!(matches!(newer, RegistryError::Newer(2)), "{newer}");
        for garbage in ["x", "{}", "[]", r#"{"v":1}"#, r#"{"v":1,"state":"dreaming"}"#] {
            let error = read(&app(), garbage).unwrap_err().to_string();
            assert!(error.contains("paris/shop") && error.contains("repair"), "{error}");
        }
    }

    #[test]
    fn what_is_told_is_heard_and_what_nobody_knows_is_passed_over() {
        for message in [
            Message::Changed(7, app(), "{\n}".into()),
            Message::Forgotten(8, app()),
            Message::Agreed,
            Message::Wanted(app()),
            Message::Listed("paris".into()),
            Message::Outdated("paris".into()),
        ] {
            assert_eq!(Message::read(&message.text()), Some(message));
        }
        for strange in ["", "dreaming\nparis/shop", "changed\nx\nparis/shop\n{}", "wanted\nshop"] {
            assert_eq!(Message::read(strange), None, "{strange}");
        }
    }
}
