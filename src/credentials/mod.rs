//! Who may do what: tokens of the admin side, links that it has signed, and how often somebody may be wrong.
//!
//! | file | what is in it |
//! |---|---|
//! | `mod` (here) | `Credentials`: the one that everybody asks |
//! | `token` | tokens, kept as hashes only; scopes |
//! | `link` | signed links that wake one app, for a while |
//! | `attempts` | failed attempts of a client, bounded |

use std::{
    fmt, io,
    net::IpAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use arc_swap::ArcSwap;

mod attempts;
mod kept;
mod link;
mod token;

use attempts::Attempts;
pub use link::{LINK_PATH, LONGEST_LINK, Link};
pub use token::{NamedToken, Scope, TOKEN_LENGTH, TOKEN_PREFIX, TokenHash, new_token};

use crate::{app::AppId, clock::Millis, config};

/// The name of the token that is printed at the first start.
const FIRST: &str = "first";

/// All that gives somebody a right. Shared by the proxy and the admin side; a reload replaces what the file says.
pub struct Credentials {
    known: ArcSwap<Known>,
    attempts: Attempts,
    state_dir: Option<PathBuf>,
}

struct Known {
    /// Those of the file.
    tokens: Vec<NamedToken>,
    /// The one that was printed at the first start.
    first: Option<NamedToken>,
    key: link::Key,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").field("tokens", &self.known.load().tokens.len()).finish_non_exhaustive()
    }
}

/// Why somebody is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Denied {
    /// Nobody has this token.
    Unknown,
    /// Whoever has it may not do this.
    Scope,
    /// This client was wrong too often, and is heard again after so long.
    TooOften(Duration),
}

impl Credentials {
    /// What `config` says, and what is kept in `state_dir`: the key of signed links, if the file names none, and the hash of the
    /// token that is made at the first start. That token itself is returned once, to be printed; it is made if there is a
    /// `state_dir` and the file has no tokens.
    ///
    /// # Errors
    ///
    /// What is kept cannot be read or written.
    pub fn open(config: &config::Admin, state_dir: Option<&Path>) -> io::Result<(Self, Option<String>)> {
        let key = match (&config.signing_key, state_dir) {
            (Some(key), _) => link::Key::new(key.expose().as_bytes()),
            (None, Some(folder)) => kept::signing_key(folder)?,
            (None, None) => link::Key::random(),
        };
        let (first, print) = match state_dir {
            Some(folder) => kept::first_token(folder, config.tokens.is_empty() && config.is_on())?,
            None => (None, None),
        };
        let first = first.map(|hash| NamedToken { name: FIRST.into(), hash, scope: Scope::Admin });
        let known = Known { tokens: config.tokens.clone(), first, key };
        let credentials = Self {
            known: ArcSwap::from_pointee(known),
            attempts: Attempts::default(),
            state_dir: state_dir.map(Path::to_owned),
        };
        Ok((credentials, print))
    }

    /// Nobody has a right: for what has no configuration.
    pub fn none() -> Self {
        let known = Known { tokens: Vec::new(), first: None, key: link::Key::random() };
        Self { known: ArcSwap::from_pointee(known), attempts: Attempts::default(), state_dir: None }
    }

    /// Takes over what a new configuration says. Links that were signed with a key of before are void if the key is another.
    ///
    /// # Errors
    ///
    /// The key that is kept cannot be read or written.
    pub fn configure(&self, config: &config::Admin) -> io::Result<()> {
        let old = self.known.load();
        let key = match (&config.signing_key, &self.state_dir) {
            (Some(key), _) => link::Key::new(key.expose().as_bytes()),
            (None, Some(folder)) => kept::signing_key(folder)?,
            // The one of this process, unless that was the file's.
            (None, None) => old.key.clone(),
        };
        let first = old.first.clone();
        self.known.store(Arc::new(Known { tokens: config.tokens.clone(), first, key }));
        Ok(())
    }

    /// Whether the file has tokens: then nobody is let in without one.
    pub fn are_configured(&self) -> bool {
        !self.known.load().tokens.is_empty()
    }

    /// Whether anybody has a token.
    pub fn has_any(&self) -> bool {
        let known = self.known.load();
        !known.tokens.is_empty() || known.first.is_some()
    }

