//! Looking again and again.

use std::time::Duration;

use anyhow::Result;
use dynamodb_fifo_lock::{Error, StoreError};

use crate::exit;
use crate::interrupt::Interrupt;
use crate::screen::Screen;
use crate::text::{explain, print, printable, say};

#[derive(clap::Args, Debug)]
pub(crate) struct Watch {
    /// Print JSON, one document a line; times in RFC 3339 and in milliseconds
    #[arg(long)]
    pub(crate) json: bool,

    /// Look again every 2 s, or as often as `--watch=500ms` says, until Ctrl-C
    #[arg(
        long,
        value_name = "INTERVAL",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "2s",
        value_parser = interval,
    )]
    watch: Option<Duration>,
}

/// What one look showed.
pub(crate) struct Frame {
    pub(crate) lines: Vec<String>,
    /// What could not be shown, and why.
    pub(crate) complaints: Vec<String>,
    /// The code to end with if this is the only look.
    pub(crate) code: u8,
}

fn interval(text: &str) -> Result<Duration, String> {
    match humantime::parse_duration(text) {
        Ok(span) if span >= Duration::from_millis(100) => Ok(span),
        Ok(_) => Err("give 100ms or more".into()),
        Err(error) => Err(format!("{error}; give something like 2s or 500ms")),
    }
}

impl Watch {
    /// Looks once, or until Ctrl-C.
    pub(crate) fn run(&self, mut look: impl FnMut() -> Result<Frame>) -> Result<u8> {
        let mut screen = Screen::new();
        let Some(interval) = self.watch else {
            let frame = look()?;
            print(&frame.lines)?;
            frame.complaints.iter().for_each(|words| say(words));
            return Ok(frame.code);
        };
        let interrupt = Interrupt::watch()?;
        let in_place = screen.is_terminal() && !self.json;
        let mut first = true;
        loop {
            let mut frame = match look() {
                Ok(frame) => frame,
                // Whoever watches wants to see the end of an outage, too.
                Err(error) if is_transient(&error) => Frame {
                    lines: Vec::new(),
                    complaints: vec![explain(&error)],
                    code: exit::OK,
                },
                Err(error) => return Err(error),
            };
            if in_place {
                // Beside the frame they would tear it.
                let complaints = frame.complaints.drain(..);
                frame
                    .lines
                    .extend(complaints.map(|words| printable(&words)));
                screen.draw(&frame.lines)?;
            } else {
                if !first && !self.json {
                    frame.lines.insert(0, String::new());
                }
                print(&frame.lines)?;
            }
            first = false;
            frame.complaints.iter().for_each(|words| say(words));
            if interrupt.wait(interval) {
                return Ok(exit::INTERRUPTED);
            }
        }
    }
}

fn is_transient(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        let by_lock = match cause.downcast_ref() {
            Some(Error::Store { source, .. } | Error::List { source }) => Some(source),
            _ => None,
        };
        by_lock
            .or_else(|| cause.downcast_ref::<StoreError>())
            .is_some_and(StoreError::is_transient)
    })
}
