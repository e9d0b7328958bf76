//! What commands print: a bounded part of it as lines of the log, and the last line, which says why.

use std::{sync::Mutex, sync::PoisonError, time::Duration};

use tokio::io::{AsyncRead, AsyncReadExt};

/// The `target` of the log lines.
pub const TARGET: &str = "hook";

/// So much of what one run prints is logged.
pub(super) const MOST: usize = 16 * 1024;

/// A line is cut after so many bytes.
const LONGEST_LINE: usize = 1024;

/// What is beyond [`MOST`] is read in such pieces and thrown away, with a pause between two: a command that does not stop to
/// print is slowed down by its own pipe, and costs us next to nothing.
const PAUSE: Duration = Duration::from_millis(10);

/// What one run has printed.
#[derive(Default)]
pub(super) struct Output(Mutex<Printed>);

#[derive(Default)]
struct Printed {
    bytes: usize,
    last: Option<String>,
}

impl Output {
    /// Reads what it prints until that ends. `label` begins each line of the log.
    pub async fn read(&self, label: &str, mut stream: impl AsyncRead + Unpin) {
        let mut line = Vec::new();
        let mut chunk = vec![0; 8 * 1024];
        loop {
            let read = stream.read(&mut chunk).await.unwrap_or(0);
            let already = self.count(read);
            for (at, &byte) in chunk[..read].iter().enumerate() {
                if byte == b'\n' {
                    self.tell(label, &mut line, already + at < MOST);
                } else if line.len() < LONGEST_LINE {
                    line.push(byte);
                }
            }
            if read == 0 {
                return self.tell(label, &mut line, already < MOST);
            }
            if already > MOST {
                tokio::time::sleep(PAUSE).await;
            }
        }
    }

    /// The last line that is not blank.
    pub fn last_line(&self) -> Option<String> {
        self.printed().last.clone()
    }

    /// How many bytes were not logged.
    pub fn left_out(&self) -> usize {
        self.printed().bytes.saturating_sub(MOST)
    }

    /// Returns how many bytes there were before.
    fn count(&self, more: usize) -> usize {
        let mut printed = self.printed();
        let already = printed.bytes;
        printed.bytes += more;
        already
    }

    fn tell(&self, label: &str, line: &mut Vec<u8>, logged: bool) {
        let text = String::from_utf8_lossy(line).trim_end().replace(char::is_control, "\u{fffd}");
        line.clear();
        if text.is_empty() {
            return;
        }
        if logged {
            log::info!(target: TARGET, "{label}: {text}");
        }
        self.printed().last = Some(text);
    }

    fn printed(&self) -> std::sync::MutexGuard<'_, Printed> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_last_line_is_kept_without_control_characters_and_long_ones_are_cut() {
        for (printed, expected) in [
            ("one\ntwo\n\n", Some("two".to_owned())),
            ("no newline at the end", Some("no newline at the end".to_owned())),
            ("", None),
            ("\u{7}\u{1b}[31mred\r\n", Some("\u{fffd}\u{fffd}[31mred".to_owned())),
            (&"x".repeat(5_000), Some("x".repeat(LONGEST_LINE))),
        ] {
            let output = Output::default();
            output.read("test", printed.as_bytes()).await;
            assert_eq!(output.last_line(), expected, "{printed:.20}");
            assert_eq!(output.left_out(), 0);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_too_much_is_counted_and_its_last_line_kept_all_the_same() {
        let output = Output::default();
        let flood = "line\n".repeat(100_000) + "because\n";
        output.read("test", flood.as_bytes()).await;
        assert_eq!(output.left_out(), flood.len() - MOST);
        assert_eq!(output.last_line().as_deref(), Some("because"));
    }
}
