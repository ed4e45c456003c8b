//! What `berth top` looks like.

use std::time::Duration;

use ratatui::{
    Frame,
    layout::{Constraint, Layout, Rect},
    style::{Color, Modifier, Style, Stylize as _},
    text::Line,
    widgets::{Block, Gauge, Paragraph, Row, Table},
};

use super::Picture;
use crate::commands::pulls;

/// Lines around a table: its border and its header.
const AROUND: u16 = 3;

pub(super) fn draw(frame: &mut Frame<'_>, picture: &Picture) {
    let workers = picture.queues.iter().map(|queue| queue.workers.len()).sum::<usize>();
    let below = u16::try_from(picture.queues.len().max(workers)).unwrap_or(u16::MAX).saturating_add(AROUND).min(12);
    let [title, above, middle] =
        Layout::vertical([Constraint::Length(1), Constraint::Fill(1), Constraint::Length(below)]).areas(frame.area());
    let [left, right] = Layout::horizontal([Constraint::Percentage(45), Constraint::Fill(1)]).areas(middle);
    let said = format!(" berth top   {} pulls, {workers} workers   q: end", picture.pulls.len());
    frame.render_widget(Paragraph::new(Line::from(said).bold()), title);
    pulls_in(frame, above, picture);
    queues_in(frame, left, picture);
    workers_in(frame, right, picture);
}

fn header<const N: usize>(names: [&'static str; N]) -> Row<'static> {
    Row::new(names).style(Style::new().add_modifier(Modifier::BOLD))
}

fn pulls_in(frame: &mut Frame<'_>, area: Rect, picture: &Picture) {
    let block = Block::bordered().title(" pulls ");
    let inner = block.inner(area);
    frame.render_widget(block, area);
    let columns = [
        Constraint::Length(13),
        Constraint::Fill(1),
        Constraint::Length(12),
        Constraint::Length(14),
        Constraint::Length(20),
        Constraint::Length(9),
        Constraint::Length(8),
    ];
    let rows = picture.pulls.iter().map(|pull| {
        let record = pulls::record(pull);
        let age = humantime::format_duration(Duration::from_secs(pull.age_ms / 1000)).to_string();
        let state = pulls::state(pull);
        let style = if state == "interrupted" { Style::new().fg(Color::Yellow) } else { Style::new() };
        let cells = [
            record.id.clone(),
            record.reference.clone(),
            state.to_owned(),
            String::new(),
            pulls::bytes(&record),
            age,
            pulls::priority_word(&record).to_owned(),
        ];
        Row::new(cells).style(style)
    });
    let table = Table::new(rows, columns)
        .header(header(["ID", "REFERENCE", "STATE", "DONE", "BYTES", "AGE", "PRIORITY"]))
        .column_spacing(1);
    frame.render_widget(table, inner);
    // The bars, over their column.
    let places = Layout::horizontal(columns).spacing(1).split(inner);
    let Some(column) = places.get(3) else { return };
    for (line, pull) in (inner.y + 1..inner.bottom()).zip(&picture.pulls) {
        let share = pulls::share(&pulls::record(pull)).unwrap_or(0).min(100);
        let gauge = Gauge::default()
            .gauge_style(Style::new().fg(Color::Green).bg(Color::DarkGray))
            .percent(u16::try_from(share).unwrap_or(100));
        frame.render_widget(gauge, Rect { y: line, height: 1, ..*column });
    }
}

fn queues_in(frame: &mut Frame<'_>, area: Rect, picture: &Picture) {
    let rows = picture.queues.iter().map(|queue| {
        // Jobs, and nobody who takes them: that is what a person has to know.
        let is_stuck = queue.workers.is_empty() && queue.waiting > 0;
        let style = if is_stuck { Style::new().fg(Color::Red) } else { Style::new() };
        Row::new([queue.kind.clone(), queue.waiting.to_string(), queue.running.to_string()]).style(style)
    });
    let columns = [Constraint::Fill(1), Constraint::Length(9), Constraint::Length(9)];
    let table = Table::new(rows, columns)
        .header(header(["QUEUE", "WAITING", "RUNNING"]))
        .block(Block::bordered().title(" queues "));
    frame.render_widget(table, area);
}

fn workers_in(frame: &mut Frame<'_>, area: Rect, picture: &Picture) {
    let rows = picture.queues.iter().flat_map(|queue| {
        queue.workers.iter().map(|worker| {
            Row::new([worker.name.clone(), queue.kind.clone(), format!("{}/{}", worker.busy, worker.places)])
        })
    });
    let columns = [Constraint::Fill(1), Constraint::Length(8), Constraint::Length(9)];
    let table = Table::new(rows, columns)
        .header(header(["WORKER", "QUEUE", "BUSY"]))
        .block(Block::bordered().title(" workers "));
    frame.render_widget(table, area);
}

#[cfg(test)]
mod tests {
    use berth_wire::{
        gateway::{Queue, Worker},
        metadata::{PullProgress, PullRecord},
        transfer::{PullSummary, pull_state::Phase},
    };
    use ratatui::{Terminal, backend::TestBackend};

    use super::*;

    #[test]
    fn what_there_is_can_be_seen_in_windows_of_all_sizes() {
        let progress = PullProgress { total: 100, offset: 50, ..PullProgress::default() };
        let record = PullRecord {
            id: "0a1b2c3d4e5f".into(),
            reference: "docker.io/library/alpine:3.20".into(),
            no_unpack: true,
            progress: Some(progress),
            ..PullRecord::default()
        };
        let pull = PullSummary {
            record: Some(record),
            phase: Phase::Pulling.into(),
            age_ms: 61_000,
            ..PullSummary::default()
        };
        let worker = Worker { name: "node-7/1".into(), busy: 3, places: 8 };
        let queue = Queue { kind: "fetch".into(), waiting: 17, running: 3, workers: vec![worker] };
        let picture = Picture { pulls: vec![pull; 40], queues: vec![queue] };
        for (width, height) in [(120, 30), (80, 24), (20, 5), (1, 1)] {
            let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
            terminal.draw(|frame| draw(frame, &picture)).unwrap();
            if width < 120 {
                continue;
            }
            let shown = terminal.backend().to_string();
            for part in
                ["40 pulls, 1 workers", "0a1b2c3d4e5f", "library/alpine:3.20", "50%", "1m 1s", "17", "node-7/1", "3/8"]
            {
                assert!(shown.contains(part), "no {part} in\n{shown}");
            }
        }
    }
}