    /// The name and the scope of whoever has this token. Takes the same time whatever the token is.
    pub fn holder(&self, token: &str) -> Option<(Arc<str>, Scope)> {
        let hash = TokenHash::of(token);
        let known = self.known.load();
        let mut holder = None;
        // Tokens of the file take the place of the first one, also when a reload has brought them.
        let first = known.first.iter().filter(|_| known.tokens.is_empty());
        for known in known.tokens.iter().chain(first) {
            // No early end: how long it takes says nothing of where the token stands.
            if known.hash.is(&hash) {
                holder = Some((known.name.clone(), known.scope));
            }
        }
        holder
    }

    /// The name of whoever has this token, if that may do what `at_least` names.
    pub fn person_for(&self, token: &str, at_least: Scope) -> Option<Arc<str>> {
        self.holder(token).filter(|(_, scope)| *scope >= at_least).map(|(name, _)| name)
    }

    /// The same for somebody at `client`, whose wrong tokens are counted. `now` is of the gateway's clock.
    ///
    /// # Errors
    ///
    /// Why not. A client that was wrong too often is not even heard with a right token.
    pub fn admit(
        &self,
        token: &str,
        at_least: Scope,
        client: IpAddr,
        now: Millis,
    ) -> Result<Arc<str>, Denied> {
        if let Some(wait) = self.attempts.wait(client, now) {
            return Err(Denied::TooOften(wait));
        }
        match self.holder(token) {
            None => {
                self.attempts.failed(client, now);
                Err(Denied::Unknown)
            }
            Some((_, scope)) if scope < at_least => Err(Denied::Scope),
            Some((name, _)) => Ok(name),
        }
    }

    /// The text of a link that wakes `app` until `until`, in wall-clock milliseconds since 1970 (rounded up to a second).
    pub fn sign_link(&self, app: &AppId, until: u64) -> String {
        self.known.load().key.sign(app, until)
    }

    /// What this text of a link is worth for `app` at `now`, in wall-clock milliseconds since 1970.
    pub fn read_link(&self, app: &AppId, text: &str, now: u64) -> Link {
        self.known.load().key.read(app, text, now)
    }

