//! The reference of every variable, as Markdown for the README.
//!
//! Invariant: everything in it comes from the table that parsing uses.

use super::variables::{VARIABLES, Variable, option_only};

/// Two tables, without the markers around them, ending with a line end.
pub fn reference() -> String {
    let mut text = String::from(
        "| Variable | Option | Default | Accepted | What it does |\n| --- | --- | --- | --- | --- |\n",
    );
    for row in VARIABLES {
        let cells = [
            code(row.name),
            code(row.option),
            default(row),
            cell(&row.accepted()),
            format!("{}{}", cell(row.doc), if row.secret { " Never printed." } else { "" }),
        ];
        text.push_str(&format!("| {} |\n", cells.join(" | ")));
    }
    text.push_str("\n| Option without a variable | Accepted | What it does |\n| --- | --- | --- |\n");
    for row in option_only() {
        let cells = [code(row.option), code(&cell(row.accepted)), cell(row.doc)];
        text.push_str(&format!("| {} |\n", cells.join(" | ")));
    }
    text
}

fn default(row: &Variable) -> String {
    match row.default {
        None => "unset".into(),
        Some("") => "empty".into(),
        Some(text) => code(text),
    }
}

fn code(text: &str) -> String {
    format!("`{text}`")
}

/// What Markdown would take for markup or for the end of a cell.
fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace("* ", "\\* ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_variable_has_a_line_of_five_cells() {
        let text = reference();
        for row in VARIABLES {
            let start = format!("| `{}` | `{}` | ", row.name, row.option);
            let line = text.lines().find(|line| line.starts_with(&start)).expect("a line for each");
            assert_eq!(line.replace("\\|", "").matches('|').count(), 6, "{line}");
            assert!(line.contains(row.doc), "{line}");
        }
        for row in option_only() {
            assert!(text.contains(&format!("\n| `{}` | ", row.option)));
        }
        assert!(text.ends_with("|\n"));
    }

    #[test]
    fn a_line_reads_like_this() {
        let port =
            "| `REDIS_PORT` | `redisPort` | `6379` | a port between 1 and 65535 | The server's port. |\n";
        assert!(reference().contains(port));
    }
}
