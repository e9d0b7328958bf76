//! Tables for people, and lengths of time in few letters.

use std::{
    fmt,
    time::{SystemTime, UNIX_EPOCH},
};

/// Rows of text under a heading, no wider than the terminal.
pub struct Table {
    rows: Vec<Vec<String>>,
    width: usize,
}

impl Table {
    /// With these headings.
    pub fn new(headings: &[&str]) -> Self {
        Self::of_width(headings, width())
    }

    fn of_width(headings: &[&str], width: usize) -> Self {
        Self { rows: vec![headings.iter().map(|heading| (*heading).to_owned()).collect()], width }
    }

    /// One more row. Control characters are not shown: what a client calls itself is its own choice.
    pub fn row<const N: usize>(&mut self, cells: [String; N]) {
        self.rows.push(cells.into_iter().map(|cell| plain(&cell)).collect());
    }
}

/// What `COLUMNS` says, which shells keep to themselves as a rule; else how wide the terminal is. What goes to a file or to another
/// program is not cut.
fn width() -> usize {
    let said = std::env::var("COLUMNS").ok().and_then(|columns| columns.parse().ok());
    let is = || rustix::termios::tcgetwinsize(std::io::stdout()).ok().map(|size| usize::from(size.ws_col));
    said.or_else(is).filter(|columns| *columns > 0).unwrap_or(usize::MAX)
}

/// Without what could move the cursor.
pub fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let columns = self.rows.first().map_or(0, Vec::len);
        let longest =
            |column: usize| self.rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
        let widths: Vec<_> = (0..columns).map(longest).collect();
        for row in &self.rows {
            let mut line = String::new();
            for (cell, width) in row.iter().zip(&widths) {
                line.push_str(cell);
                line.extend(std::iter::repeat_n(' ', width - cell.chars().count() + 2));
            }
            let line = line.trim_end();
            if line.chars().count() > self.width {
                let cut: String = line.chars().take(self.width.saturating_sub(1)).collect();
                writeln!(f, "{cut}…")?;
            } else {
                writeln!(f, "{line}")?;
            }
        }
        Ok(())
    }
}

/// So many milliseconds, as `42s`, `8m` or `3h20m`.
pub fn lasting(millis: u64) -> String {
    match millis / 1000 {
        0 => format!("{millis}ms"),
        seconds @ 1..120 => format!("{seconds}s"),
        seconds @ 120..7200 => format!("{}m", seconds / 60),
        seconds @ 7200..172_800 => format!("{}h{:02}m", seconds / 3600, seconds % 3600 / 60),
        seconds => format!("{}d{:02}h", seconds / 86_400, seconds % 86_400 / 3600),
    }
}

/// How long ago that was, in milliseconds since 1970.
pub fn ago(at: Option<u64>) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let now = u64::try_from(now.as_millis()).unwrap_or(u64::MAX);
    at.map_or_else(|| "-".to_owned(), |at| lasting(now.saturating_sub(at)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_aligned_and_no_wider_than_the_terminal() {
        let mut table = Table::of_width(&["APP", "HOST"], 20);
        table.row(["a".into(), "h".into()]);
        table.row(["paris/shop".into(), "shop.example.com".into()]);
        table.row(["b".into(), "\x1b[2J".into()]);
        let text = table.to_string();
        assert_eq!(text, "APP         HOST\na           h\nparis/shop  shop.ex…\nb           ?[2J\n");
    }

    #[test]
    fn lengths_of_time_are_short() {
        let all =
            [(9, "9ms"), (42_000, "42s"), (480_000, "8m"), (12_000_000, "3h20m"), (200_000_000, "2d07h")];
        for (millis, text) in all {
            assert_eq!(lasting(millis), text);
        }
    }
}
