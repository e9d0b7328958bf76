//! What apps print: one log line for each of theirs, and the last one kept to explain a crash.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::{
    io::{AsyncRead, AsyncReadExt},
    process::{ChildStderr, ChildStdout},
    task::JoinHandle,
    time::{Duration, timeout},
};

/// The `target` of the log lines.
pub const TARGET: &str = "app";

/// A longer line is cut into pieces of this many bytes, so that no app can fill our memory.
const LONGEST_LINE: usize = 4096;

/// The end of what an app has printed.
pub(super) struct Tail {
    last: Arc<Mutex<Option<String>>>,
    readers: Vec<JoinHandle<()>>,
}

impl Tail {
    /// The last line that is not blank, once the app has ended and its output is read. A grandchild that keeps the
    /// pipe open is not waited for.
    pub async fn last_line(self) -> Option<String> {
        let all_read = async {
            for reader in self.readers {
                let _ = reader.await;
            }
        };
        let _ = timeout(Duration::from_millis(200), all_read).await;
        self.last.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// Reads both streams until they end.
pub(super) fn follow(app: &str, stdout: Option<ChildStdout>, stderr: Option<ChildStderr>) -> Tail {
    let last = Arc::new(Mutex::new(None));
    let mut readers = Vec::new();
    if let Some(stdout) = stdout {
        readers.push(tokio::spawn(read(app.to_owned(), stdout, last.clone())));
    }
    if let Some(stderr) = stderr {
        readers.push(tokio::spawn(read(app.to_owned(), stderr, last.clone())));
    }
    Tail { last, readers }
}

async fn read(app: String, mut stream: impl AsyncRead + Unpin, last: Arc<Mutex<Option<String>>>) {
    let mut line = Vec::new();
    let mut chunk = [0; LONGEST_LINE];
    loop {
        let read = stream.read(&mut chunk).await.unwrap_or(0);
        for &byte in &chunk[..read] {
            if byte == b'\n' || line.len() == LONGEST_LINE {
                tell(&app, &mut line, &last);
            }
            if byte != b'\n' {
                line.push(byte);
            }
        }
        if read == 0 {
            return tell(&app, &mut line, &last);
        }
    }
}

fn tell(app: &str, line: &mut Vec<u8>, last: &Mutex<Option<String>>) {
    let text = String::from_utf8_lossy(line).trim_end().replace(char::is_control, "\u{fffd}");
    line.clear();
    if text.is_empty() {
        return;
    }
    log::info!(target: TARGET, app = app; "{app}: {text}");
    *last.lock().unwrap_or_else(PoisonError::into_inner) = Some(text);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_last_line_is_kept_and_long_ones_are_bounded() {
        for (printed, expected) in [
            ("one\ntwo\n\n", Some("two".to_owned())),
            ("no newline at the end", Some("no newline at the end".to_owned())),
            ("", None),
            ("\n\n \n", None),
            ("bell\u{7}\u{1b}[31m\n", Some("bell\u{fffd}\u{fffd}[31m".to_owned())),
            (&"x".repeat(10_000), Some("x".repeat(10_000 - 2 * LONGEST_LINE))),
        ] {
            let last = Arc::new(Mutex::new(None));
            read("hello".into(), printed.as_bytes(), last.clone()).await;
            assert_eq!(last.lock().unwrap().take(), expected, "{printed:.20}");
        }
    }
}
