//! Drawing the same thing again and again, in its place.

use std::io;

use console::{Term, truncate_str};

/// Standard output. On a terminal each frame takes the place of the one before, and
/// the last one stays when the program ends; nothing has to be put back in order.
pub(crate) struct Screen {
    term: Term,
    is_terminal: bool,
    drawn: usize,
}

impl Screen {
    pub(crate) fn new() -> Self {
        let term = Term::buffered_stdout();
        Self {
            is_terminal: term.is_term(),
            term,
            drawn: 0,
        }
    }

    pub(crate) fn is_terminal(&self) -> bool {
        self.is_terminal
    }

    /// Shows a frame on the terminal. Lines may be styled.
    pub(crate) fn draw(&mut self, lines: &[String]) -> io::Result<()> {
        // What does not fit would scroll away, and could not be replaced.
        let (height, width) = self.term.size_checked().unwrap_or((24, 80));
        let (height, width) = (usize::from(height), usize::from(width));
        self.term.move_cursor_up(self.drawn.min(height))?;
        self.term.clear_to_end_of_screen()?;
        let shown = lines.len().min(height.saturating_sub(1));
        for line in &lines[..shown] {
            self.term.write_line(&truncate_str(line, width, "…"))?;
        }
        self.drawn = shown;
        self.term.flush()
    }
}
