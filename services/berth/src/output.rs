//! What commands print: tables that line up, sizes and times for people, JSON for machines.

use std::io::{self, Write as _};

use comfy_table::{Table, presets};

/// A table without lines, as `ctr` prints them.
pub(crate) fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING);
    table.set_header(header);
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    table
}

/// Prints lines; a reader that has had enough ends the command.
pub(crate) fn print(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    if !text.ends_with('\n') {
        out.write_all(b"\n")?;
    }
    out.flush()
}

/// Prints a table without the blanks at the ends of lines.
pub(crate) fn print_table(table: &Table) -> io::Result<()> {
    let text: Vec<String> = table.lines().map(|line| line.trim_end().to_owned()).collect();
    print(&text.join("\n"))
}

/// Prints a value on one line.
pub(crate) fn print_json(value: &impl serde::Serialize) -> anyhow::Result<()> {
    Ok(print(&serde_json::to_string(value)?)?)
}

/// Bytes for people: 1.5 MiB.
pub(crate) fn size(bytes: u64) -> String {
    indicatif::HumanBytes(bytes).to_string()
}

/// Labels on one line.
pub(crate) fn labels(labels: &std::collections::BTreeMap<String, String>) -> String {
    if labels.is_empty() {
        return "-".to_owned();
    }
    labels.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(",")
}

/// A time of a record; `-` if it has none.
pub(crate) fn time(time: Option<&berth_wire::types::Time>) -> String {
    time.map_or_else(|| "-".to_owned(), ToString::to_string)
}

/// A descriptor as JSON, with the names of the OCI image-spec.
pub(crate) fn descriptor(descriptor: Option<&berth_wire::types::Descriptor>) -> serde_json::Value {
    let Some(descriptor) = descriptor else { return serde_json::Value::Null };
    serde_json::json!({
        "mediaType": descriptor.media_type,
        "digest": descriptor.digest,
        "size": descriptor.size,
    })
}
