//! The plots: SVG on white, in colours that the colour-blind can tell apart, each peer
//! with a shape of its own besides.

use std::path::Path;

use anyhow::{Context, anyhow};
use plotters::coord::Shift;
use plotters::prelude::*;

use crate::peers::OURS;
use crate::results::{ContestRow, Row, Workload};

/// Where they are, beside the report.
pub(crate) const FOLDER: &str = "benchmarks";
pub(crate) const COST: &str = "cost.svg";
pub(crate) const HAND_OVER: &str = "hand-over.svg";
pub(crate) const FAIRNESS: &str = "fairness.svg";

const SIZE: (u32, u32) = (820, 460);
const FONT: &str = "sans-serif";

/// Okabe and Ito's colours.
const COLOURS: [RGBColor; 7] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(86, 180, 233),
    RGBColor(230, 159, 0),
    RGBColor(0, 0, 0),
];

/// A peer's points.
struct Curve<'a> {
    peer: &'a str,
    points: Vec<(f64, f64)>,
}

type Canvas<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// Draws those for which there are results.
pub(crate) fn draw(folder: &Path, rows: &[Row]) -> anyhow::Result<()> {
    let of = |workload| -> Vec<&ContestRow> {
        rows.iter()
            .filter_map(|row| match row {
                Row::Contest(row) if row.workload == workload => Some(row),
                _ => None,
            })
            .collect()
    };
    let crowds = curves(&of(Workload::Crowds), |row| {
        Some((row.contenders as f64, row.requests()?))
    });
    let distances = of(Workload::Distances);
    let hand_overs = curves(&distances, |row| {
        Some((row.round_trip_ms, row.figures.hand_over_ms?))
    });
    plot(&folder.join(COST), crowds.is_empty(), |canvas| {
        cost(canvas, &crowds)
    })?;
    plot(&folder.join(HAND_OVER), hand_overs.is_empty(), |canvas| {
        hand_over(canvas, &hand_overs)
    })?;
    let eager = of(Workload::Eager);
    plot(&folder.join(FAIRNESS), eager.is_empty(), |canvas| {
        fairness(canvas, &eager)
    })
}

fn curves<'a>(
    rows: &[&'a ContestRow],
    point: impl Fn(&ContestRow) -> Option<(f64, f64)>,
) -> Vec<Curve<'a>> {
    let mut curves: Vec<Curve> = Vec::new();
    for row in rows {
        let Some(point) = point(row) else { continue };
        match curves.iter_mut().find(|curve| curve.peer == row.peer) {
            Some(curve) => curve.points.push(point),
            None => curves.push(Curve {
                peer: &row.peer,
                points: vec![point],
            }),
        }
    }
    curves
}

fn plot(
    file: &Path,
    empty: bool,
    draw: impl FnOnce(&Canvas) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    if empty {
        return Ok(());
    }
    let canvas = SVGBackend::new(file, SIZE).into_drawing_area();
    canvas.fill(&WHITE).map_err(|error| anyhow!("{error}"))?;
    draw(&canvas)?;
    canvas
        .present()
        .map_err(|error| anyhow!("{error}"))
        .with_context(|| format!("cannot draw {}", file.display()))
}

fn cost(canvas: &Canvas, curves: &[Curve]) -> anyhow::Result<()> {
    let (_, right) = bounds(curves, |point| point.0);
    let (low, high) = bounds(curves, |point| point.1);
    let mut chart = builder(canvas, "Requests for each acquisition against contenders")
        .build_cartesian_2d(
            (1.0..right.max(2.0) * 1.1).log_scale().base(2.0),
            (low.min(2.0) * 0.8..high * 1.3).log_scale(),
        )?;
    chart
        .configure_mesh()
        .x_desc("contenders")
        .y_desc("requests")
        .x_label_formatter(&|x| format!("{x:.0}"))
        .y_label_formatter(&|y| format!("{y:.0}"))
        .label_style((FONT, 14))
        .axis_desc_style((FONT, 15))
        .light_line_style(WHITE.mix(0.0))
        .draw()?;
    for curve in curves {
        curve_in(&mut chart, curve)?;
    }
    legend(&mut chart, SeriesLabelPosition::UpperLeft)
}

fn hand_over(canvas: &Canvas, curves: &[Curve]) -> anyhow::Result<()> {
    let (_, right) = bounds(curves, |point| point.0);
    let (_, high) = bounds(curves, |point| point.1);
    let mut chart = builder(canvas, "Hand-over against the round trip")
        .build_cartesian_2d(0.0..right * 1.05, 0.0..high * 1.1)?;
    chart
        .configure_mesh()
        .x_desc("round trip of a bare UpdateItem, ms")
        .y_desc("median hand-over, ms")
        .label_style((FONT, 14))
        .axis_desc_style((FONT, 15))
        .light_line_style(WHITE.mix(0.0))
        .draw()?;
    let end = right * 1.05;
    let line = DashedLineSeries::new([(0.0, 0.0), (end, end)], 6, 4, BLACK.stroke_width(1));
    chart
        .draw_series(line)?
        .label("one round trip")
        .legend(|(x, y)| PathElement::new([(x, y), (x + 24, y)], BLACK.stroke_width(1)));
    for curve in curves {
        curve_in(&mut chart, curve)?;
    }
    legend(&mut chart, SeriesLabelPosition::UpperLeft)
}

