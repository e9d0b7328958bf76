//! Misbehaviour of a control API, ordered by a test for the next calls that match.

use std::time::Duration;

use super::api::Answer;

/// What the next matching calls meet. Begin with [`Fault::on`], end with what goes wrong:
///
/// `sim.fault(Fault::on("POST", "*/scale").times(2).drops_after())`
#[derive(Clone, Debug)]
pub struct Fault {
    door: Option<String>,
    method: String,
    path: String,
    skips: usize,
    times: usize,
    pub(super) delay: Duration,
    pub(super) harm: Harm,
}

/// What goes wrong.
#[derive(Clone, Debug)]
pub(super) enum Harm {
    /// Nothing but the delay.
    Late,
    /// This answer instead of the real one; nothing is executed.
    Instead(Answer),
    /// Executed, then this answer instead of the real one.
    Pretends(Answer),
    Drops,
    DropsAfter,
    Hangs,
    HangsAfter,
    /// Executed; a whole HTTP message whose body ends in the middle.
    HalfBody,
    /// Executed; `Content-Length` says more than what comes.
    HalfMessage,
}

impl Fault {
    /// For the next call with this method (`*`: any) and a path that matches (see [`matches`]).
    pub fn on(method: &str, path: &str) -> Self {
        Self {
            door: None,
            method: method.into(),
            path: path.into(),
            skips: 0,
            times: 1,
            delay: Duration::ZERO,
            harm: Harm::Late,
        }
    }

    /// Only at this one of several APIs: a region of Scalingo's.
    pub fn at(mut self, door: &str) -> Self {
        self.door = Some(door.into());
        self
    }

    /// Lets so many matching calls pass before.
    pub fn skips(mut self, calls: usize) -> Self {
        self.skips = calls;
        self
    }

    /// For so many calls instead of one.
    pub fn times(mut self, times: usize) -> Self {
        self.times = times;
        self
    }

    /// For every call until `clear_faults`.
    pub fn always(self) -> Self {
        self.times(usize::MAX)
    }

    /// Waits before anything else; alone, the call is then answered as ever.
    pub fn delays(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }

    fn does(mut self, harm: Harm) -> Self {
        self.harm = harm;
        self
    }

    /// Answers this instead of executing the call.
    pub fn answers(self, answer: Answer) -> Self {
        self.does(Harm::Instead(answer))
    }

    /// An error of a machine in between: the status with an HTML page.
    pub fn html(self, status: u16) -> Self {
        self.answers(Answer::html(status, "<!DOCTYPE html><html><body><h1>Bad gateway</h1></body></html>"))
    }

    /// The status with plain text.
    pub fn text(self, status: u16, text: &str) -> Self {
        self.answers(Answer::text(status, text))
    }

    /// The status with an empty body.
    pub fn status(self, status: u16) -> Self {
        self.answers(Answer::empty(status))
    }

    /// Executes the call and answers this all the same: an outcome that cannot be known.
    pub fn pretends(self, answer: Answer) -> Self {
        self.does(Harm::Pretends(answer))
    }

    /// Ends the connection without an answer; nothing is executed.
    pub fn drops(self) -> Self {
        self.does(Harm::Drops)
    }

    /// Executes the call and ends the connection without an answer.
    pub fn drops_after(self) -> Self {
        self.does(Harm::DropsAfter)
    }

    /// Never answers; nothing is executed.
    pub fn hangs(self) -> Self {
        self.does(Harm::Hangs)
    }

    /// Executes the call and never answers.
    pub fn hangs_after(self) -> Self {
        self.does(Harm::HangsAfter)
    }

    /// Executes the call; the JSON of the answer ends in the middle, in a complete HTTP message.
    pub fn truncates(self) -> Self {
        self.does(Harm::HalfBody)
    }

    /// Executes the call; the connection ends in the middle of the body.
    pub fn breaks_off(self) -> Self {
        self.does(Harm::HalfMessage)
    }

    /// Whether it is for this call; if so, one of its times is used up.
    pub(super) fn strikes(&mut self, door: &str, method: &str, path: &str) -> bool {
        let here = self.door.as_ref().is_none_or(|wanted| wanted == door);
        let mut strikes = here && self.times > 0 && matches(&self.method, &self.path, method, path);
        if strikes && self.skips > 0 {
            self.skips -= 1;
            strikes = false;
        }
        if strikes && self.times != usize::MAX {
            self.times -= 1;
        }
        strikes
    }

    pub(super) fn is_spent(&self) -> bool {
        self.times == 0
    }
}

/// Whether a call is meant. Method `*` is any. In a path, `*` stands for any characters, slashes too; a path without
/// `*` matches as an end of the real one (`/scale`). The query takes part only if the pattern has a `?`.
pub fn matches(wanted_method: &str, pattern: &str, method: &str, path_and_query: &str) -> bool {
    let path = match path_and_query.split_once('?') {
        Some((path, _)) if !pattern.contains('?') => path,
        _ => path_and_query,
    };
    let same_method = wanted_method == "*" || wanted_method.eq_ignore_ascii_case(method);
    same_method && if pattern.contains('*') { glob(pattern, path) } else { path.ends_with(pattern) }
}

fn glob(pattern: &str, text: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == text,
        Some((head, rest)) => text.strip_prefix(head).is_some_and(|text| {
            (0..=text.len()).filter(|at| text.is_char_boundary(*at)).any(|at| glob(rest, &text[at..]))
        }),
    }
}
