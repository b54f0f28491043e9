//! Tables for people: columns that line up, cut to the width of the terminal, coloured only there.

use std::io::IsTerminal as _;

use anstyle::{AnsiColor, Style};
use unicode_width::{UnicodeWidthChar as _, UnicodeWidthStr as _};

/// Between two columns.
const GAP: usize = 3;
/// The last column is not cut to less than this.
const NARROWEST: usize = 16;

/// Where output goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Screen {
    /// The width of the terminal in columns; `None` for a file or a pipe, where nothing is cut.
    pub(super) width: Option<usize>,
    /// Whether colours are shown.
    pub(super) colours: bool,
}

impl Screen {
    /// Standard output as it is. `NO_COLOR` is honoured (<https://no-color.org>).
    pub(super) fn stdout() -> Self {
        let is_terminal = std::io::stdout().is_terminal();
        let width = terminal_size::terminal_size().map(|(width, _)| usize::from(width.0));
        let quiet = std::env::var_os("NO_COLOR").is_some_and(|set| !set.is_empty())
            || std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        Self { width: width.filter(|_| is_terminal), colours: is_terminal && !quiet }
    }

    /// A text in the colour of what it says: a phase, a state or a status.
    pub(super) fn paint(self, text: &str, word: &str) -> String {
        let colour = match word {
            "SUCCEEDED" | "VALID" | "ENABLED" | "ACTIVE" => AnsiColor::Green,
            "FAILED" | "INVALID" | "DELETING" => AnsiColor::Red,
            "RUNNING" | "STARTING" => AnsiColor::Cyan,
            "SUBMITTED" | "PENDING" | "RUNNABLE" | "DISABLED" | "INACTIVE" => AnsiColor::Yellow,
            _ => return text.to_owned(),
        };
        self.styled(text, Style::new().fg_color(Some(colour.into())))
    }

    /// A heading.
    pub(super) fn heading(self, text: &str) -> String {
        self.styled(text, Style::new().bold())
    }

    fn styled(self, text: &str, style: Style) -> String {
        if self.colours { format!("{style}{text}{style:#}") } else { text.to_owned() }
    }
}

/// Rows under headings. More rows may be added after some were shown: columns keep their widths.
#[derive(Debug)]
pub(super) struct Table {
    screen: Screen,
    headings: Vec<&'static str>,
    widths: Vec<usize>,
    rows: Vec<Vec<String>>,
    shown: bool,
}

impl Table {
    /// A table without rows.
    pub(super) fn new(screen: Screen, headings: &[&'static str]) -> Self {
        let widths = headings.iter().map(|heading| heading.width()).collect();
        Self { screen, headings: headings.to_vec(), widths, rows: Vec::new(), shown: false }
    }

    /// Adds a row; a cell without content shows as `-`.
    pub(super) fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        let cells: Vec<String> = cells
            .into_iter()
            .map(|cell| if cell.is_empty() { "-".to_owned() } else { one_line(&cell) })
            .collect();
        for (width, cell) in self.widths.iter_mut().zip(&cells) {
            *width = (*width).max(cell.width());
        }
        self.rows.push(cells);
    }

    /// Shows rows only.
    pub(super) fn without_headings(&mut self) {
        self.shown = true;
    }

    /// The rows that were added since the last time, the first time below the headings.
    pub(super) fn show(&mut self) -> String {
        let mut text = String::new();
        if !self.shown && !self.rows.is_empty() {
            let headings = self.headings.iter().map(|heading| (*heading).to_owned()).collect();
            text.push_str(&self.line(headings, false));
            self.shown = true;
        }
        for row in std::mem::take(&mut self.rows) {
            text.push_str(&self.line(row, true));
        }
        text
    }

    fn line(&self, cells: Vec<String>, paint: bool) -> String {
        let last = cells.len().saturating_sub(1);
        let mut line = String::new();
        let mut at = 0;
        for (column, cell) in cells.into_iter().enumerate() {
            let room = self.screen.width.map(|width| width.saturating_sub(at).max(NARROWEST));
            let shown = if column == last { cut(&cell, room.unwrap_or(usize::MAX)) } else { cell.clone() };
            let pad = self.widths.get(column).map_or(0, |width| width.saturating_sub(shown.width()));
            line.push_str(&if paint { self.screen.paint(&shown, &cell) } else { shown });
            if column < last {
                line.push_str(&" ".repeat(pad + GAP));
                at += self.widths.get(column).copied().unwrap_or(0) + GAP;
            }
        }
        line.truncate(line.trim_end().len());
        line.push('\n');
        line
    }
}

/// Text that comes from outside may hold anything; a terminal must not act on it.
pub(super) fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// Cuts a text to so many columns, with `…` where something is missing.
pub(super) fn cut(text: &str, width: usize) -> String {
    if text.width() <= width {
        return text.to_owned();
    }
    let mut used = 1;
    let fits = |c: &char| {
        used += c.width().unwrap_or(0);
        used <= width
    };
    let mut short: String = text.chars().take_while(fits).collect();
    short.push('…');
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(width: Option<usize>, colours: bool) -> Table {
        let mut table = Table::new(Screen { width, colours }, &["NAME", "PHASE", "REASON"]);
        table.row(["render".into(), "FAILED".into(), "Essential container in task exited".into()]);
        table.row(["日本".into(), "RUNNING".into(), String::new()]);
        table
    }

    #[test]
    fn columns_line_up_and_the_last_is_cut_to_the_terminal() {
        assert_eq!(
            table(None, false).show(),
            "NAME     PHASE     REASON\n\
             render   FAILED    Essential container in task exited\n\
             日本     RUNNING   -\n"
        );
        let narrow = table(Some(40), false).show();
        assert!(narrow.lines().all(|line| line.width() <= 40), "{narrow}");
        assert!(narrow.contains("Essential container …"), "{narrow}");
    }

    #[test]
    fn rows_can_follow_later_without_headings() {
        let mut table = table(None, false);
        table.show();
        assert!(table.show().is_empty());
        table.row(["x".into(), "SUCCEEDED".into(), "y\u{1b}[2J".into()]);
        assert_eq!(table.show(), "x        SUCCEEDED   y [2J\n");
    }

    #[test]
    fn only_a_terminal_sees_colours() {
        assert!(!table(None, false).show().contains('\u{1b}'));
        assert!(table(Some(80), true).show().contains("\u{1b}[31mFAILED\u{1b}[0m"));
    }
}