/// Horizontal bars, one for each row.
fn fairness(canvas: &Canvas, rows: &[&ContestRow]) -> anyhow::Result<()> {
    let longest = rows
        .iter()
        .map(|row| row.figures.inversions)
        .fold(0.1, f64::max);
    let mut chart = ChartBuilder::on(canvas)
        .caption(
            "Inversions for each acquisition: earlier askers still waiting",
            (FONT, 19),
        )
        .margin(14)
        .margin_right(60)
        .x_label_area_size(44)
        .y_label_area_size(330)
        .build_cartesian_2d(0.0..longest * 1.08, (0..rows.len()).into_segmented())?;
    let name = |at: &SegmentValue<usize>| match at {
        // The axis also asks for what comes after the last bar.
        SegmentValue::CenterOf(index) => rows
            .iter()
            .rev()
            .nth(*index)
            .map_or(String::new(), |row| row.label()),
        _ => String::new(),
    };
    chart
        .configure_mesh()
        .disable_y_mesh()
        .y_labels(rows.len())
        .y_label_formatter(&name)
        .x_desc("inversions for each acquisition")
        .label_style((FONT, 14))
        .axis_desc_style((FONT, 15))
        .light_line_style(WHITE.mix(0.0))
        .draw()?;
    for (index, row) in rows.iter().rev().enumerate() {
        let value = row.figures.inversions;
        let colour = if row.peer == OURS {
            COLOURS[0]
        } else {
            COLOURS[1]
        };
        let mut bar = Rectangle::new(
            [
                (0.0, SegmentValue::Exact(index)),
                (value, SegmentValue::Exact(index + 1)),
            ],
            colour.filled(),
        );
        bar.set_margin(8, 8, 0, 0);
        chart.draw_series([bar])?;
        let text = Text::new(
            format!(" {value:.2}"),
            (value, SegmentValue::CenterOf(index)),
            (FONT, 14).into_font(),
        );
        chart.draw_series([text])?;
    }
    Ok(())
}

fn builder<'a, 'b>(canvas: &'a Canvas<'b>, title: &str) -> ChartBuilder<'a, 'b, SVGBackend<'b>> {
    let mut builder = ChartBuilder::on(canvas);
    builder
        .caption(title, (FONT, 19))
        .margin(14)
        .x_label_area_size(44)
        .y_label_area_size(64);
    builder
}

type Chart<'a, 'b, X, Y> = ChartContext<'a, SVGBackend<'b>, Cartesian2d<X, Y>>;

fn curve_in<'a, 'b: 'a, X, Y>(chart: &mut Chart<'a, 'b, X, Y>, curve: &Curve) -> anyhow::Result<()>
where
    X: Ranged<ValueType = f64>,
    Y: Ranged<ValueType = f64>,
{
    let number = crate::peers::PEERS
        .iter()
        .position(|peer| peer.name == curve.peer)
        .unwrap_or(0);
    let colour = COLOURS[number % COLOURS.len()];
    let width = if curve.peer == OURS { 3 } else { 2 };
    chart.draw_series(LineSeries::new(
        curve.points.iter().copied(),
        colour.stroke_width(width),
    ))?;
    let points = curve.points.iter().copied();
    let (line, style) = (colour.stroke_width(width), colour.filled());
    let stem = move |x, y| PathElement::new([(x, y), (x + 24, y)], line);
    let series = match number % 4 {
        0 => chart
            .draw_series(points.map(|at| Circle::new(at, 5, style)))?
            .label(curve.peer)
            .legend(move |(x, y)| {
                EmptyElement::at((0, 0)) + stem(x, y) + Circle::new((x + 12, y), 5, style)
            }),
        1 => chart
            .draw_series(points.map(|at| TriangleMarker::new(at, 7, style)))?
            .label(curve.peer)
            .legend(move |(x, y)| {
                EmptyElement::at((0, 0)) + stem(x, y) + TriangleMarker::new((x + 12, y), 7, style)
            }),
        2 => chart
            .draw_series(points.map(|at| Cross::new(at, 5, line)))?
            .label(curve.peer)
            .legend(move |(x, y)| {
                EmptyElement::at((0, 0)) + stem(x, y) + Cross::new((x + 12, y), 5, line)
            }),
        _ => chart
            .draw_series(
                points.map(|at| EmptyElement::at(at) + Rectangle::new([(-5, -5), (5, 5)], style)),
            )?
            .label(curve.peer)
            .legend(move |(x, y)| {
                EmptyElement::at((0, 0))
                    + stem(x, y)
                    + Rectangle::new([(x + 7, y - 5), (x + 17, y + 5)], style)
            }),
    };
    let _ = series;
    Ok(())
}

fn legend<'a, 'b: 'a, X, Y>(
    chart: &mut Chart<'a, 'b, X, Y>,
    position: SeriesLabelPosition,
) -> anyhow::Result<()>
where
    X: Ranged<ValueType = f64>,
    Y: Ranged<ValueType = f64>,
{
    chart
        .configure_series_labels()
        .position(position)
        .background_style(WHITE.mix(0.9))
        .border_style(BLACK.mix(0.4))
        .label_font((FONT, 14))
        .legend_area_size(32)
        .draw()?;
    Ok(())
}

/// The smallest and the largest of a coordinate.
fn bounds(curves: &[Curve], coordinate: impl Fn(&(f64, f64)) -> f64) -> (f64, f64) {
    curves
        .iter()
        .flat_map(|curve| &curve.points)
        .map(coordinate)
        .fold((f64::INFINITY, 0.0), |(low, high), value| {
            (low.min(value), high.max(value))
        })
}
