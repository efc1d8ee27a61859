//! Text in columns, which Markdown reads as a table as well. Pure.

/// Which way a column's text leans.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lean {
    /// Names.
    Left,
    /// Numbers.
    Right,
}

/// A table: for a terminal, for Markdown, and for a page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    /// Names of the columns.
    pub head: Vec<(&'static str, Lean)>,
    /// Cells, of which a row may have fewer than there are columns.
    pub rows: Vec<Vec<String>>,
}

impl Table {
    /// As text, each line with a line break.
    pub fn text(&self) -> String {
        render(&self.head, &self.rows)
    }
}

/// A table of `rows` below `head`, each line with a line break. A row that is shorter than the head ends in empty cells.
fn render(head: &[(&str, Lean)], rows: &[Vec<String>]) -> String {
    let cell = |row: &[String], column: usize| row.get(column).cloned().unwrap_or_default();
    let widths: Vec<usize> = (0..head.len())
        .map(|column| {
            let cells = rows.iter().map(|row| cell(row, column).chars().count());
            // Markdown wants three characters for a rule that leans.
            cells.chain([head[column].0.chars().count(), 3]).max().unwrap_or_default()
        })
        .collect();
    let line = |text: &dyn Fn(usize) -> String| {
        let cells: Vec<String> = head
            .iter()
            .enumerate()
            .map(|(column, (_, lean))| pad(&text(column), widths[column], *lean))
            .collect();
        format!("| {} |\n", cells.join(" | "))
    };
    let mut table = line(&|column| head[column].0.to_owned());
    table += &line(&|column| match head[column].1 {
        Lean::Left => "-".repeat(widths[column]),
        Lean::Right => "-".repeat(widths[column] - 1) + ":",
    });
    for row in rows {
        table += &line(&|column| cell(row, column));
    }
    table
}

fn pad(text: &str, width: usize, lean: Lean) -> String {
    match lean {
        Lean::Left => format!("{text:<width$}"),
        Lean::Right => format!("{text:>width$}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_whatever_is_in_them() {
        let head = [("way", Lean::Left), ("n", Lean::Right)];
        let rows = [vec!["edge → us".to_owned(), "1".to_owned()], vec!["x".to_owned()]];
        let expected = "\
| way       |   n |
| --------- | --: |
| edge → us |   1 |
| x         |     |
";
        assert_eq!(render(&head, &rows), expected);
    }
}
