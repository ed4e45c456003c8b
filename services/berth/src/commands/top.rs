//! `berth top`: pulls, queues and workers, live in a terminal, or said once.

mod screen;

use std::{io::IsTerminal as _, time::Duration};

use berth_wire::{
    gateway::{Queue, QueuesRequest},
    transfer::PullSummary,
};
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};
use serde_json::json;
use tokio::sync::mpsc;

use crate::{
    cli::Top,
    client::Client,
    commands::{pulls, refused},
    output,
};

/// Looking more often shows nothing more, and costs the services something.
const MOST_OFTEN: Duration = Duration::from_millis(100);

/// What is shown, all of one moment.
#[derive(Debug, Default)]
struct Picture {
    pulls: Vec<PullSummary>,
    queues: Vec<Queue>,
}

pub(crate) async fn run(client: &Client, top: &Top) -> anyhow::Result<()> {
    if top.once || top.json || !std::io::stdout().is_terminal() {
        loop {
            let picture = look(client).await?;
            if top.json {
                output::print_json(&as_json(&picture))?;
            } else {
                output::print(&as_text(&picture))?;
            }
            if top.once {
                return Ok(());
            }
            tokio::select! {
                () = tokio::time::sleep(top.interval.max(MOST_OFTEN)) => {}
                _ = tokio::signal::ctrl_c() => return Ok(()),
            }
        }
    }
    let mut terminal = ratatui::try_init()?;
    let done = live(client, top, &mut terminal).await;
    ratatui::restore();
    done
}

/// Draws again and again, until a key ends it.
async fn live(client: &Client, top: &Top, terminal: &mut ratatui::DefaultTerminal) -> anyhow::Result<()> {
    let mut keys = keys();
    loop {
        let picture = look(client).await?;
        loop {
            terminal.draw(|frame| screen::draw(frame, &picture))?;
            tokio::select! {
                () = tokio::time::sleep(top.interval.max(MOST_OFTEN)) => break,
                key = keys.recv() => match key {
                    // The window has another size: the same again.
                    Some(Key::Resized) => {}
                    Some(Key::End) | None => return Ok(()),
                },
            }
        }
    }
}

enum Key {
    Resized,
    End,
}

/// Keys, read on a thread of their own: the terminal knows no other way. It ends with the process.
fn keys() -> mpsc::Receiver<Key> {
    let (sender, receiver) = mpsc::channel(8);
    std::thread::spawn(move || {
        while let Ok(event) = event::read() {
            let key = match event {
                Event::Key(key) if key.kind == KeyEventKind::Press => {
                    let is_control = key.modifiers.contains(KeyModifiers::CONTROL);
                    match key.code {
                        KeyCode::Char('q') | KeyCode::Esc => Key::End,
                        KeyCode::Char('c') if is_control => Key::End,
                        _ => continue,
                    }
                }
                Event::Resize(..) => Key::Resized,
                _ => continue,
            };
            if sender.blocking_send(key).is_err() {
                return;
            }
        }
    });
    receiver
}

async fn look(client: &Client) -> anyhow::Result<Picture> {
    let mut jobs = client.jobs();
    let (pulls, queues) = tokio::join!(pulls::list(client, String::new(), false), jobs.queues(QueuesRequest {}));
    let mut pulls = pulls?;
    pulls.sort_by_key(|pull| std::cmp::Reverse(pull.age_ms));
    Ok(Picture { pulls, queues: queues.map_err(refused)?.into_inner().queues })
}

fn as_json(picture: &Picture) -> serde_json::Value {
    let queues: Vec<_> = picture
        .queues
        .iter()
        .map(|queue| {
            let workers: Vec<_> = queue
                .workers
                .iter()
                .map(|worker| {
                    json!({
                        "name": worker.name, "busy": worker.busy, "places": worker.places,
                    })
                })
                .collect();
            json!({ "kind": queue.kind, "waiting": queue.waiting, "running": queue.running, "workers": workers })
        })
        .collect();
    let pulls: Vec<_> = picture.pulls.iter().map(pulls::shown).collect();
    json!({ "pulls": pulls, "queues": queues })
}

fn as_text(picture: &Picture) -> String {
    let mut queues = output::table(&["QUEUE", "WAITING", "RUNNING", "WORKERS"]);
    let mut workers = output::table(&["WORKER", "QUEUE", "BUSY"]);
    for queue in &picture.queues {
        queues.add_row([
            queue.kind.clone(),
            queue.waiting.to_string(),
            queue.running.to_string(),
            queue.workers.len().to_string(),
        ]);
        for worker in &queue.workers {
            let busy = format!("{}/{}", worker.busy, worker.places);
            workers.add_row([worker.name.clone(), queue.kind.clone(), busy]);
        }
    }
    [pulls::table(&picture.pulls), queues, workers].map(|table| table.to_string()).join("\n\n")
}
