//! No lock: as many pairs of bare requests as there are rounds. What lies between
//! `asked` and `granted` is one round trip.

use super::{Options, Voice, line_up, now};
use crate::raw::Raw;

pub(super) fn run(options: &Options) -> anyhow::Result<()> {
    let raw = Raw::new(&options.endpoint);
    for _ in 0..options.warm_up {
        raw.update(&options.table)?;
    }
    line_up()?;
    let voice = Voice(options.number);
    for _ in 0..options.rounds {
        voice.asked()?;
        raw.update(&options.table)?;
        voice.granted()?;
        let began = now();
        raw.update(&options.table)?;
        voice.released(began)?;
    }
    Ok(())
}