    /// Whether this text is of a link that was signed for `app` and has not run out at `now`, in wall-clock milliseconds since
    /// 1970.
    pub fn verify_link(&self, app: &AppId, text: &str, now: u64) -> bool {
        self.known.load().key.verify(app, text, now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::secret::Secret;

    fn admin(tokens: &[(&str, &str, Scope)], key: Option<&str>) -> config::Admin {
        let tokens = tokens.iter().map(|(name, token, scope)| NamedToken {
            name: (*name).into(),
            hash: TokenHash::of(token),
            scope: *scope,
        });
        let mut config = config::Admin::default();
        config.tokens = tokens.collect();
        config.signing_key = key.map(Secret::new);
        config
    }

    #[test]
    fn a_token_gives_its_scope_and_those_below_and_nothing_more() {
        let config = admin(
            &[
                ("eye", "t-read", Scope::Read),
                ("hand", "t-op", Scope::Operate),
                ("root", "t-all", Scope::Admin),
            ],
            None,
        );
        let (credentials, print) = Credentials::open(&config, None).unwrap();
        assert_eq!(print, None);
        let may = |token| {
            [Scope::Read, Scope::Operate, Scope::Admin].map(|s| credentials.person_for(token, s).is_some())
        };
        assert_eq!(may("t-read"), [true, false, false]);
        assert_eq!(may("t-op"), [true, true, false]);
        assert_eq!(may("t-all"), [true, true, true]);
        assert_eq!(may("t-other"), [false, false, false]);
        assert_eq!(may(""), [false, false, false]);
        assert_eq!(credentials.person_for("t-op", Scope::Read).as_deref(), Some("hand"));
    }

    #[test]
    fn the_first_start_makes_a_token_and_shows_it_once() {
        let folder = tempfile::tempdir().unwrap();
        let open = || Credentials::open(&admin(&[], None), Some(folder.path())).unwrap();
        let (first, print) = open();
        let token = print.expect("it is to be printed");
        let (second, again) = open();
        assert_eq!(again, None);
        for credentials in [first, second] {
            assert_eq!(credentials.person_for(&token, Scope::Admin).as_deref(), Some(FIRST));
            assert!(!credentials.are_configured());
        }
        for entry in std::fs::read_dir(folder.path()).unwrap() {
            let text = std::fs::read(entry.unwrap().path()).unwrap();
            assert!(!String::from_utf8_lossy(&text).contains(&token), "it is kept as a hash only");
        }
        let (configured, _) =
            Credentials::open(&admin(&[("a", "t", Scope::Read)], None), Some(folder.path())).unwrap();
        assert_eq!(configured.person_for(&token, Scope::Read), None, "tokens of the file take its place");
    }

    #[test]
    fn the_key_of_links_is_the_files_or_is_kept_where_only_we_read_it() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let app = AppId::new("local", "shop");
        let open = |key, folder: Option<&Path>| Credentials::open(&admin(&[], key), folder).unwrap().0;
        let link = open(None, Some(folder.path())).sign_link(&app, 10_000);
        assert!(open(None, Some(folder.path())).verify_link(&app, &link, 9_000));
        assert!(!open(None, None).verify_link(&app, &link, 9_000));
        let key = Some("0123456789abcdef0123456789abcdef");
        let link = open(key, None).sign_link(&app, 10_000);
        assert!(open(key, Some(folder.path())).verify_link(&app, &link, 9_000));
        for entry in std::fs::read_dir(folder.path()).unwrap() {
            let entry = entry.unwrap();
            assert_eq!(entry.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{:?}", entry.path());
        }
    }

    #[test]
    fn a_reload_replaces_tokens_and_keeps_the_key() {
        let (credentials, _) = Credentials::open(&admin(&[("a", "old", Scope::Admin)], None), None).unwrap();
        let app = AppId::new("local", "shop");
        let link = credentials.sign_link(&app, 10_000);
        credentials.configure(&admin(&[("a", "new", Scope::Admin)], None)).unwrap();
        assert_eq!(credentials.person_for("old", Scope::Read), None);
        assert!(credentials.person_for("new", Scope::Read).is_some());
        assert!(credentials.verify_link(&app, &link, 0));
    }

    #[test]
    fn tokens_that_a_reload_brings_take_the_place_of_the_first_one() {
        let folder = tempfile::tempdir().unwrap();
        let (credentials, print) = Credentials::open(&admin(&[], None), Some(folder.path())).unwrap();
        let first = print.unwrap();
        credentials.configure(&admin(&[("a", "of the file", Scope::Read)], None)).unwrap();
        assert_eq!(credentials.person_for(&first, Scope::Read), None);
        credentials.configure(&admin(&[], None)).unwrap();
        assert_eq!(credentials.person_for(&first, Scope::Admin).as_deref(), Some(FIRST));
    }

    #[test]
    fn whoever_is_wrong_too_often_is_not_heard_for_a_while_and_others_are() {
        let (credentials, _) =
            Credentials::open(&admin(&[("a", "right", Scope::Admin)], None), None).unwrap();
        let (guesser, other) = ("192.0.2.1".parse().unwrap(), "192.0.2.2".parse().unwrap());
        let mut now = Millis(1);
        let mut tries = 0;
        let wait = loop {
            match credentials.admit("wrong", Scope::Read, guesser, now) {
                Err(Denied::TooOften(wait)) => break wait,
                denied => assert_eq!(denied, Err(Denied::Unknown)),
            }
            tries += 1;
            assert!(tries < 1000);
        };
        assert_eq!(credentials.admit("right", Scope::Read, guesser, now), Err(Denied::TooOften(wait)));
        assert_eq!(credentials.admit("right", Scope::Read, other, now).as_deref(), Ok("a"));
        now = now.after(wait);
        assert_eq!(credentials.admit("right", Scope::Read, guesser, now).as_deref(), Ok("a"));
    }

    #[test]
    fn nothing_of_it_is_in_debug() {
        let config =
            admin(&[("a", "hunter2-token", Scope::Admin)], Some("hunter2-hunter2-hunter2-hunter2-key"));
        let (credentials, _) = Credentials::open(&config, None).unwrap();
        let shown = format!("{credentials:?} {config:?}");
        assert!(!shown.contains("hunter2"), "{shown}");
        assert!(!shown.contains(&TokenHash::of("hunter2-token").to_string()), "{shown}");
    }
}
